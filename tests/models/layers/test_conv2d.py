"""Convolutions and max-pools beside those of XLA and flax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxser.models.layers.conv2d import convolve, few_channel_conv, loop_conv, max_pool


def reference(x, kernel):
    """Products and sums, in float64."""
    x, kernel = np.asarray(x, float), np.asarray(kernel, float)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcrs,rscf->bhwf", windows, kernel)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (2, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("size", [11, 12])
def test_max_pool_is_flax_max_pool(window, stride, size):
    y = jax.random.normal(jax.random.key(0), (2, size, size + 1, 3))

    def theirs(y):
        return nn.max_pool(y, (window, window), (stride, stride))

    np.testing.assert_array_equal(max_pool(y, window, stride), theirs(y))
    weights = jax.random.normal(jax.random.key(1), theirs(y).shape)
    ours, flax = (
        jax.grad(lambda y, pool=pool: (pool(y) * weights).sum())(y)
        for pool in (lambda y: max_pool(y, window, stride), theirs)
    )
    np.testing.assert_allclose(ours, flax, atol=1e-5)


def test_the_first_of_equal_maxima_has_the_gradient():
    y = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2].set(1.0).at[0, 2, 1].set(1.0)
    gradient = jax.grad(lambda y: max_pool(y, 2, 2).sum())(y)[0, ..., 0]
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(gradient, expected)
    # Windows that overlap and see the same largest number both give to it.
    gradient = jax.grad(lambda y: max_pool(y, 2, 1).sum())(y)[0, ..., 0]
    assert gradient[1, 2] + gradient[2, 1] == 7
    assert gradient.sum() == 9


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (2, 3, 1, 5)])
def test_a_convolution_in_a_loop_has_the_gradients_of_one(shape):
    kernel = jax.random.normal(jax.random.key(0), shape)
    x = jax.random.normal(jax.random.key(1), (4, 2, 7, 9, shape[2]))
    np.testing.assert_allclose(convolve(x[0], kernel), reference(x[0], kernel), atol=1e-5)

    def total(conv, x, kernel):
        return jnp.sin(jax.lax.map(lambda piece: conv(piece, kernel), x)).sum()

    ours, xla_s = (
        jax.jit(jax.grad(functools.partial(total, f), (0, 1))) for f in (loop_conv, convolve)
    )
    for gradient, expected in zip(ours(x, kernel), xla_s(x, kernel), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 9, 13, 1), (1, 6, 12, 2), (2, 5, 8, 1)])
def test_the_convolution_of_few_channels_is_a_convolution(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (5, 3, shape[3], 4))

    expected = reference(x, kernel)
    np.testing.assert_allclose(few_channel_conv(x, kernel), expected, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), expected.shape)
    for argnums in (0, 1, (0, 1)):
        ours, xla_s = (
            jax.grad(lambda x, k, f=f: (f(x, k) * weights).sum(), argnums)(x, kernel)
            for f in (few_channel_conv, convolve)
        )
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), ours, xla_s)
