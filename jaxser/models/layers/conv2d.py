"""Convolutions and max-pools of spectrograms that are fast on a CPU, gradients included.

    y = few_channel_conv(x, kernel)        # x [batch, height, width, 1]
    y = max_pool(loop_conv(y, other), window=2, stride=2)

They give what XLA's own operators give, but for the order of sums and, of equal maxima, whose
derivative it is.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

__all__ = ["convolve", "few_channel_conv", "loop_conv", "max_pool"]


@jax.custom_jvp
def _larger(a: Array, b: Array) -> Array:
    """The larger of two; its derivative goes to the first where they are equal."""
    return jnp.maximum(a, b)


@_larger.defjvp
def _larger_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    (a, b), (da, db) = primals, tangents
    return _larger(a, b), jnp.where(a >= b, da, db)


def max_pool(
    y: Float[Array, "batch height width channels"], window: int, stride: int
) -> Float[Array, "batch rows columns channels"]:
    """Square max-pool without padding, as maxima of blocks and of shifted views.

    Where windows are made of whole blocks of ``stride`` by ``stride``, the blocks' maxima come
    first, once for all windows that share them. The gradient puts blocks side by side and adds up
    shifted views; that of ``nn.max_pool`` is a scatter, which is many times slower on a CPU. Of
    equal maxima the first has the gradient, along each axis.
    """
    if stride > 1 and window % stride == 0:
        batch, height, width, channels = y.shape
        rows, columns = height // stride, width // stride
        y = y[:, : rows * stride, : columns * stride]
        # Parts of a split are joined by its transpose, where views would be padded and added.
        y = y.reshape(batch, rows, stride, columns * stride, channels)
        y = functools.reduce(_larger, lax.split(y, (1,) * stride, axis=2))
        y = y.reshape(batch, rows, columns, stride, channels)
        y = functools.reduce(_larger, lax.split(y, (1,) * stride, axis=3))
        y = y.reshape(batch, rows, columns, channels)
        window, stride = window // stride, 1
    for axis in (1, 2):
        last = y.shape[axis] - window
        views = [
            lax.slice_in_dim(y, i, last // stride * stride + i + 1, stride, axis)
            for i in range(window)
        ]
        y = functools.reduce(_larger, views)
    return y


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
) -> Float[Array, "batch out_rows out_columns features"]:
    """A convolution without padding (a cross-correlation, as everywhere in the field)."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


# Outputs that share a window in few_channel_conv.
_BLOCK = 4


@jax.custom_jvp
def few_channel_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
) -> Float[Array, "batch out_rows out_columns features"]:
    """A convolution without padding, for inputs of few channels, as one matrix product.

    Four neighbouring outputs share a window, so that the matrix (the kernel, shifted four times)
    has rows and columns enough to be worth multiplying with. On a CPU forward and input gradient
    take a third of what XLA's convolution takes; the kernel's gradient is left to that.
    """
    rows, columns, _, features = kernel.shape
    batch, height, width, channels = x.shape
    height, width = height - rows + 1, width - columns + 1
    blocks, pieces = -(-width // _BLOCK), -(-(_BLOCK + columns - 1) // _BLOCK)
    total = (blocks + pieces - 1) * _BLOCK
    x = jnp.pad(x, ((0, 0), (0, 0), (0, max(total - x.shape[2], 0)), (0, 0)))[:, :, :total]
    x = x.reshape(batch, -1, blocks + pieces - 1, _BLOCK * channels)
    x = jnp.concatenate([x[:, :, p : p + blocks] for p in range(pieces)], axis=3)
    x = jnp.concatenate([x[:, r : r + height] for r in range(rows)], axis=3)
    # Column of the kernel that takes position i of a window to output o.
    shift = np.arange(pieces * _BLOCK)[:, None] - np.arange(_BLOCK)[None]
    inside = (shift >= 0) & (shift < columns)
    matrix = jnp.where(
        inside[None, :, :, None, None],
        kernel[:, shift.clip(0, columns - 1)],
        jnp.zeros((), x.dtype),
    )
    matrix = matrix.transpose(0, 1, 3, 2, 4).reshape(x.shape[3], _BLOCK * features)
    return (x @ matrix).reshape(batch, height, blocks * _BLOCK, features)[:, :, :width]


def _few_channel_conv_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    (x, kernel), (dx, dkernel) = primals, tangents
    out = few_channel_conv(x, kernel)
    # Only what is differentiated is computed: attacks move x, training moves the kernel.
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(few_channel_conv(dx, kernel))
    if not isinstance(dkernel, SymbolicZero):
        terms.append(convolve(x, dkernel))
    return out, sum(terms[1:], start=terms[0]) if terms else jnp.zeros_like(out)


few_channel_conv.defjvp(_few_channel_conv_jvp, symbolic_zeros=True)


@jax.custom_vjp
def loop_conv(x: Array, kernel: Array) -> Array:
    """A convolution without padding whose gradient by its input is one as well.

    XLA brings a gradient's convolution into the form that its fast CPU kernel takes, but not
    inside a loop, where it is then ten times slower.
    """
    return convolve(x, kernel)


def _loop_conv_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _loop_conv_backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rows, columns = kernel.shape[0] - 1, kernel.shape[1] - 1
    padded = jnp.pad(cotangent, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    by_x = convolve(padded, kernel[::-1, ::-1].swapaxes(2, 3))
    (by_kernel,) = jax.linear_transpose(functools.partial(convolve, x), kernel)(cotangent)
    return by_x, by_kernel


loop_conv.defvjp(_loop_conv_forward, _loop_conv_backward)
