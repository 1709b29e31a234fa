"""AlexNet, VGG16, ViT-B/16 and the image CNN-LSTM: sizes, golden outputs, and common mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from image_sources import TABLES, golden, variables_of
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.models import vit
from jaxser.models.layers.dense import emotion_head
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.key_tables.entries import torch_parameter_count
from jaxser.victims.key_tables.vit import NORM_EPS
from scripts.golden_images import INPUT_STRIDE, SOURCES, module_of, seeded_batch

COUNTS = {
    "echim_cnn_lstm": 33_321_191,
    "alexnet": 61_107_847,
    "vgg16": 138_364_551,
    "vit-b16": 86_574_663,
}
# One source of each network.
NETWORKS = ("echim_cnn_lstm", "torchvision_alexnet", "torchvision_vgg16", "torchvision_vit")
KINDS = [(source, "eval") for source in SOURCES] + [("echim_cnn_lstm", "train")]


@functools.cache
def shapes(name):
    """Shapes of a full-size network's variables."""
    init = functools.partial(models.build(name, 7).init, train=False)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), x)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name):
    assert models.input_of(name) == "image"
    assert torch_parameter_count(shapes(name)) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "path", "shape"),
    [
        # Pools drop what does not fill them: 55, 27, 13, 6; 223, 111, 110, 55, 54, 27, 26, 13.
        ("alexnet", ("fc_0", "kernel"), (6 * 6 * 256, 4096)),
        ("vgg16", ("fc_0", "kernel"), (7 * 7 * 512, 4096)),
        ("vit-b16", ("positions",), (197, 768)),
        # 128 steps, the channels, of 169 numbers each.
        ("echim_cnn_lstm", ("lstm", "input_kernel"), (169, 1024)),
        ("echim_cnn_lstm", ("fc", "kernel"), (128 * 256, 1000)),
    ],
)
def test_what_is_left_of_an_image_of_224_by_224(name, path, shape):
    leaf = shapes(name)["params"]
    for part in path:
        leaf = leaf[part]
    assert leaf.shape == shape


def run(source, kind="eval", **changed):
    """Logits, gradients and statistics of a source's small network on the golden file's images."""
    module = module_of(source, **changed)
    x, y = map(jnp.asarray, seeded_batch(module.image_size))
    return logits_and_gradients(module, variables_of(source), x, y, train=kind == "train")


@pytest.mark.parametrize(("source", "kind"), KINDS)
def test_golden_outputs(source, kind):
    logits, by_input, by_params, stats = run(source, kind)
    expected = golden(source, kind)
    np.testing.assert_allclose(logits, expected["logits"], atol=2e-5)
    assert distance(by_input[:, ::INPUT_STRIDE], expected["input"]) < 1e-3
    compared = 0
    for entry in TABLES[source](module_of(source)):
        collection, *path = entry.target
        theirs = f"{'gradient' if collection == 'params' else 'state'}/{entry.sources[0]}"
        if theirs not in expected:
            continue
        ours = by_params if collection == "params" else stats
        for part in path:
            ours = ours[part]
        # Both biases of an LSTM have the gradient of their sum.
        convert = entry.convert if len(entry.sources) == 1 else np.asarray
        assert distance(ours, convert(expected[theirs])) < 1e-3, entry.target
        compared += 1
    assert compared == (
        0 if source == "hugging_face_vit" else len(TABLES[source](module_of(source)))
    )


@pytest.mark.parametrize(
    "source", ["echim_cnn_lstm", "torchvision_alexnet", "torchvision_vgg16", "timm_vgg16"]
)
def test_with_everything_dropped_what_comes_after_is_left(source):
    module = module_of(source, dropout=1.0)
    x, _ = seeded_batch(module.image_size)
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    logits, _ = apply(variables_of(source), x)
    np.testing.assert_allclose(logits, golden(source, "dropped")["logits"], atol=1e-5)


def _block_places(tokens: int) -> list[tuple[int, ...]]:
    """What a block of the small ViT drops: attention's weights and what the three layers give."""
    return [(3, tokens, 10), (tokens, 12), (tokens, 20), (tokens, 12)]


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("echim_cnn_lstm", [(9,)]),
        # What the hidden layers read, or what they give.
        ("torchvision_alexnet", [(24,), (10,)]),
        ("torchvision_vgg16", [(10,), (10,)]),
        # The tokens, then two blocks, the last of which gives the class token alone.
        (
            "torchvision_vit",
            [(10, 12), *_block_places(10), *_block_places(1)],
        ),
    ],
)
def test_dropouts_are_where_they_belong(source, places):
    module, seen = module_of(source, dropout=0.5), []

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            seen.append((args[0].shape[1:], kwargs["deterministic"]))
        return call(*args, **kwargs)

    x, _ = seeded_batch(module.image_size)
    for train in (False, True):
        with nn.intercept_methods(note):
            jax.eval_shape(
                functools.partial(
                    module.apply,
                    train=train,
                    mutable=["batch_stats"],
                    rngs={"dropout": jax.random.key(0)},
                ),
                variables_of(source),
                x,
            )
        assert seen == [(place, not train) for place in places]
        seen.clear()


