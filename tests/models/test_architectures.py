"""Emo18 and Zhao19: names, sizes, golden outputs of PyTorch, behaviour on odd input."""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.key_tables.conv_lstm import conv_lstm_table
from jaxser.victims.key_tables.entries import from_torch, torch_parameter_count
from scripts.golden_models import CLASSES, INPUT_STRIDE, seeded_batch, seeded_state

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = ("emo18", "zhao19")


@pytest.fixture(scope="module", params=NAMES)
def seeded(request):
    """(name, model, variables) with the golden files' weights."""
    model = models.build(request.param, CLASSES)
    table = conv_lstm_table(len(model.blocks))
    return (
        request.param,
        model,
        jax.tree.map(jnp.asarray, from_torch(seeded_state(request.param), table)),
    )


def test_names():
    spectrograms = ("cnn_lstm", *(f"cnn_lstm_m{number}" for number in range(7)))
    foundation = {
        *("wav2vec2-base", "wav2vec2-large", "wav2vec2-large-robust"),
        *("hubert-base", "hubert-large", "hubert-xlarge"),
        *("wavlm-base", "wavlm-base-plus", "wavlm-large"),
    }
    images = (
        *("alexnet", "cvt-13", "cvt-21", "echim_cnn_lstm", "vgg16", "vit-b16"),
        *("levit-128", "levit-128s", "levit-192", "levit-256", "levit-384"),
    )
    assert set(models.names()) == {*spectrograms, *images, *NAMES, *foundation, "waveunet"}
    assert {models.input_of(name) for name in images} == {"image"}
    waveforms = (*NAMES, *foundation, "waveunet")
    assert {models.input_of(name) for name in waveforms} == {"waveform"}
    assert {models.input_of(name) for name in spectrograms} == {"spectrogram"}


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'emo18'"):
        models.build("emo81", 7)


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'dtype'"):
        models.build("emo18", 7, dtyp="bfloat16")


@pytest.mark.parametrize(
    ("name", "needed"), [("zhao19", "num_classes"), ("waveunet", "num_samples")]
)
def test_what_has_no_default_must_be_given(name, needed):
    with pytest.raises(UsageError, match=f"'{name}' cannot be built without {needed}"):
        models.build(name)


def test_listing_names_imports_neither_jax_nor_flax():
    code = (
        "import sys; from jaxser import models; models.names(); "
        "assert not {'jax', 'flax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "count"), [("emo18", 1_302_087), ("zhao19", 1_010_759)])
def test_parameter_count(name, count):
    init = functools.partial(models.build(name, CLASSES).init, train=False)
    x = jax.ShapeDtypeStruct((1, 2000), jnp.float32)
    assert torch_parameter_count(jax.eval_shape(init, jax.random.key(0), x)) == count


@pytest.mark.parametrize("train", [False, True])
def test_golden_outputs(seeded, train):
    name, model, variables = seeded
    x, y = map(jnp.asarray, seeded_batch())

    logits, by_input, by_params, stats = logits_and_gradients(model, variables, x, y, train)
    with np.load(GOLDEN / f"models_{name}.npz") as file:
        prefix = "train/" if train else "eval/"
        golden = {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
    assert distance(by_input[:, ::INPUT_STRIDE], golden["input"]) < 1e-3
    compared = 0
    for entry in conv_lstm_table(len(model.blocks)):
        collection, layer, leaf = entry.target
        ours = (by_params if collection == "params" else stats)[layer][leaf]
        kind = "gradient" if collection == "params" else "state"
        if f"{kind}/{entry.sources[0]}" in golden:
            # Both biases of an LSTM layer have the gradient of their sum.
            theirs = golden[f"{kind}/{entry.sources[0]}"]
            assert distance(ours, theirs.T) < 1e-3, entry.target
            compared += 1
    assert compared > 5 * len(model.blocks)


def test_rows_do_not_see_each_other(seeded):
    _, model, variables = seeded
    x, y = map(jnp.asarray, seeded_batch())

    def run(x, y=y):
        return logits_and_gradients(model, variables, x, y, False)[:2]

    together, gradients = run(x)
    among_others = run(x * jnp.array([1, 0, 9.0])[:, None])
    np.testing.assert_array_equal(together[0], among_others[0][0])
    np.testing.assert_array_equal(gradients[0], among_others[1][0])
    assert (gradients[2] != among_others[1][2]).any()
    # Some processors' products add up in another order at another row of the batch.
    np.testing.assert_allclose(together[::-1], run(x[::-1], y[::-1])[0], atol=1e-6)
    alone = jax.jit(functools.partial(model.apply, train=False))(variables, x[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.long
def test_two_devices_give_the_same_gradients(seeded):
    _, model, variables = seeded
    x, y = seeded_batch(rows=4)

    @jax.jit
    def gradient(params, x):
        def loss(params, x):
            logits, _ = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        return jax.grad(loss, argnums=(0, 1))(params, x)

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split = gradient(jax.device_put(variables["params"], everywhere), jax.device_put(x, rows))
    whole = gradient(variables["params"], jnp.asarray(x))
    for a, b in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        assert distance(np.asarray(a), np.asarray(b)) < 1e-3


@pytest.mark.parametrize("train", [False, True])
def test_silence_gives_finite_logits_and_gradients(seeded, train):
    _, model, variables = seeded
    x, y = map(jnp.asarray, seeded_batch())
    x = jnp.zeros(x.shape).at[1].set(0.3)
    found = logits_and_gradients(model, variables, x, y, train)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(("name", "samples"), [("emo18", 731), ("zhao19", 256)])
def test_too_short_an_input_is_refused(name, samples):
    model = models.build(name, CLASSES)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, samples)))
    apply = functools.partial(model.apply, train=False)
    assert jax.eval_shape(apply, variables, jnp.ones((1, samples))).shape == (1, CLASSES)
    with pytest.raises(InputError, match=f"at least {samples} samples, but got {samples - 1}"):
        jax.eval_shape(apply, variables, jnp.ones((1, samples - 1)))


def test_a_wrong_rank_is_refused():
    model = models.build("emo18", 7)
    with pytest.raises(InputError, match=r"shape \[batch, time\]"):
        model.init(jax.random.key(0), jnp.zeros((1, 16_000, 1)), train=False)


def test_bfloat16_computes_close_and_answers_in_float32(seeded):
    name, model, variables = seeded
    half = models.build(name, CLASSES, dtype="bfloat16")
    x, y = map(jnp.asarray, seeded_batch())
    logits, gradient, _, updated = logits_and_gradients(half, variables, x, y, True)
    exact = logits_and_gradients(model, variables, x, y, True)[0]
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(logits, exact, atol=0.1)
    assert np.abs(logits - exact).max() > 1e-6  # it does compute in half precision
    assert np.isfinite(gradient).all()
