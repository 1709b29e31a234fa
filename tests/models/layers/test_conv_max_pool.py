"""Max-pools, alone and of a waveform's convolution, against their textbook formulations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from textbook import assert_same_derivatives, normal, textbook_conv_pool, textbook_pool

from jaxser.models.layers import conv_max_pool as fused
from jaxser.models.layers.conv_max_pool import conv_max_pool, window_max
from jaxser.runtime.forms import forms_for

ACCELERATORS = ("gpu", "tpu")
MARKED_LONG = [pytest.param(platform, marks=pytest.mark.long) for platform in ACCELERATORS]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("samples", [40, 43])
def test_window_max_is_max_pooling(samples):
    assert_same_derivatives(
        lambda y: window_max(y, 4), lambda y: textbook_pool(y, 4), normal(0, 2, samples, 3)
    )


def test_window_max_sends_a_tie_to_the_first_sample():
    gradient = jax.grad(lambda y: window_max(y, 3).sum())(jnp.zeros((1, 7, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0], [1, 0, 0, 1, 0, 0, 0])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("samples", "size", "padding", "pool", "piece"),
    # by default; in pieces that do not divide the windows; one window each
    [(97, 8, 3, 10, None), (100, 3, 1, 4, 4), (41, 5, 0, 2, 1)],
)
@pytest.mark.parametrize("platform", ["cpu", *ACCELERATORS])
def test_conv_max_pool_is_convolution_and_pooling(
    monkeypatch, samples, size, padding, pool, piece, platform
):
    if platform != "cpu" and piece != 4:
        pytest.skip("there are no pieces")
    if piece is not None:
        monkeypatch.setattr(fused, "_piece", lambda batch: piece)
    with forms_for(platform):
        assert_same_derivatives(
            lambda x, kernel: conv_max_pool(x, kernel, padding, pool),
            lambda x, kernel: textbook_conv_pool(x, kernel, padding, pool),
            normal(0, 2, samples),
            normal(1, size, 6),
        )


@pytest.mark.parametrize("platform", ["cpu", *ACCELERATORS])
def test_where_no_window_fits_nothing_moves(platform):
    kernel = normal(1, 8, 6)
    with forms_for(platform):
        y, pull = jax.vjp(lambda *a: conv_max_pool(*a, 3, 10), normal(0, 2, 10), kernel)
    assert y.shape == (2, 0, 6)
    assert not any(gradient.any() for gradient in pull(y))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("platform", ["cpu", *MARKED_LONG])
def test_conv_max_pool_by_one_argument(argument, platform):
    args = normal(0, 2, 100), normal(1, 8, 6)

    def gradient(function):
        return jax.jit(jax.grad(lambda *a: jnp.sin(function(*a, 3, 10)).sum(), argument))(*args)

    with forms_for(platform):
        fast, slow = gradient(conv_max_pool), gradient(textbook_conv_pool)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("platform", ["cpu", *MARKED_LONG])
def test_conv_max_pool_jacobian_by_vmap(platform):
    x, kernel = normal(0, 1, 45), normal(1, 8, 2)
    with forms_for(platform):
        fast = jax.jit(jax.jacrev(lambda x: conv_max_pool(x, kernel, 3, 10)))(x)
        slow = jax.jit(jax.jacrev(lambda x: textbook_conv_pool(x, kernel, 3, 10)))(x)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.parametrize("platform", ["gpu", *MARKED_LONG[1:]])
def test_conv_max_pool_sends_a_tie_to_the_first_sample(platform):
    kernel = jnp.ones((1, 1))
    with forms_for(platform):
        gradient = jax.grad(lambda x: conv_max_pool(x, kernel, 0, 3).sum())(jnp.zeros((1, 7)))
    np.testing.assert_array_equal(gradient[0], [1, 0, 0, 1, 0, 0, 0])
