"""Convolutions in fewer multiplications, for CPUs: Winograd's minimal filtering in one dimension.

Ten neighbouring inputs make ``11 - size`` outputs with ten products where a plain convolution takes
``size`` for each output: three times fewer at size 5. Less than that is gained, as inputs and
outputs are combined before and after. Source: Lavin & Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016. It rounds about 25 times as much as a plain convolution: by 2e-5 of the
outputs' size.
"""

import functools
import operator
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxser.runtime.forms import on_cpu

__all__ = ["is_faster", "winograd_conv", "winograd_conv_2d", "winograd_kernel"]

# Where the polynomials are evaluated; the tenth point is infinity. Small numbers round least. The
# last pair rounded least of those tried: 3.4 times as much as tiles of eight without it.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.75, -4 / 3)
_COUNT = len(_POINTS) + 1

# Products of channels from which on the combinations are worth it, timed on an AMD EPYC.
_FEWEST_PRODUCTS = 64 * 64


def is_faster(kernel: Float[Array, "size inputs outputs"]) -> bool:
    """Whether :func:`winograd_conv` is the faster one here, and rounds little enough.

    Never on an accelerator, where most of these convolutions wait for memory and not for products,
    nor in half precision, of whose digits it would leave few.
    """
    size, inputs, outputs = kernel.shape
    return (
        on_cpu()
        and kernel.dtype == jnp.float32
        and size in (3, 5)
        and inputs * outputs >= _FEWEST_PRODUCTS
    )


@functools.cache
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of outputs ``[steps, 10]``, kernels ``[10, size]`` and inputs ``[10, 10]``."""

    def values(degree: int) -> np.ndarray:
        infinity = np.eye(1, degree, degree - 1)
        return np.concatenate([np.vander(_POINTS, degree, increasing=True), infinity])

    kernels, inputs = values(size), np.linalg.inv(values(_COUNT)).T
    inputs[np.abs(inputs) < 1e-12] = 0.0
    # A power of two takes nothing from the precision and makes the points' products alike in size.
    scale = 2.0 ** np.round(np.log2(np.abs(kernels).sum(axis=1, keepdims=True)))
    return values(_COUNT + 1 - size).T, kernels / scale, inputs * scale


def _combined(weights: np.ndarray, arrays: Sequence[Array]) -> Array:
    """The weighted sum; what has no weight is not read."""
    terms = [
        array * jnp.asarray(weight, array.dtype)
        for weight, array in zip(weights, arrays, strict=True)
        if weight
    ]
    return functools.reduce(operator.add, terms)


def winograd_kernel(
    kernel: Float[Array, "size inputs outputs"],
) -> list[Float[Array, "inputs outputs"]]:
    """What :func:`winograd_conv` multiplies with: the taps, combined for each of the points.

    It does not depend on the inputs. A kernel of many channels and few inputs to read takes longer
    to combine than to multiply with.
    """
    taps = [tap[0] for tap in lax.split(kernel, [1] * len(kernel), axis=0)]
    return [_combined(of_kernel, taps) for of_kernel in _transforms(len(kernel))[1]]


def winograd_conv(
    x: Float[Array, "batch time inputs"],
    kernel: Sequence[Float[Array, "inputs outputs"]],
    size: int,
    padding: tuple[int, int] = (0, 0),
) -> Float[Array, "batch steps outputs"]:
    """A convolution of every place (a correlation, as in networks), after zeros at both ends.

    Args:
      x: channels last.
      kernel: from :func:`winograd_kernel`.
      size: its taps, at most ten.
      padding: zeros before and after.
    """
    to_outputs, _, to_inputs = _transforms(size)
    step = len(to_outputs)
    batch, time, inputs = x.shape
    outputs = kernel[0].shape[1]
    steps = time + sum(padding) - size + 1
    # One tile more than is needed where steps are whole tiles: what is cut off below is a pad in
    # the gradient. Without one XLA's CPU backend computes the gradient of ``y`` anew for each of
    # the products: 4 to 8 % of a training step.
    tiles = steps // step + 1
    pieces = -(-_COUNT // step)
    whole = (tiles + pieces - 1) * step
    x = jnp.pad(x, ((0, 0), (padding[0], whole - time - padding[0]), (0, 0)))
    # Splits, as their gradients are concatenations; those of slices are sums of padded arrays.
    places = lax.split(x.reshape(batch, -1, step * inputs), [inputs] * step, axis=2)
    read = [
        places[i % step][:, i // step : i // step + tiles].reshape(-1, inputs)
        for i in range(_COUNT)
    ]
    products = [
        _combined(of_inputs, read) @ of_kernel
        for of_inputs, of_kernel in zip(to_inputs, kernel, strict=True)
    ]
    y = jnp.concatenate([_combined(weights, products) for weights in to_outputs], axis=1)
    return y.reshape(batch, tiles * step, outputs)[:, :steps]


def winograd_conv_2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows size inputs outputs"],
    padding: int = 0,
) -> Float[Array, "batch out_height out_width outputs"]:
    """A convolution of every place of images, with ``padding`` zeros all around.

    Filtered in one dimension, along the width; the kernel's rows are more channels of a product.
    In both dimensions there would be fewer multiplications, and more rounding.
    """
    rows, size, inputs, outputs = kernel.shape
    to_outputs, to_kernel, to_inputs = _transforms(size)
    step = len(to_outputs)
    batch, height, width, _ = x.shape
    height, steps = height + 2 * padding - rows + 1, width + 2 * padding - size + 1
    tiles, pieces = -(-steps // step), -(-_COUNT // step)
    whole = (tiles + pieces - 1) * step
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, whole - width - padding), (0, 0)))
    places = lax.split(x.reshape(batch, -1, whole // step, step * inputs), [inputs] * step, axis=3)
    read = [places[i % step][:, :, i // step : i // step + tiles] for i in range(_COUNT)]
    taps = [tap[:, 0] for tap in lax.split(kernel, [1] * size, axis=1)]
    products = []
    for of_inputs, of_kernel in zip(to_inputs, to_kernel, strict=True):
        lines = _combined(of_inputs, read)
        lines = jnp.concatenate([lines[:, row : row + height] for row in range(rows)], axis=3)
        matrix = _combined(of_kernel, taps).reshape(rows * inputs, outputs)
        products.append(lines.reshape(-1, rows * inputs) @ matrix)
    y = jnp.concatenate([_combined(weights, products) for weights in to_outputs], axis=1)
    return y.reshape(batch, height, tiles * step, outputs)[:, :, :steps]
