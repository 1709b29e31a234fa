"""Convolutions of images in every form beside XLA's in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.models.layers import image_conv as forms
from jaxser.models.layers.winograd import winograd_conv_2d
from jaxser.runtime.forms import forms_for


def plain(x, kernel, stride, padding):
    """Products and sums, in float64."""
    x, kernel = np.asarray(x, float), np.asarray(kernel, float)
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcrs,rscf->bhwf", windows[:, ::stride, ::stride], kernel)


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "channels", "features"),
    [
        (11, 4, 2, 3, 4),
        (2, 1, 0, 3, 4),
        (5, 1, 2, 64, 192),  # Winograd's
        (3, 1, 1, 128, 128),  # XLA's, and Winograd's by the kernel
    ],
)
def test_the_forms_and_their_gradients_are_convolutions(size, stride, padding, channels, features):
    x, kernel = draw(0, 1, 11, 9, channels), draw(1, size, size, channels, features)
    conv = functools.partial(forms.image_conv, stride=stride, padding=padding)
    y, pull = jax.vjp(jax.jit(conv), x, kernel)
    expected = plain(x, kernel, stride, padding)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=3e-5 * np.abs(expected).max())
    # A convolution is linear in both: its gradients' products with anything are convolutions.
    weights = draw(2, *y.shape)
    by_x, by_kernel = pull(weights)
    for gradient, moved in (
        (by_x, (draw(3, *x.shape), kernel)),
        (by_kernel, (x, draw(4, *kernel.shape))),
    ):
        other = moved[0] if gradient is by_x else moved[1]
        want = float((plain(*moved, stride, padding) * np.asarray(weights, float)).sum())
        scale = float(jnp.linalg.norm(gradient) * jnp.linalg.norm(other))
        assert abs(float((gradient * other).sum()) - want) < 1e-5 * scale


@pytest.mark.parametrize(
    ("size", "padding", "height", "width"),
    [(3, 1, 5, 16), (3, 0, 4, 9), (5, 2, 4, 7), (5, 0, 6, 16)],
)
def test_winograd_s_form_at_widths_that_fill_its_tiles_or_do_not(size, padding, height, width):
    x, kernel = draw(0, 2, height, width, 3), draw(1, size, size, 3, 4)
    expected = plain(x, kernel, 1, padding)
    found = jax.jit(functools.partial(winograd_conv_2d, padding=padding))(x, kernel)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_each_form_is_taken_where_it_is_faster(monkeypatch):
    taken = []

    def noted(x, kernel, *_, name):
        taken.append(name)
        return jnp.zeros((*x.shape[:3], kernel.shape[-1]), x.dtype)

    for name in ("_xla_conv", "_mixed_conv", "winograd_conv_2d"):
        monkeypatch.setattr(forms, name, functools.partial(noted, name=name))

    def form(channels, features, stride=1, size=3, dtype="float32"):
        kernel = jnp.zeros((size, size, channels, features), dtype)
        forms.image_conv(jnp.zeros((1, 8, 8, channels), dtype), kernel, stride, 1)
        return taken.pop()

    assert form(64, 64) == form(3, 64) == form(32, 512, size=2) == "_xla_conv"
    assert form(128, 128) == "_mixed_conv"
    assert form(64, 192, size=5) == form(512, 512) == "winograd_conv_2d"
    assert form(512, 512, stride=2) == form(512, 512, dtype="bfloat16") == "_xla_conv"
    with forms_for("gpu"):
        assert form(512, 512) == "_xla_conv"
