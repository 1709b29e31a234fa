"""A convolution layer of images: any stride, zeros around, a bias.

y = ImageConv(64, size=3, padding=1)(x)            # x [batch, height, width, channels]
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS

__all__ = ["HE", "ImageConv", "image_conv"]

# He et al., ICCV 2015: as LeCun's, twice the variance, for layers before a ReLU. Without it what
# VGG16 knows of an image vanishes in its 13 layers, none of which is normalised.
HE = nn.initializers.he_normal()


def image_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "batch out_rows out_columns features"]:
    """Every ``stride``-th place of a cross-correlation, with ``padding`` zeros all around."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


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
