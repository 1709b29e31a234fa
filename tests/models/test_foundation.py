"""wav2vec 2.0, HuBERT and WavLM without torch: sizes, golden outputs, options, odd input."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foundation_outputs import outputs_and_gradients
from model_gradients import distance
from short_and_long import short_and_long

from jaxser import models
from jaxser.models.layers.waveform import normalise_input
from jaxser.models.transformer.activations import gelu
from jaxser.models.transformer.feature_encoder import normalised_waveform_convolution
from jaxser.models.transformer.positional_convolution import grouped_convolution
from jaxser.models.transformer.spec_augment import span_mask
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.speech_transformer import stack_layers, unstack_layers
from scripts.golden_foundation import (
    CASES,
    INPUT_STRIDE,
    TABLES,
    seeded_batch,
    seeded_variables,
    small_gradients,
    small_model,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models_foundation.npz"
# Every family, norm, order of the norms, way to the head and kind of position between them.
SHORT_CASES = (
    "wav2vec2-group-post",
    "wav2vec2-layer-stable-sum",
    "hubert-batch_norm",
    "hubert-layer-post-sum",
    "wavlm-group-stable-sum",
    "wavlm-layer-post",
)
# Of so many samples, with and without their rows' lengths.
BATCHES = ((701, False), (700, True))
ONE_PER_FAMILY = ("wav2vec2-group-post", "hubert-layer-stable-sum", "wavlm-group-stable")
NO_DROPOUT = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
}


def seeded(case, **settings):
    model = small_model(case, **settings)
    return model, jax.tree.map(jnp.asarray, seeded_variables(model))


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "millions", "past_feature_encoder"),
    [
        ("wav2vec2-base", 94.57, 90.37),
        pytest.param("hubert-base", 94.57, 90.37, marks=pytest.mark.long),
        ("wavlm-base", 94.58, 90.38),
        pytest.param("wavlm-base-plus", 94.58, 90.38, marks=pytest.mark.long),
        pytest.param("wav2vec2-large", 315.69, 311.49, marks=pytest.mark.long),
        pytest.param("wav2vec2-large-robust", 315.70, 311.49, marks=pytest.mark.long),
        ("hubert-large", 315.70, 311.49),
        pytest.param("wavlm-large", 315.72, 311.51, marks=pytest.mark.long),
        pytest.param("hubert-xlarge", 962.83, 958.62, marks=pytest.mark.long),
    ],
)
def test_sizes(name, millions, past_feature_encoder):
    model = models.build(name, 7)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 400)))["params"]
    assert round(count(shapes) / 1e6, 2) == millions
    frozen = count(shapes["feature_encoder"])
    assert round((count(shapes) - frozen) / 1e6, 2) == past_feature_encoder


@pytest.mark.parametrize(
    ("case", "samples", "padded"),
    short_and_long(
        [(case, *batch) for case in CASES for batch in BATCHES],
        [
            *((case, 700, True) for case in SHORT_CASES),
            (SHORT_CASES[0], 701, False),
        ],
    ),
)
def test_golden_outputs(case, samples, padded):
    model, variables = seeded(case)
    table = TABLES[model.config.model_type](model.config)
    table = [entry for entry in table if entry.target[0] == "params"]
    with np.load(GOLDEN) as file:
        golden = {
            key.removeprefix(f"{case}/"): file[key] for key in file if key.startswith(f"{case}/")
        }

    x, lengths = seeded_batch(samples)
    results = outputs_and_gradients(model, variables, x, lengths if padded else None)
    logits, states, by_input, by_variables = results
    last = states[-1]
    expected = {
        key.removeprefix(f"{samples}/"): array
        for key, array in golden.items()
        if key.startswith(f"{samples}/")
    }
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(last[:, ::9], expected["last"], atol=1e-4)
    assert distance(by_input[:, ::INPUT_STRIDE], expected["input"]) < 1e-3
    small = small_gradients(to_torch(by_variables, table))
    assert distance(small, expected["small"]) < 1e-3


@pytest.mark.parametrize(
    ("case", "remat"),
    [
        pytest.param("hubert-layer-stable-sum", False, marks=pytest.mark.long),
        ("wavlm-group-stable", True),
    ],
)
def test_scanned_layers_give_the_same(case, remat):
    model, variables = seeded(case)
    scanned = small_model(case, scan_layers=True, remat=remat)
    stacked = stack_layers(variables)
    x, _ = seeded_batch()
    shapes = jax.eval_shape(scanned.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes)

    def gradient(model, variables):
        return jax.jit(jax.grad(lambda x: (model.apply(variables, x) ** 2).sum()))(x)

    assert distance(gradient(scanned, stacked), gradient(model, variables)) < 1e-5
    for a, b in zip(
        scanned.apply(stacked, x, method="hidden_states"),
        model.apply(variables, x, method="hidden_states"),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    back = unstack_layers(stacked)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    rngs = {"dropout": jax.random.key(1)}
    assert np.isfinite(scanned.apply(stacked, x, train=True, rngs=rngs)).all()


def test_remat_gives_the_same():
    model, variables = seeded("wav2vec2-group-post")
    x, _ = seeded_batch()
    ours, plain = (
        jax.jit(jax.grad(lambda x, m=m: (m.apply(variables, x) ** 2).sum()))(x)
        for m in (small_model("wav2vec2-group-post", remat=True), model)
    )
    assert distance(ours, plain) < 1e-5


@pytest.mark.parametrize("case", short_and_long(ONE_PER_FAMILY, ["wavlm-group-stable"]))
def test_bfloat16_predicts_the_same_and_answers_in_float32(case):
    model, variables = seeded(case)
    half = small_model(case, dtype="bfloat16")
    x = jax.random.normal(jax.random.key(0), (300, 300)) * jnp.linspace(0.1, 3, 300)[:, None]
    exact = np.asarray(jax.jit(model.apply)(variables, x))
    logits = jax.jit(half.apply)(variables, x)
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact).max() > 1e-6
    ranked = np.sort(exact, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 0.05
    assert clear.sum() > 100
    agree = np.asarray(logits).argmax(axis=1)[clear] == exact.argmax(axis=1)[clear]
    assert agree.mean() >= 0.99
    gradient = jax.jit(jax.grad(lambda x: half.apply(variables, x).sum()))(x[:4])
    assert gradient.dtype == jnp.float32
    assert np.isfinite(gradient).all()


def test_lengths_make_padding_invisible_where_the_norms_do_not_see_it():
    model, variables = seeded("wav2vec2-layer-stable", do_normalize=True)
    x, lengths = seeded_batch(700)
    apply = jax.jit(model.apply)
    together = apply(variables, x, lengths=jnp.asarray(lengths))
    for row, length in enumerate(lengths):
        alone = apply(variables, x[row : row + 1, :length])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-4)


@pytest.mark.parametrize("case", ["wav2vec2-layer-stable", "wavlm-group-post"])
def test_silence_and_constants_give_finite_logits_and_gradients(case):
    model, variables = seeded(case, do_normalize=True)
    x = jnp.zeros((2, 500)).at[1].set(0.3)
    run = jax.jit(jax.value_and_grad(lambda v, x: (model.apply(v, x) ** 2).sum(), argnums=(0, 1)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run(variables, x)))


def test_rows_do_not_see_each_other():
    model, variables = seeded("wavlm-group-post", do_normalize=True)
    x, _ = seeded_batch()
    apply = jax.jit(model.apply)
    together = apply(variables, x)
    np.testing.assert_allclose(together[::-1], apply(variables, x[::-1]), atol=1e-6)
    np.testing.assert_allclose(together[1:2], apply(variables, x[1:2]), atol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x)[0, 2]))(jnp.asarray(x))
    np.testing.assert_array_equal(gradient[1:], 0.0)


@pytest.mark.parametrize("case", ONE_PER_FAMILY)
def test_training_draws_from_one_collection(case):
    model, variables = seeded(case, mask_time_prob=0.3, mask_feature_prob=0.2, layerdrop=0.5)
    x, lengths = seeded_batch()

    def run(seed, train=True):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, train=train, lengths=jnp.asarray(lengths), rngs=rngs)

    assert np.isfinite(run(0)).all()
    assert (run(0) == run(0)).all()
    assert (run(0) != run(1)).any()
    assert (run(0, train=False) == run(1, train=False)).all()


@pytest.mark.parametrize("case", ["wav2vec2-group-post", "wavlm-group-post"])
def test_layer_drop_skips_layers(case):
    model, variables = seeded(case, **{**NO_DROPOUT, "layerdrop": 1.0})
    x, _ = seeded_batch()
    rngs = {"dropout": jax.random.key(0)}
    first, second, last = model.apply(variables, x, train=True, rngs=rngs, method="hidden_states")
    # WavLM's first layer makes the position bias and is never dropped.
    assert (first == second).all() == (case != "wavlm-group-post")
    np.testing.assert_array_equal(second, last)


def test_spec_augment_puts_the_embedding_in_masked_frames():
    model, variables = seeded(
        "hubert-group-post", **NO_DROPOUT, mask_time_prob=1.0, mask_time_length=1
    )
    x, _ = seeded_batch()
    rngs = {"dropout": jax.random.key(0)}
    masked = model.apply(variables, x, train=True, rngs=rngs)
    np.testing.assert_allclose(masked, masked[:1].repeat(3, axis=0), atol=1e-5)
    assert np.abs(masked - model.apply(variables, x)).max() > 1e-3
    still, variables = seeded(
        "hubert-group-post", **NO_DROPOUT, mask_time_prob=1.0, apply_spec_augment=False
    )
    np.testing.assert_array_equal(
        still.apply(variables, x, train=True, rngs=rngs), still.apply(variables, x)
    )


def test_masked_spans_have_their_length_and_stay_inside():
    lengths = jnp.array([50, 20, 3])
    for seed in range(20):
        masked = np.asarray(span_mask(jax.random.key(seed), lengths, 50, 0.3, 5, 1))
        for row, length in zip(masked, lengths, strict=True):
            assert not row[length:].any()
            edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
            assert (edges[1::2] - edges[::2] >= 5).all()
        assert masked[:2].any(axis=1).all()
        assert not masked[2].any()
    assert not span_mask(jax.random.key(0), lengths, 4, 0.5, 5, 2).any()


def test_the_last_state_may_be_normalised_as_in_transformers_4():
    model, variables = seeded("wav2vec2-layer-stable-sum")
    older = small_model("wav2vec2-layer-stable-sum", normalise_last_state=True)
    x, _ = seeded_batch()
    now, then = (m.apply(variables, x, method="hidden_states") for m in (model, older))
    np.testing.assert_array_equal(now[1], then[1])
    norm = variables["params"]["encoder"]["norm"]
    centred = now[-1] - now[-1].mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    expected = expected * norm["scale"][None, None] + norm["bias"][None, None]
    np.testing.assert_allclose(then[-1], expected, atol=1e-4)
    assert np.abs(model.apply(variables, x) - older.apply(variables, x)).max() > 1e-3


def test_gelu_and_its_slope():
    x = jnp.linspace(-6, 6, 101)
    exact = lambda x: jax.nn.gelu(x, approximate=False)  # noqa: E731
    np.testing.assert_allclose(gelu(x), exact(x), atol=1e-6)
    ours, theirs = (jax.vmap(jax.grad(f))(x) for f in (gelu, exact))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("size", [4, 5])
def test_the_grouped_convolution_is_one(size):
    x = jax.random.normal(jax.random.key(0), (2, 11, 6))
    kernel = jax.random.normal(jax.random.key(1), (size, 2, 6))
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [(size // 2, (size - 1) // 2)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(grouped_convolution(x, kernel, 3), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(10, 5), (7, 3), (3, 4)])
def test_the_norm_in_the_kernel_survives_speech_like_spectra(size, stride):
    """Low frequencies 60 dB above the high ones, and filters that remove them."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 4003))
    spectrum = np.fft.rfft(noise) / (1 + np.arange(2002) / 20) ** 2
    x = np.fft.irfft(spectrum, 4003)
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    x = x.astype(np.float32).astype(float)
    kernel = rng.normal(size=(size, 8))
    kernel[:, :3] = (
        np.sin(np.arange(size) * np.pi * 0.97)[:, None] * np.hanning(size + 2)[1:-1, None]
    )
    kernel[:, :3] -= kernel[:, :3].mean(axis=0)
    kernel = kernel.astype(np.float32).astype(float)
    frames = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, ::stride]
    y = frames @ kernel
    expected = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(y.var(axis=1, keepdims=True) + 1e-5)
    ones, zeros = jnp.ones(8), jnp.zeros(8)
    ours = normalised_waveform_convolution(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(kernel, jnp.float32),
        stride,
        ones,
        zeros,
        jnp.float32,
    )
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_normalised_input_has_unit_variance_over_what_is_there():
    x = jax.random.normal(jax.random.key(0), (3, 200)) * 5 + 1
    lengths = jnp.array([200, 120, 50])
    y = np.asarray(normalise_input(x, lengths))
    for row, length in zip(y, lengths, strict=True):
        assert abs(row[:length].mean()) < 1e-5
        assert abs(row[:length].std() - 1) < 1e-5
        assert (row[length:] == 0).all()
    np.testing.assert_allclose(normalise_input(x)[0], y[0], atol=1e-5)


