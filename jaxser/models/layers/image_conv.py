"""A convolution layer of images: any stride, zeros around, a bias.

y = ImageConv(64, size=3, padding=1)(x)            # x [batch, height, width, channels]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS
from jaxser.models.layers.winograd import winograd_conv_2d
from jaxser.runtime.forms import on_cpu

__all__ = ["HE", "ImageConv", "image_conv"]

# He et al., ICCV 2015: as LeCun's, twice the variance, for layers before a ReLU. Without it what
# VGG16 knows of an image vanishes in its 13 layers, none of which is normalised.
HE = nn.initializers.he_normal()


# Channels in times out from which on Winograd's form is faster, timed for AlexNet's and VGG16's
# layers on one core of an AMD EPYC (jax 0.10.2). At 56 by 56 and 256 channels it takes 0.6 of XLA's
# time, gradients included; at 112 by 112 and 128 channels 1.1 of it, but 0.6 for the gradient by
# the kernel; at 224 by 224 and 64 channels 1.2 to 1.7.
_FEWEST_PRODUCTS = 64 * 192
_FEWEST_FOR_KERNELS = 128 * 128
_FEWEST_FEATURES = 192


def image_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "batch out_rows out_columns features"]:
    """Every ``stride``-th place of a cross-correlation, with ``padding`` zeros all around.

    Which form is computed depends on the kernel alone, so that it is one for every batch.
    """
    _, size, channels, features = kernel.shape
    products = channels * features
    # Half precision has too few digits for it, see :mod:`jaxser.models.layers.winograd`.
    if not on_cpu() or kernel.dtype != jnp.float32 or stride != 1 or size not in (3, 5):
        return _xla_conv(x, kernel, stride, padding)
    if products >= _FEWEST_PRODUCTS and features >= _FEWEST_FEATURES:
        return winograd_conv_2d(x, kernel, padding)
    if products >= _FEWEST_FOR_KERNELS:
        return _mixed_conv(x, kernel, padding)
    return _xla_conv(x, kernel, stride, padding)


def _xla_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    stride: int,
    padding: int,
) -> Float[Array, "batch out_rows out_columns features"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _mixed_conv(x: Array, kernel: Array, padding: int) -> Array:
    """XLA's convolution, but for the gradient by the kernel."""
    return _xla_conv(x, kernel, 1, padding)


def _mixed_conv_jvp(
    padding: int, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    out = _mixed_conv(x, kernel, padding)
    # Only what is differentiated is computed: attacks move x, training moves the kernel too.
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_xla_conv(dx, kernel, 1, padding))
    if not isinstance(dkernel, SymbolicZero):
        terms.append(winograd_conv_2d(x, dkernel, padding))
    return out, sum(terms[1:], start=terms[0]) if terms else jnp.zeros_like(out)


_mixed_conv.defjvp(_mixed_conv_jvp, symbolic_zeros=True)


class ImageConv(nn.Module):
    """A convolution with a square kernel and a bias.

    Attributes:
      features: channels out.
      size, stride, padding: of the kernel, in pixels; the padding on all four sides.
      dtype: computed in.
    """

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    dtype: Any = jnp.float32
    kernel_init: Initializer = HE

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns features"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = self.param("bias", BIAS, (self.features,)).astype(self.dtype)
        y = image_conv(x.astype(self.dtype), kernel, self.stride, self.padding)
        return y + bias[None, None, None]
