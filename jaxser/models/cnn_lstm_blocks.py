"""The convolution blocks of a CNN-LSTM: their sizes, and what one does in evaluation."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.conv2d import convolve, few_channel_conv, loop_conv, max_pool
from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.forms import on_cpu

__all__ = [
    "BLOCKS",
    "KERAS_EPSILON",
    "Block",
    "evaluated_block",
    "field",
    "first_conv",
    "sizes",
]

KERAS_EPSILON = 1e-3


class Block(NamedTuple):
    """A convolution and the max-pool of what it gives, both square and without padding."""

    channels: int
    kernel: int
    window: int
    stride: int

    def outputs(self, size: int) -> int:
        """Numbers along an axis that are made of so many."""
        return (size - self.kernel + 1 - self.window) // self.stride + 1

    def inputs(self, outputs: int) -> int:
        """Numbers along an axis that so many outputs see."""
        return (outputs - 1) * self.stride + self.window + self.kernel - 1


# The paper's kernels, filters and pools, of its final network and of M0 to M2.
BLOCKS = (Block(16, 5, 4, 2), Block(32, 3, 2, 2), Block(64, 3, 2, 1))


def field(blocks: Sequence[Block]) -> int:
    """Cells along an axis that one feature sees."""
    return functools.reduce(lambda seen, block: block.inputs(seen), reversed(blocks), 1)


def sizes(blocks: Sequence[Block], size: int) -> list[int]:
    """What is left of an axis after each block."""
    sizes = []
    for block in blocks:
        size = block.outputs(size)
        sizes.append(size)
    return sizes


def first_conv(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What ``nn.Conv`` calls in the first block, whose input has one channel.

    On a CPU a form for few channels, in a third of the time of XLA's convolution; elsewhere that.
    """
    return few_channel_conv(x, kernel) if on_cpu() else convolve(x, kernel)


def evaluated_block(
    variables: Mapping[str, Any],
    dtype: Any,
    blocks: Sequence[Block],
    index: int,
    y: Float[Array, "slices height width channels"],
) -> Float[Array, "slices rows columns features"]:
    """A block in evaluation, where batch norm is a fixed affine map.

    Bias, ReLU and the affine map are monotone, so they commute with the maximum and run on the few
    numbers that are left by it; under a falling map the largest is the smallest of before, hence
    kernel and maximum take its sign.
    """

    def per_channel(values: Array, dtype: Any) -> Array:
        return jnp.expand_dims(values, (0, 1, 2)).astype(dtype)

    params = variables["params"]
    block = blocks[index]
    kernel = params[f"Conv_{index}"]["kernel"].astype(dtype)
    bias = per_channel(params[f"Conv_{index}"]["bias"], dtype)
    # Without what no window of the pool sees.
    height, width = (block.inputs(block.outputs(size)) for size in y.shape[1:3])
    y = y[:, :height, :width]
    if index:
        # ``loop_conv``, as on a CPU this is in the body of a loop over pieces of slices.
        return nn.relu(max_pool(loop_conv(y, kernel), block.window, block.stride) + bias)
    norm = {**params["BatchNorm_0"], **variables["batch_stats"]["BatchNorm_0"]}
    wide = at_least_float32(dtype)
    norm = {name: per_channel(values, wide) for name, values in norm.items()}
    scale = norm["scale"] * lax.rsqrt(norm["var"] + KERAS_EPSILON)
    sign = jnp.where(scale < 0, -1, 1).astype(dtype)
    y = max_pool(first_conv(y, kernel * sign), block.window, block.stride)
    y = nn.relu(y * sign + bias)
    return ((y - norm["mean"]) * scale + norm["bias"]).astype(dtype)