def test_too_short_an_input_is_refused():
    model = models.build("wav2vec2-base", 7)
    assert model.config.shortest_input() == 400
    with pytest.raises(InputError, match="at least 400 samples, but got 399"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 399)))


def test_a_wrong_rank_is_refused():
    with pytest.raises(InputError, match=r"shape \[batch, time\]"):
        models.build("hubert-base", 7).init(jax.random.key(0), jnp.zeros((1, 16_000, 1)))


def test_settings_of_the_configuration_are_those_of_the_model():
    model = models.build("wavlm-base", 4, num_hidden_layers=3, dtype="bfloat16")
    assert model.config.num_hidden_layers == 3
    assert models.build("wavlm-base", 4).config.num_hidden_layers == 12
    with pytest.raises(UsageError, match="did you mean 'layerdrop'"):
        models.build("wavlm-base", 4, layerdrp=0.1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"hidden_act": "prelu"}, "hidden_act 'prelu' are not supported"),
        ({"hidden_act": "gulu"}, "hidden_act is 'gulu'"),
        ({"feat_extract_norm": "batch"}, "not group or layer"),
        ({"conv_dim": (512,)}, "differ in length"),
        ({"num_attention_heads": 7}, "not a multiple of num_attention_heads"),
    ],
)
def test_impossible_configurations_are_refused(setting, words):
    with pytest.raises(InputError, match=words):
        models.build("wav2vec2-base", 7, **setting)


def test_cudnn_wants_half_precision_and_no_dropout():
    x = jnp.zeros((1, 500))
    _, variables = seeded("wav2vec2-group-post")
    model = small_model("wav2vec2-group-post", attention="cudnn")
    with pytest.raises(UsageError, match="half precision, not in float32"):
        jax.eval_shape(model.apply, variables, x)
    half = small_model("wav2vec2-group-post", attention="cudnn", dtype="bfloat16")
    rngs = {"dropout": jax.random.key(0)}
    with pytest.raises(UsageError, match="attention_dropout 0"):
        jax.eval_shape(lambda x: half.apply(variables, x, train=True, rngs=rngs), x)
