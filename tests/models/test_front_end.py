"""A network behind a front end: one function of speech, whichever side it is entered from."""

import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from flax import linen as nn
from short_and_long import short_and_long

from jaxser.models.front_end import WithFrontEnd, fit_statistics
from jaxser.runtime.errors import InputError
from jaxser.speech.features import Spectrogram

FRONT_END = Spectrogram(sample_rate=8_000, n_fft=64, hop_length=32, n_mels=10)
SAMPLES = 640
FRAMES = FRONT_END.frames(SAMPLES)


class Linear(nn.Module):
    """Logits that are linear in the features."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def speech(rows=12):
    rng = np.random.default_rng(0)
    loudness = np.linspace(0.05, 0.9, rows)[:, None]
    return (loudness * rng.uniform(-1, 1, (rows, SAMPLES))).astype(np.float32)


def module(**settings):
    return WithFrontEnd(FRONT_END, frames=FRAMES, network=Linear(), **settings)


def fitted(model, x):
    variables = model.init(jax.random.key(0), x[:1], train=False)
    statistics = fit_statistics(model, [x[:3], x[3:]])
    assert set(statistics) == set(variables["batch_stats"])
    return {**variables, "batch_stats": statistics}


def divisors(normalisation, y):
    return {
        "original": np.ones(()),
        "sum": y.sum(axis=(1, 2), keepdims=True),
        "max_local": y.max(axis=(1, 2), keepdims=True),
        "max_global": y.max(),
    }[normalisation]


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("normalisation", ["original", "sum", "max_global", "max_local"])
def test_the_eight_normalisations(normalisation, standardise):
    x = speech()
    model = module(normalisation=normalisation, standardise=standardise)
    features = np.asarray(model.apply(fitted(model, x), x, method="features"))
    y = np.asarray(FRONT_END(jnp.asarray(x)), np.float64)
    expected = y / divisors(normalisation, y)
    if standardise:
        expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
    if standardise:
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-3)


FROM_THE_LEAST = dataclasses.replace(FRONT_END, squared=True, ref="min")


def by_librosa(x):
    """Squared mel spectrograms in dB over their own least value, [rows, frames, mels]."""
    settings = {"sr": 8_000, "n_fft": 64, "hop_length": 32, "n_mels": 10}
    mels = librosa.feature.melspectrogram(y=x, **settings, pad_mode="constant")
    return np.stack([librosa.amplitude_to_db(each, ref=np.min).T for each in mels])


SHARES = [
    ("max_local", None, lambda y: y / y.max(axis=(1, 2), keepdims=True)),
    (
        "max_local",
        "paper",
        lambda y: (y - y.min(axis=2, keepdims=True)) / np.ptp(y, axis=2, keepdims=True),
    ),
    ("sum", None, lambda y: y / y.sum(axis=(1, 2), keepdims=True)),
    ("max_global", None, lambda y: y / y.max()),
    ("max_global", "paper", lambda y: y / y.max(axis=(1, 2), keepdims=True)),
]


@pytest.mark.parametrize(("normalisation", "compat", "scaled"), short_and_long(SHARES, SHARES[:2]))
def test_normalisations_over_the_least_power_are_shares(normalisation, compat, scaled):
    """From 0 to 1, as the paper says: over a reference of 1, dB of most speech are negative."""
    x = speech()
    model = WithFrontEnd(
        FROM_THE_LEAST,
        frames=FRAMES,
        network=Linear(),
        normalisation=normalisation,
        compat=compat,
        standardise=False,
    )
    found = np.asarray(model.apply(fitted(model, x), x, method="features"))
    np.testing.assert_allclose(found, scaled(by_librosa(x)), rtol=1e-3, atol=1e-4)
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    if normalisation != "sum":
        assert found.max() == pytest.approx(1)
    assert model.divides_by_own == ((normalisation, compat) != ("max_global", None))


def test_speech_and_its_features_have_the_same_logits_and_gradients():
    x = jnp.asarray(speech())
    model = module()
    variables = fitted(model, np.asarray(x))
    features = model.apply(variables, x, method="features")
    assert features.shape == (12, FRAMES, 10)
    logits = model.apply(variables, x, train=False)
    np.testing.assert_allclose(logits, model.apply(variables, features, train=False), atol=1e-5)

    def through(x):
        return model.apply(variables, x, train=False)[:, 0].sum()

    by_features = jax.grad(through)(features)
    _, pull_back = jax.vjp(lambda x: model.apply(variables, x, method="features"), x)
    np.testing.assert_allclose(jax.grad(through)(x), pull_back(by_features)[0], atol=1e-4)


def test_training_leaves_the_statistics_alone():
    x = speech()
    model = module()
    variables = fitted(model, x)
    _, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    for name, value in variables["batch_stats"].items():
        np.testing.assert_array_equal(updated["batch_stats"][name], value)


def test_unstandardised_gives_the_spectrogram_back():
    x = speech()
    model = module(normalisation="max_global")
    variables = fitted(model, x)
    features = model.apply(variables, x, method="features")
    back = model.apply(variables, features, method="unstandardised")
    np.testing.assert_allclose(back, FRONT_END(jnp.asarray(x)), atol=1e-3)


def test_a_cell_that_never_changes_stays_zero():
    model = module()
    x = np.tile(speech(1), (4, 1))
    features = model.apply(fitted(model, x), x, method="features")
    np.testing.assert_allclose(features, 0, atol=1e-3)


def test_silence_has_finite_gradients():
    model = module(normalisation="sum")
    variables = fitted(model, speech())
    gradient = jax.grad(lambda x: model.apply(variables, x, train=False).sum())
    assert np.isfinite(gradient(jnp.zeros((2, SAMPLES)))).all()


@pytest.mark.parametrize("shape", [(2, FRAMES + 1, 10), (2, FRAMES, 11), (2, 2 * SAMPLES)])
def test_another_size_than_the_victims_is_refused(shape):
    model = module()
    variables = fitted(model, speech())
    with pytest.raises(InputError, match=r"spectrograms of 21 frames and 10 bands, but was given"):
        model.apply(variables, jnp.zeros(shape), train=False)
