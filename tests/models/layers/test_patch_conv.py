"""Convolutions as products of patches and as sums of shifted images, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxser.models.layers.patch_conv import depthwise_conv, patch_conv
from jaxser.runtime.forms import forms_for


def xla(x, kernel, stride, padding, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def with_gradients(function, x, kernel):
    def loss(x, kernel):
        y = function(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    (by_x, by_kernel), y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)
    return y, by_x, by_kernel


def assert_same(mine, theirs, x, kernel):
    pairs = zip(with_gradients(mine, x, kernel), with_gradients(theirs, x, kernel), strict=True)
    for ours, expected in pairs:
        np.testing.assert_allclose(ours, expected, atol=1e-10)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("size", "stride", "padding", "height", "width"),
    [(7, 4, 2, 13, 16), (3, 2, 1, 6, 9), (4, 4, 0, 9, 8), (2, 1, 0, 4, 5)],
)
def test_patch_conv(size, stride, padding, height, width):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, height, width, 3)), rng.normal(size=(size, size, 3, 5))
    assert_same(
        lambda x, k: patch_conv(x, k, stride, padding),
        lambda x, k: xla(x, k, stride, padding),
        jnp.asarray(x),
        jnp.asarray(kernel),
    )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("stride", "height", "width"), [(1, 4, 5), (2, 6, 7), (2, 5, 4)])
def test_depthwise_conv(stride, height, width):
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(2, height, width, 3)), rng.normal(size=(3, 3, 1, 3))
    assert_same(
        lambda x, k: depthwise_conv(x, k, stride),
        lambda x, k: xla(x, k, stride, 1, groups=3),
        jnp.asarray(x),
        jnp.asarray(kernel),
    )


@pytest.mark.usefixtures("double")
def test_other_backends_take_the_operator():
    rng = np.random.default_rng(2)
    x, kernel = rng.normal(size=(1, 5, 5, 2)), rng.normal(size=(3, 3, 1, 2))
    dense = rng.normal(size=(3, 3, 2, 4))
    here = depthwise_conv(x, jnp.asarray(kernel), 2), patch_conv(x, jnp.asarray(dense), 2, 1)
    with forms_for("gpu"):
        there = depthwise_conv(x, kernel, 2), patch_conv(x, dense, 2, 1)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
