"""Strided, transposed and plain convolutions in time, with gradients that are cheap everywhere.

    y = strided_conv(x, laid_out_kernel(kernel), stride=4)               # x [batch, time, channels]
    y = transposed_conv(x, transposed_kernel(kernel, stride=4), size=5, stride=4)

Kernels are laid out apart from their use, as that depends on the parameters alone and can be done
once. What is below was chosen by timing all levels of STAA-Net's published generator on 6 s of
speech.

On an AMD EPYC (batch 1, jax 0.10.2) XLA's stride-1 convolutions reach 90 GFLOP/s, in gradients as
well; Winograd's take half the time from 128 channels on and more time below 64. But the kernel's
gradient took 135 ms instead of 42 for the first strided convolution, and 1.2 to 2.6 s instead of
20 ms for each transposed one, the first of which takes 48 ms forward as well, and 25 as products.

On an NVIDIA H100 (batch 32, bfloat16, jax 0.11.2) all but the deepest levels take as long as
their memory takes to be read and written. Two things did not. cuDNN's convolution of the
waveform, which has one channel, took 0.38 ms; as a sum it is computed where it is read. And
cuDNN's gradients by the kernels of the last transposed convolutions took 362 of a training step's
426 ms; a plain convolution that gives a whole stride of samples at a time has none of that kind.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.forms import on_cpu

__all__ = [
    "convolve",
    "laid_out_kernel",
    "strided_conv",
    "transposed_conv",
    "transposed_kernel",
    "waveform_sums",
]


def laid_out_kernel(kernel: Float[Array, "size inputs outputs"]) -> Array:
    """What :func:`strided_conv` takes; outputs first, as cuDNN wants them, but on a CPU."""
    return kernel if on_cpu() else kernel.transpose(2, 0, 1)


def convolve(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "_ _ _"],
    padding: tuple[int, int] = (0, 0),
    stride: int = 1,
) -> Float[Array, "batch steps outputs"]:
    """Of every ``stride``-th place; ``kernel`` is from :func:`laid_out_kernel`."""
    order = "WIO" if on_cpu() else "OWI"
    return lax.conv_general_dilated(
        x, kernel, (stride,), [padding], dimension_numbers=("NWC", order, "NWC")
    )


def waveform_sums(
    x: Float[Array, "batch time 1"],
    kernel: Float[Array, "size 1 outputs"],
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    """A convolution of one channel, which accelerators fuse into what reads it."""
    # A convolution adds up in float32 whatever its operands are; so does this.
    wide = at_least_float32(x.dtype)
    samples = jnp.pad(x[..., 0].astype(wide), ((0, 0), padding))[..., None]
    steps = samples.shape[1] - len(kernel) + 1
    taps = enumerate(kernel.astype(wide))
    terms = [samples[:, tap : tap + steps] * row[None] for tap, row in taps]
    return functools.reduce(jnp.add, terms).astype(x.dtype)


def _strided(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "_ _ _"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    return convolve(x, kernel, padding, stride)


def _strided_products(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs outputs"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    """The same as one product for every ``stride`` taps and one for each tap that is left."""
    size, inputs, outputs = kernel.shape
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    steps = (x.shape[1] - size) // stride + 1
    blocks = size // stride * stride
    terms = [
        x[:, start : start + steps * stride].reshape(-1, steps, stride * inputs)
        @ kernel[start : start + stride].reshape(stride * inputs, outputs)
        for start in range(0, blocks, stride)
    ]
    last = (steps - 1) * stride + 1
    terms += [x[:, tap : tap + last : stride] @ kernel[tap] for tap in range(blocks, size)]
    return functools.reduce(jnp.add, terms)


def _tangent(
    by_input: Any, by_kernel: Any, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> Array:
    """Of a convolution, by forms of it whose transposes are cheap.

    Only what is differentiated is computed: attacks move x, training moves the kernel.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    if isinstance(dkernel, SymbolicZero):
        return by_input(jnp.zeros_like(x) if isinstance(dx, SymbolicZero) else dx, kernel)
    of_kernel = by_kernel(x, dkernel)
    return of_kernel if isinstance(dx, SymbolicZero) else by_input(dx, kernel) + of_kernel


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def strided_conv(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "_ _ _"],
    stride: int,
    padding: tuple[int, int] = (0, 0),
) -> Float[Array, "batch steps outputs"]:
    """A convolution of every ``stride``-th place, after zeros at both ends (``padding``).

    On a CPU its gradients are matrix products. ``size`` must be ``stride`` at least, and ``kernel``
    is from :func:`laid_out_kernel`.
    """
    return _strided(x, kernel, stride, padding)


