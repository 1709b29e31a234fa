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
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, size, size + 1, 3)).astype(np.float32)

    def theirs(y):
        return nn.max_pool(y, (window, window), (stride, stride))

    weights = rng.normal(size=jax.eval_shape(theirs, y).shape).astype(np.float32)

    @jax.jit
    def both(y):
        ours, flax = (jax.vjp(pool, y) for pool in (lambda y: max_pool(y, window, stride), theirs))
        return (ours[0], *ours[1](weights)), (flax[0], *flax[1](weights))

    (ours, our_gradient), (flax, flax_gradient) = both(y)
    np.testing.assert_array_equal(ours, flax)
    np.testing.assert_allclose(our_gradient, flax_gradient, atol=1e-5)


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
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(5, 3, shape[3], 4)).astype(np.float32)
    expected = reference(x, kernel)
    weights = rng.normal(size=expected.shape).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def everything(conv, x, kernel):
        def total(x, kernel):
            return (conv(x, kernel) * weights).sum()

        gradients = [jax.grad(total, argnums)(x, kernel) for argnums in (0, 1, (0, 1))]
        return conv(x, kernel), gradients

    (output, ours), (_, xla_s) = (everything(f, x, kernel) for f in (few_channel_conv, convolve))
    np.testing.assert_allclose(output, expected, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), ours, xla_s)
