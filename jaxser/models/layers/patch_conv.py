"""Convolutions of images that are matrix products of patches, or sums of shifted images.

    y = patch_conv(x, kernel, stride=4, padding=2)        # kernel [7, 7, channels, features]
    y = depthwise_conv(x, kernel, stride=1)               # kernel [3, 3, 1, channels]
    y = PatchConv(64, size=7, stride=4, padding=2)(x)     # x [batch, height, width, channels]

They give what XLA's own convolution gives, but for the order of sums. On a CPU that one takes ten
to a hundred times as long for a depthwise kernel, gradients included; on other backends it is what
is called here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.dense import matrix_product
from jaxser.models.layers.initialisers import BIAS, KERNEL
from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.forms import on_cpu

__all__ = ["DepthwiseConv", "PatchConv", "depthwise_conv", "out_size", "patch_conv", "patches"]

_TAPS = tuple((row, column) for row in range(3) for column in range(3))


def out_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Places of a kernel along an axis."""
    return (size + 2 * padding - kernel) // stride + 1


def patches(
    x: Float[Array, "batch height width channels"], size: int, stride: int, padding: int
) -> Float[Array, "batch rows columns values"]:
    """What every place of a square kernel sees, in the order (row, column, channel).

    Neighbouring columns of a patch lie side by side in the image, so whole runs of ``stride``
    columns are taken at once.
    """
    batch, height, width, channels = x.shape
    rows, columns = (out_size(n, size, stride, padding) for n in (height, width))
    runs = -(-size // stride)
    high, wide = ((n + runs - 1) * stride for n in (rows, columns))
    # What no patch sees at the end is cut off by a negative padding.
    below, right = high - height - padding, wide - width - padding
    x = lax.pad(
        x,
        jnp.zeros((), x.dtype),
        ((0, 0, 0), (padding, below, 0), (padding, right, 0), (0, 0, 0)),
    )
    x = x.reshape(batch, rows + runs - 1, stride, columns + runs - 1, stride * channels)
    parts = []
    for row in range(size):
        line = x[:, row // stride : row // stride + rows, row % stride]
        for run in range(runs):
            taken = min(stride, size - run * stride) * channels
            parts.append(line[:, :, run : run + columns, :taken])
    return jnp.concatenate(parts, axis=-1)


def patch_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "size size channels features"],
    stride: int,
    padding: int,
) -> Float[Array, "batch rows columns features"]:
    """A convolution with a square kernel and zeros around the image."""
    if not on_cpu():
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return matrix_product(patches(x, kernel.shape[0], stride, padding), matrix)


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "3 3 1 channels"],
    stride: int,
) -> Float[Array, "batch rows columns channels"]:
    """A 3 × 3 convolution of every channel by itself, with one row of zeros around; stride 1 or 2.

    On a CPU there is no forward mode.
    """
    if not on_cpu():
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(1, 1)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
        )
    return _depthwise(x, kernel[:, :, 0], stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: Array, kernel: Array, stride: int) -> Array:
    batch, height, width, channels = x.shape
    rows, columns = (out_size(n, 3, stride, 1) for n in (height, width))
    wide = at_least_float32(x.dtype)
    # Kept apart, or every tap of the sum would ask of every number whether it is a padded one.
    x = lax.optimization_barrier(_ringed(x))
    y: Any = None
    for row, column in _TAPS:
        last = (batch, row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1, channels)
        view = lax.slice(x, (0, row, column, 0), last, (1, stride, stride, 1))
        term = view.astype(wide) * kernel[row, column].astype(wide)[None, None, None]
        y = term if y is None else y + term
    return y.astype(x.dtype)


def _ringed(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _depthwise_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride: int, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    if stride == 1:
        dx = _depthwise(dy, kernel[::-1, ::-1], 1)
    else:
        dx = _spread(dy, kernel)[:, : x.shape[1], : x.shape[2]]
    return dx, _kernel_gradient(x, dy, stride).astype(kernel.dtype)


def _spread(dy: Array, kernel: Array) -> Array:
    """Gradient by the input at stride 2: pixels of even rows see one row of the kernel, odd two."""
    batch, rows, columns, channels = dy.shape
    dy = lax.optimization_barrier(jnp.pad(dy, ((0, 0), (0, 1), (0, 1), (0, 0))))
    # (tap, shift of the output that it comes from) of even and of odd places.
    seen: Any = (((1, 0),), ((0, 1), (2, 0)))
    lines = []
    for of_row in seen:
        line = []
        for of_column in seen:
            line.append(
                sum(
                    dy[:, i : i + rows, j : j + columns] * kernel[row, column][None, None, None]
                    for row, i in of_row
                    for column, j in of_column
                )
            )
        lines.append(jnp.stack(line, axis=3).reshape(batch, rows, 2 * columns, channels))
    return jnp.stack(lines, axis=2).reshape(batch, 2 * rows, 2 * columns, channels)


def _kernel_gradient(x: Array, dy: Array, stride: int) -> Array:
    """Row by row of the output, so that the sums stay in the cache."""
    x = _ringed(x)
    batch, rows, columns, channels = dy.shape
    wide = at_least_float32(dy.dtype)

    def row_added(row: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        lines = lax.dynamic_slice_in_dim(x, row * stride, 3, 1)
        line = lax.dynamic_slice_in_dim(dy, row, 1, 1)[:, 0].astype(wide)
        last = (columns - 1) * stride + 1
        # A sum for each tap, of the shape of a row: nothing is stacked or reduced until the end.
        return tuple(
            so_far + lines[:, i, j : j + last : stride].astype(wide) * line
            for so_far, (i, j) in zip(sums, _TAPS, strict=True)
        )

    zeros = tuple(jnp.zeros((batch, columns, channels), wide) for _ in _TAPS)
    sums = lax.fori_loop(0, rows, row_added, zeros)
    return jnp.stack([total.sum(axis=(0, 1)) for total in sums]).reshape(3, 3, channels)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


class PatchConv(nn.Module):
    """A convolution layer with a square kernel: see :func:`patch_conv`.

    Attributes:
      features: channels out.
      size, stride, padding: of the kernel, in pixels; the padding on all four sides.
      use_bias: whether a number is added to every channel.
      dtype: computed in.
    """

    features: int
    size: int
    stride: int
    padding: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns features"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        y = patch_conv(x.astype(self.dtype), kernel, self.stride, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", BIAS, (self.features,)).astype(self.dtype)
        return y + bias[None, None, None]


class DepthwiseConv(nn.Module):
    """A depthwise convolution layer of 3 by 3 without a bias: see :func:`depthwise_conv`."""

    stride: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns channels"]:
        kernel = self.param("kernel", self.kernel_init, (3, 3, 1, x.shape[-1]))
        return depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