# A ``custom_jvp`` whose tangents are linear forms of our choice: JAX transposes those, so reverse
# mode gets products where it would get XLA's convolutions, and forward mode works as well.
def _strided_jvp(stride: int, padding: tuple[int, int], primals: Any, tangents: Any) -> Any:
    form = _strided_products if on_cpu() else _strided
    form = functools.partial(form, stride=stride, padding=padding)
    return strided_conv(*primals, stride, padding), _tangent(form, form, primals, tangents)


strided_conv.defjvp(_strided_jvp, symbolic_zeros=True)


def transposed_kernel(kernel: Float[Array, "size inputs outputs"], stride: int) -> Any:
    """What :func:`transposed_conv` takes: ``stride`` taps side by side at a time.

    On a CPU one matrix for each time, else a kernel for :func:`convolve`.
    """
    if on_cpu():
        blocks = [kernel[start : start + stride] for start in range(0, len(kernel), stride)]
        return [block.transpose(1, 0, 2).reshape(kernel.shape[1], -1) for block in blocks]
    size, inputs, outputs = kernel.shape
    times = -(-size // stride)
    kernel = jnp.pad(kernel, ((0, times * stride - size), (0, 0), (0, 0)))
    kernel = kernel.reshape(times, stride, inputs, outputs)[::-1]
    return kernel.transpose(1, 3, 0, 2).reshape(stride * outputs, times, inputs)


def transposed_conv(
    x: Float[Array, "batch steps inputs"],
    kernel: Any,
    size: int,
    stride: int,
    crop: tuple[int, int] = (0, 0),
) -> Float[Array, "batch time outputs"]:
    """Every step laid down as ``size`` samples, ``stride`` apart, and what overlaps added.

    ``(steps - 1) * stride + size`` samples, less ``crop`` at both ends.

    Args:
      x: channels last.
      kernel: from :func:`transposed_kernel`.
      size: its taps.
      stride: samples from one step to the next.
      crop: samples to leave out before and after.
    """
    # Neither form is XLA's own, an input dilated by the stride: its gradient by the kernel is what
    # took most of a step, see the head of this file.
    batch, steps, _ = x.shape
    time = (steps - 1) * stride + size - sum(crop)
    # Rows of ``stride`` samples, without those that are cropped off as a whole.
    first, last = crop[0] // stride, -(-(crop[0] + time) // stride)
    if isinstance(kernel, list):
        rows = _rows_by_products(x, kernel, stride, first, last)
    else:
        rows = convolve(x, kernel, (kernel.shape[1] - 1 - first, last - steps))
    skipped = crop[0] - first * stride
    return rows.reshape(batch, (last - first) * stride, -1)[:, skipped : skipped + time]


def _rows_by_products(
    x: Float[Array, "batch steps inputs"],
    taps: Sequence[Float[Array, "inputs _"]],
    stride: int,
    first: int,
    last: int,
) -> Float[Array, "batch rows stride outputs"]:
    """One product for every ``stride`` taps, each added a step later than the last."""
    batch, steps, inputs = x.shape
    outputs = taps[0].shape[1] // stride
    terms = []
    for block, of_block in enumerate(taps):
        begin, end = first - block, last - block
        read = x[:, max(begin, 0) : min(end, steps)]
        read = jnp.pad(read, ((0, 0), (max(-begin, 0), max(end - steps, 0)), (0, 0)))
        products = (read.reshape(-1, inputs) @ of_block).reshape(batch, last - first, -1, outputs)
        terms.append(products if products.shape[2] == stride else _laid_out(products, stride))
    return functools.reduce(jnp.add, terms)


def _laid_out(
    products: Float[Array, "batch rows taps outputs"], stride: int
) -> Float[Array, "batch rows stride outputs"]:
    """Zeros where there is no tap; a choice, which XLA's CPU backend does faster than padding."""
    place = jnp.arange(stride)[None, None, :, None]
    taps = range(products.shape[2])
    terms = [jnp.where(place == tap, products[:, :, tap : tap + 1], 0) for tap in taps]
    return functools.reduce(jnp.add, terms)