@pytest.mark.parametrize("source", NETWORKS)
def test_the_embedding_is_what_the_last_layer_reads(source):
    module, variables = module_of(source), variables_of(source)
    x, _ = seeded_batch(module.image_size)
    head = variables["params"]["head"]

    @jax.jit
    def both(x):
        embedded = module.apply(variables, x, method="embed", train=False)
        return embedded, module.apply(variables, x, train=False)

    embedded, logits = both(x)
    assert embedded.shape == (3, {"echim_cnn_lstm": 9, "torchvision_vit": 11}.get(source, 12))
    np.testing.assert_allclose(embedded @ head["kernel"] + head["bias"][None], logits, atol=1e-5)


def test_the_epsilon_of_a_layer_norm_is_its_source_s():
    """That of another source is another network."""
    assert {source: SOURCES[f"{source}_vit"][1]["norm_eps"] for source in NORM_EPS} == NORM_EPS
    for source, other in (("hugging_face_vit", 1e-6), ("torchvision_vit", 1e-12)):
        logits, *_ = run(source, norm_eps=other)
        assert np.abs(logits - golden(source, "eval")["logits"]).max() > 1e-2


def test_the_gelu_is_exact(monkeypatch):
    """Its approximation by tanh would be seen."""
    monkeypatch.setattr(vit, "gelu", functools.partial(nn.gelu, approximate=True))
    module = module_of("torchvision_vit")
    x, _ = seeded_batch(module.image_size)
    # A program of its own: others must not be given what is patched here.
    logits = jax.jit(functools.partial(module.apply, train=False))(
        variables_of("torchvision_vit"), jnp.asarray(x)
    )
    assert np.abs(logits - golden("torchvision_vit", "eval")["logits"]).max() > 1e-4


def test_an_activation_between_the_linear_layers_of_the_cnn_lstm():
    module, variables = module_of("echim_cnn_lstm"), variables_of("echim_cnn_lstm")
    x, _ = seeded_batch(module.image_size)
    rectifying = module_of("echim_cnn_lstm", hidden_activation="relu")

    @jax.jit
    def both(x):
        return [
            each.apply(variables, x, method="embed", train=False) for each in (module, rectifying)
        ]

    plain, rectified = both(x)
    assert np.any(plain < 0)
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    wrong = module_of("echim_cnn_lstm", hidden_activation="rleu")
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        wrong.apply(variables, x, train=False)


def test_the_new_head_begins_as_torch_s():
    params = emotion_head(7, 400).init(jax.random.key(0), jnp.zeros((1, 400)))["params"]
    assert np.abs(params["kernel"]).max() <= 1 / 20  # the square root of 1 / 400
    assert float(params["kernel"].std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
    assert 0 < np.abs(params["bias"]).min() < np.abs(params["bias"]).max() <= 1 / 20


@pytest.mark.parametrize("source", NETWORKS)
def test_bfloat16_computes_close_and_answers_in_float32(source):
    variables = variables_of(source)
    if source == "torchvision_vit":
        # The golden file's tokens are too small for half precision.
        variables["params"]["patches"]["kernel"] *= 1e3
    half, exact = module_of(source, dtype="bfloat16"), module_of(source)
    x, _ = seeded_batch(exact.image_size)

    @jax.jit
    def logits_of_both(x):
        by_input = jax.grad(lambda x: half.apply(variables, x, train=False).sum())(x)
        return *(each.apply(variables, x, train=False) for each in (half, exact)), by_input

    logits, expected, by_input = logits_of_both(x)
    assert logits.dtype == np.float32
    assert 1e-6 < np.abs(logits - expected).max() < 0.1
    assert np.isfinite(by_input).all()


@pytest.mark.parametrize("source", NETWORKS)
def test_what_is_no_image_is_refused(source):
    module, variables = module_of(source), variables_of(source)
    size = module.image_size
    for shape in ((2, 16_000), (2, size, size + 1, 3), (2, 3, size, size), (size, size, 3)):
        with pytest.raises(InputError, match=rf"shape \[batch, {size}, {size}, 3\], but got"):
            module.apply(variables, jnp.zeros(shape), train=False)
