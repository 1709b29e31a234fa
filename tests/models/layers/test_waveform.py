"""Normalised waveforms: loud, faint and silent ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.models.layers.waveform import normalise_utterance


def test_normalise_utterance_standardises_each_row():
    x = np.random.default_rng(0).normal(3.0, 0.2, (2, 500)).astype(np.float32)
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(normalise_utterance(jnp.asarray(x)), expected, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, -0.7, 1e-30])
def test_normalise_utterance_is_zero_on_silence(level):
    x = jnp.full((2, 9601), level, jnp.float32)
    gradient = jax.grad(lambda x: (normalise_utterance(x) ** 2).sum() + x.sum())(x)
    np.testing.assert_array_equal(normalise_utterance(x), 0.0)
    np.testing.assert_array_equal(gradient, 1.0)


def test_normalise_utterance_keeps_faint_rows():
    x = 1e-6 * jax.random.normal(jax.random.key(0), (1, 4000))
    np.testing.assert_allclose(normalise_utterance(x).std(), 1.0, atol=1e-3)
