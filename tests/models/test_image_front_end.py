"""A network behind an image: one function of speech, entered from any of three sides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxser.models.image_front_end import WithImage, fit_range
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.features import Spectrogram
from jaxser.speech.images import SpectrogramImage

SAMPLES, SIZE = 300, 12
FRONT_END = SpectrogramImage(
    Spectrogram("linear", n_fft=62, hop_length=20, db=True), samples=SAMPLES, size=SIZE
)


class Linear(nn.Module):
    """Logits that are linear in the colours."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def speech(rows=10):
    rng = np.random.default_rng(0)
    loudness = np.linspace(0.05, 0.9, rows)[:, None]
    return (loudness * rng.uniform(-1, 1, (rows, SAMPLES))).astype(np.float32)


def fitted(model, x):
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x[:1])
    found = fit_range(model, [x[:7], x[7:]])
    assert set(found) == set(variables.get("batch_stats", {}))
    return {**variables, "batch_stats": found}


def test_the_range_is_the_mean_of_the_windows_extremes():
    x = speech()
    found = fit_range(WithImage(FRONT_END, Linear()), [x[:7], x[7:]])
    decibels = np.asarray(FRONT_END.decibels(jnp.asarray(x)), np.float64)
    assert found["lowest"] == pytest.approx(decibels.min(axis=(1, 2)).mean(), rel=1e-6)
    assert found["highest"] == pytest.approx(decibels.max(axis=(1, 2)).mean(), rel=1e-6)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("fixed", [None, (-40.0, 20.0)])
def test_all_three_sides_have_the_same_logits_and_gradients(fixed):
    x = jnp.asarray(speech())
    model = WithImage(FRONT_END, Linear(), fixed_range=fixed)
    variables = fitted(model, np.asarray(x))

    @jax.jit
    def parts(x):
        levels = model.apply(variables, x, method="spectrogram")
        return levels, model.apply(variables, levels, method="image")

    @jax.jit
    def logits(x):
        return model.apply(variables, x, train=False)

    levels, images = parts(x)
    assert levels.shape == (10, SIZE, SIZE, 1)
    assert images.shape == (10, SIZE, SIZE, 3)
    lowest, highest = fixed or (variables["batch_stats"][n] for n in ("lowest", "highest"))
    np.testing.assert_allclose(images, jax.jit(FRONT_END)(x, lowest, highest), atol=1e-5)
    np.testing.assert_allclose(logits(levels), logits(images), atol=1e-5)
    np.testing.assert_allclose(logits(x), logits(images), atol=1e-5)

    def through(x):
        return logits(x)[:, 0].sum()

    by_levels = jax.jit(jax.grad(through))(levels)
    assert np.abs(by_levels).max() > 0

    @jax.jit
    def both_ways(x):
        _, pull_back = jax.vjp(lambda x: parts(x)[0], x)
        return jax.grad(through)(x), pull_back(by_levels)[0]

    np.testing.assert_allclose(*both_ways(x), atol=1e-4)


def test_levels_and_decibels_are_each_others_inverse():
    x = speech()
    model = WithImage(FRONT_END, Linear())
    variables = fitted(model, x)
    unclipped = model.apply(variables, x, method="unclipped")
    back = model.apply(variables, unclipped, method="decibels")
    np.testing.assert_allclose(back, FRONT_END.unclipped(jnp.asarray(x), 0.0, 1.0), atol=1e-3)


def test_training_leaves_the_range_alone():
    x = speech()
    model = WithImage(FRONT_END, Linear())
    variables = fitted(model, x)
    _, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    assert updated["batch_stats"] == variables["batch_stats"]


@pytest.mark.parametrize(
    "shape", [(2, SAMPLES + 1), (2, SIZE, SIZE), (2, SIZE, SIZE, 2), (2, SIZE, SIZE + 1, 3)]
)
def test_other_shapes_are_refused(shape):
    model = WithImage(FRONT_END, Linear(), fixed_range=(-80.0, 0.0))
    variables = model.init(jax.random.key(0), speech(1), train=False)
    with pytest.raises(InputError, match="reads 300 samples, or 12 x 12 x 1 levels or 12 x 12 x 3"):
        model.apply(variables, jnp.zeros(shape), train=False)


def test_levels_are_no_speech_for_a_spectrogram():
    model = WithImage(FRONT_END, Linear(), fixed_range=(-80.0, 0.0))
    with pytest.raises(InputError, match="give speech of its own length"):
        model.apply({}, jnp.zeros((2, SIZE, SIZE, 1)), method="spectrogram")


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([np.zeros((3, SAMPLES), np.float32)] * 2, "all 6 windows .* are silent .* -100 dB"),
        ([np.full((1, SAMPLES), np.nan, np.float32), speech(2)], "1 of 3 windows .* not finite"),
        ([], "no speech to find the range"),
    ],
)
def test_a_range_that_cannot_be_found_is_a_sentence(batches, sentence):
    with pytest.raises(InputError, match=sentence):
        fit_range(WithImage(FRONT_END, Linear()), batches)


@pytest.mark.parametrize("fixed", [(0.0, 0.0), (1.0, -1.0), (-np.inf, 0.0), (0.0, np.nan)])
def test_a_fixed_range_must_be_one(fixed):
    model = WithImage(FRONT_END, Linear(), fixed_range=fixed)
    with pytest.raises(UsageError, match="has no colours; give two numbers, the lower one first"):
        model.init(jax.random.key(0), speech(1), train=False)
