"""Max-pools of what a convolution gives, and both as one for a waveform.

    pooled = window_max(y, pool=8)                                # y [batch, time, channels]
    pooled = conv_max_pool(x, kernel, padding=3, pool=10)         # x [batch, time]

Windows do not overlap. In a pooling that is written as a reshape and a maximum the gradient is a
choice; that of ``nn.max_pool`` is a scatter (select-and-scatter), which is slow on every backend.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int8

from jaxser.runtime.forms import on_cpu, on_gpu

__all__ = ["conv_max_pool", "window_max"]


def _first_argmax(values: Sequence[Float[Array, "..."]]) -> Int8[Array, "..."]:
    """Index of the first largest of ``values``, elementwise."""
    best, place = values[0], jnp.zeros(values[0].shape, jnp.int8)
    for index, value in enumerate(values[1:], start=1):
        place = jnp.where(value > best, jnp.int8(index), place)
        best = jnp.maximum(best, value)
    return place


def _windows(
    y: Float[Array, "batch time channels"], pool: int
) -> Float[Array, "batch windows pool channels"]:
    windows = y.shape[1] // pool
    return y[:, : windows * pool].reshape(y.shape[0], windows, pool, y.shape[2])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def window_max(
    y: Float[Array, "batch time channels"], pool: int
) -> Float[Array, "batch windows channels"]:
    """Max-pool with stride = window = ``pool``; samples after the last whole window are dropped.

    The derivative goes to the first largest sample, found as an int8 index: nothing of full
    resolution in floating point has to be kept for it, and ties (digital silence) count once.
    """
    return _windows(y, pool).max(axis=2)


@window_max.defjvp
def _window_max_jvp(pool: int, primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (y,), (dy,) = primals, tangents
    views = _windows(y, pool)
    place = _first_argmax([views[:, :, p] for p in range(pool)])
    # A choice of one in ``pool`` and not a gather, whose transpose is a scatter.
    chosen = place[:, :, None] == jnp.arange(pool, dtype=jnp.int8)[None, None, :, None]
    return window_max(y, pool), jnp.sum(jnp.where(chosen, _windows(dy, pool), 0), axis=2)


def _frames(
    x: Float[Array, "batch time"], size: int, padding: int, pool: int
) -> Float[Array, "batch windows span"]:
    """The ``pool + size − 1`` samples that every pooling window of a convolution sees."""
    windows = (x.shape[1] + 2 * padding - size + 1) // pool
    span = pool + size - 1
    blocks = -(-span // pool)
    length = (windows + blocks) * pool
    x = jnp.pad(x, ((0, 0), (padding, length)))[:, :length]
    x = x.reshape(x.shape[0], windows + blocks, pool)
    shifted = [x[:, block : block + windows] for block in range(blocks)]
    return jnp.concatenate(shifted, axis=-1)[..., :span]


def _samples(
    x: Float[Array, "batch time"], size: int, padding: int, pool: int
) -> list[Float[Array, "batch windows 1"]]:
    """The same, one array for each sample of the frames."""
    span = pool + size - 1
    if on_cpu():
        frames = _frames(x, size, padding, pool)
        return [frames[:, :, sample, None] for sample in range(span)]
    # Each is read in one piece. Windows come last, as a TPU would pad 17 samples there to 128.
    windows = (x.shape[1] + 2 * padding - size + 1) // pool
    length = (windows + -(-span // pool)) * pool
    x = jnp.pad(x, ((0, 0), (padding, length)))[:, :length]
    places = jnp.moveaxis(x.reshape(x.shape[0], -1, pool), 2, 0)
    starts = [divmod(sample, pool) for sample in range(span)]
    return [places[place, :, start : start + windows, None] for start, place in starts]


def _positions(
    samples: Sequence[Float[Array, "batch windows 1"]],
    kernel: Float[Array, "size channels"],
    pool: int,
) -> list[Float[Array, "batch windows channels"]]:
    """The convolution at each position of the pooling windows: sums that XLA fuses."""
    size = kernel.shape[0]
    return [
        sum(
            (samples[p + k] * kernel[None, None, k] for k in range(1, size)),
            start=samples[p] * kernel[None, None, 0],
        )
        for p in range(pool)
    ]


def _toeplitz(
    kernel: Float[Array, "size channels"], pool: int
) -> Float[Array, "span pooled_channels"]:
    """The matrix that takes a frame to the convolution at all its positions."""
    size, channels = kernel.shape
    columns = [jnp.pad(kernel, ((p, pool - 1 - p), (0, 0))) for p in range(pool)]
    return jnp.stack(columns, axis=1).reshape(pool + size - 1, pool * channels)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def conv_max_pool(
    x: Float[Array, "batch time"], kernel: Float[Array, "size channels"], padding: int, pool: int
) -> Float[Array, "batch windows channels"]:
    """``window_max(conv(x), pool)`` for a waveform, without the convolution in memory.

    A waveform has one channel, so a convolution costs fewer multiplications than it writes
    numbers; the maximum over each window is taken in registers instead (one fused loop), which
    is 10–25 × faster on a CPU. The derivative recomputes which sample won. On a CPU it then works
    through the windows in pieces that fit the cache. On an accelerator, too, nothing of the
    convolution's size is written.
    """
    samples = _samples(x, kernel.shape[0], padding, pool)
    return functools.reduce(jnp.maximum, _positions(samples, kernel, pool))


def _conv_max_pool_jvp(
    padding: int, pool: int, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> Any:
    (x, kernel), (dx, dkernel) = primals, tangents
    size = kernel.shape[0]
    out = conv_max_pool(x, kernel, padding, pool)
    # Only what is differentiated is computed: attacks move x, training moves the kernel.
    dx = None if isinstance(dx, SymbolicZero) else dx
    dkernel = None if isinstance(dkernel, SymbolicZero) else dkernel
    nothing_moves = dx is None and dkernel is None
    if nothing_moves or not out.size:  # where no window fits, there are no pieces either
        return out, jnp.zeros_like(out)
    place = _first_argmax(_positions(_samples(x, size, padding, pool), kernel, pool))
    cut: Any = _frames
    form: Any = _in_pieces
    if not on_cpu():
        cut, form = _samples, _at_once if on_gpu() else _by_products
        # With the maximum: else the place is found in the gradient, from the whole convolution.
        place = lax.optimization_barrier(place)
    of_x, of_dx = (None if a is None else cut(a, size, padding, pool) for a in (x, dx))
    return out, form(of_x, kernel, place, of_dx, dkernel, pool)


conv_max_pool.defjvp(_conv_max_pool_jvp, symbolic_zeros=True)


def _piece(batch: int) -> int:
    """How many windows of every row :func:`_in_pieces` takes at once: they stay in the cache."""
    return max(1, 1024 // batch)


def _in_pieces(
    frames: Float[Array, "batch windows span"],
    kernel: Float[Array, "size channels"],
    place: Int8[Array, "batch windows channels"],
    dframes: Float[Array, "batch windows span"] | None,
    dkernel: Float[Array, "size channels"] | None,
    pool: int,
) -> Float[Array, "batch windows channels"]:
    """The tangent of what won, as products with all places of a window at a time.

    Args:
      frames: of the waveform.
      kernel: of the convolution.
      place: of each window's largest number.
      dframes, dkernel: tangents, or None for zeros; not both.
      pool: places in a window.
    """
    channels = kernel.shape[1]
    toeplitz = _toeplitz(kernel, pool)
    dtoeplitz = None if dkernel is None else _toeplitz(dkernel, pool)
    batch, windows, _ = frames.shape
    step = min(_piece(batch), windows)
    pieces = -(-windows // step)

    def cut(a: Array) -> Array:
        a = jnp.pad(a, ((0, 0), (0, pieces * step - windows), (0, 0)))
        a = a.reshape(batch, pieces, step, a.shape[2]).swapaxes(0, 1)
        return a.reshape(pieces, batch * step, a.shape[3])

    # Rematerialised: otherwise the one-hot choice would be kept for every sample and channel. The
    # barriers that keep XLA from merging the second computation with the first are not needed in
    # the body of a loop.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def tangent(frames: Array, place: Array, dframes: Any) -> Array:
        terms = []
        if dframes is not None:
            terms.append(dframes @ toeplitz)
        if dtoeplitz is not None:
            terms.append(frames @ dtoeplitz)
        dy = sum(terms[1:], start=terms[0]).reshape(batch * step, pool, channels)
        # One-hot, as a gather would have a scatter for its transpose. The transpose lays every
        # window's gradient out at all its places, for one product with the matrix.
        chosen = place[:, None] == jnp.arange(pool, dtype=jnp.int8)[None, :, None]
        return jnp.sum(jnp.where(chosen, dy, 0), axis=1)

    moved = None if dframes is None else cut(dframes)
    dout = lax.map(lambda piece: tangent(*piece), (cut(frames), cut(place), moved))
    dout = dout.reshape(pieces, batch, step, channels).swapaxes(0, 1)
    return dout.reshape(batch, pieces * step, channels)[:, :windows]


def _at_once(
    samples: Sequence[Float[Array, "batch windows 1"]],
    kernel: Float[Array, "size channels"],
    place: Int8[Array, "batch windows channels"],
    dsamples: Sequence[Float[Array, "batch windows 1"]] | None,
    dkernel: Float[Array, "size channels"] | None,
    pool: int,
) -> Float[Array, "batch windows channels"]:
    """The same tangent as sums over the samples of a frame; arguments as of :func:`_in_pieces`.

    The tap that a sample meets is a choice by the place that won. In the gradient each sample of
    the frames is one sum over channels, and each tap one over windows: XLA makes the choices within
    these sums, and no array is ``pool`` times as large as the output.
    """
    size = kernel.shape[0]

    def chosen(values: Sequence[Array], first: int) -> Array:
        """Of ``values`` the one at ``place - first``, and zero where there is none."""
        terms = [
            jnp.where(place == index + first, value, 0)
            for index, value in enumerate(values)
            if 0 <= index + first < pool
        ]
        return functools.reduce(jnp.add, terms)

    # Choices are made again for the gradient: kept, they would be as large as the convolution.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def tangent(samples: Any, kernel: Array, dsamples: Any, dkernel: Any) -> Array:
        terms = []
        if dsamples is not None:
            taps = list(kernel[::-1, None, None])
            for sample, moved in enumerate(dsamples):
                terms.append(moved * chosen(taps, sample - size + 1))
        if dkernel is not None:
            for tap in range(size):
                terms.append(chosen(samples[tap : tap + pool], 0) * dkernel[tap, None, None])
        return functools.reduce(jnp.add, terms)

    return tangent(samples, kernel, dsamples, dkernel)


def _by_products(
    samples: Sequence[Float[Array, "batch windows 1"]],
    kernel: Float[Array, "size channels"],
    place: Int8[Array, "batch windows channels"],
    dsamples: Sequence[Float[Array, "batch windows 1"]] | None,
    dkernel: Float[Array, "size channels"] | None,
    pool: int,
) -> Float[Array, "batch windows channels"]:
    """The same tangent as products with all places of a window, whose choice a TPU makes while it
    multiplies; arguments as of :func:`_in_pieces`. Windows are the last axis throughout."""
    channels = kernel.shape[1]

    def product(
        samples: Sequence[Array], kernel: Array
    ) -> Float[Array, "pool channels batch windows"]:
        matrix = _toeplitz(kernel, pool).reshape(-1, pool, channels)
        return jnp.einsum("sbw,spc->pcbw", jnp.stack(samples)[..., 0], matrix)

    # Places are compared again for the gradient: kept, they would be as large as the convolution.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def tangent(samples: Any, kernel: Array, dsamples: Any, dkernel: Any) -> Array:
        terms = []
        if dsamples is not None:
            terms.append(product(dsamples, kernel))
        if dkernel is not None:
            terms.append(product(samples, dkernel))
        dy = functools.reduce(jnp.add, terms)
        places = jnp.arange(pool, dtype=jnp.int8)[:, None, None, None]
        chosen = place.transpose(2, 0, 1)[None] == places
        return jnp.sum(jnp.where(chosen, dy, 0), axis=0).transpose(1, 2, 0)

    return tangent(samples, kernel, dsamples, dkernel)
