"""The last hidden layer of every victim there is: a new architecture without one fails here."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from short_and_long import short_and_long
from tiny_networks import Tiny

from jaxser import models
from jaxser.models.front_end import WithFrontEnd
from jaxser.speech.features import Spectrogram
from jaxser.victims.last_layer import embedding_of

# Of nothing else in a network.
CLASSES = 13
# No victim: it makes perturbations.
GENERATORS = {"waveunet"}
SHAPES = {"waveform": (4_000,), "spectrogram": (60, 64), "image": (224, 224, 3)}


VICTIMS = sorted(set(models.names()) - GENERATORS)
# One of each architecture: larger ones are the same code, and take long to trace.
SMALLEST = [
    *("alexnet", "cnn_lstm", "cnn_lstm_m6", "cvt-13", "echim_cnn_lstm", "emo18", "hubert-base"),
    *("levit-128", "vgg16", "vit-b16", "wav2vec2-base", "wavlm-base", "zhao19"),
]


def shapes_of(name: str, **settings: Any) -> tuple[nn.Module, jax.ShapeDtypeStruct, Any]:
    """A module, its input, and its variables' shapes; nothing is computed."""
    model = models.build(name, num_classes=CLASSES, **settings)
    x = jax.ShapeDtypeStruct((2, *SHAPES[models.input_of(name)]), jnp.float32)
    init = functools.partial(model.init, train=False)
    return model, x, jax.eval_shape(init, jax.random.key(0), x)


@pytest.mark.parametrize("name", VICTIMS)
def test_every_victim_has_a_last_layer(name: str) -> None:
    model = models.build(name, num_classes=CLASSES)
    assert embedding_of(model) is not None
    architectures = {type(models.build(each, CLASSES)).__module__ for each in SMALLEST}
    assert type(model).__module__ in architectures


@pytest.mark.parametrize("name", short_and_long(SMALLEST, ["emo18", "cnn_lstm", "echim_cnn_lstm"]))
def test_the_last_kernel_reads_it(name: str) -> None:
    model, x, variables = shapes_of(name)
    embed = embedding_of(model)
    assert embed is not None
    found = jax.eval_shape(embed, variables, x)
    kernels = [
        leaf.shape
        for path, leaf in flatten_dict(variables["params"]).items()
        if path[-1] == "kernel" and leaf.shape[-1] == CLASSES
    ]
    assert kernels == [(found.shape[1], CLASSES)]
    assert (found.shape[0], found.dtype) == (2, jnp.float32)


LINEAR: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("emo18", {}, ("head",)),
    ("cnn_lstm_m2", {}, ("Dense_0",)),
    (
        "wav2vec2-base",
        {
            **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            **{"intermediate_size": 16, "classifier_proj_size": 8, "conv_dim": (8,) * 7},
            **{"num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 4},
        },
        ("head", "classifier"),
    ),
]


@pytest.mark.parametrize(("name", "settings", "head"), short_and_long(LINEAR, LINEAR[:1]))
def test_the_logits_are_a_linear_layer_of_it(
    name: str, settings: dict[str, Any], head: tuple[str, ...]
) -> None:
    model, x, shapes = shapes_of(name, **settings)
    rng = np.random.default_rng(0)

    def drawn(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        return np.abs(rng.normal(0, 0.2, shape.shape)).astype(shape.dtype)

    variables, x = jax.tree.map(drawn, (shapes, x))
    embed = embedding_of(model)
    assert embed is not None
    layer = flatten_dict(variables["params"])
    kernel, bias = (layer[(*head, part)] for part in ("kernel", "bias"))
    both = jax.jit(lambda v, x: (embed(v, x), model.apply(v, x, train=False)))
    hidden, logits = map(np.asarray, both(variables, x))
    np.testing.assert_allclose(hidden @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    assert np.abs(hidden).max() > 1e-3


def test_behind_a_front_end_speech_and_its_features_have_the_same() -> None:
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            return nn.Dense(CLASSES)(self.embed(x, train))

        def embed(self, x: jax.Array, train: bool) -> jax.Array:
            return x.mean(axis=1)

    front_end = Spectrogram(sample_rate=8_000, n_fft=64, hop_length=32, n_mels=8)
    model = WithFrontEnd(front_end, frames=front_end.frames(800), network=Mean())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 800)), jnp.float32)
    variables = model.init(jax.random.key(0), x, train=False)
    embed = embedding_of(model)
    assert embed is not None
    features = model.apply(variables, x, method="features")
    np.testing.assert_array_equal(embed(variables, x), embed(variables, features))
    np.testing.assert_array_equal(embed(variables, x), jnp.asarray(features).mean(axis=1))
    assert embedding_of(Tiny(3)) is None
    assert embedding_of(dataclasses.replace(model, network=Tiny(3))) is None
