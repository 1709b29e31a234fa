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

from jaxser.models.layers.backend import on_cpu

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


def _positions(
    frames: Float[Array, "batch windows span"], kernel: Float[Array, "size channels"], pool: int
) -> list[Float[Array, "batch windows channels"]]:
    """The convolution at each position of the pooling windows: sums that XLA fuses."""
    size = kernel.shape[0]
    return [
        sum(
            (frames[:, :, p + k, None] * kernel[None, None, k] for k in range(1, size)),
            start=frames[:, :, p, None] * kernel[None, None, 0],
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
    is 10–25 × faster on a CPU. The derivative recomputes which sample won, then works through
    the windows in pieces that fit the cache.
    """
    return functools.reduce(
        jnp.maximum, _positions(_frames(x, kernel.shape[0], padding, pool), kernel, pool)
    )


def _piece(batch: int, windows: int) -> int:
    """How many windows of every row the derivative of :func:`conv_max_pool` takes at once.

    A CPU wants pieces that stay in its cache; an accelerator wants all of them, as pieces are taken
    one after the other.
    """
    return max(1, 1024 // batch) if on_cpu() else windows


def _conv_max_pool_jvp(
    padding: int, pool: int, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> Any:
    (x, kernel), (dx, dkernel) = primals, tangents
    size, channels = kernel.shape
    frames = _frames(x, size, padding, pool)
    place = _first_argmax(_positions(frames, kernel, pool))
    toeplitz = _toeplitz(kernel, pool)
    batch, windows, _ = frames.shape
    step = min(_piece(batch, windows), windows)
    pieces = -(-windows // step)

    def cut(a: Array) -> Array:
        a = jnp.pad(a, ((0, 0), (0, pieces * step - windows), (0, 0)))
        a = a.reshape(batch, pieces, step, a.shape[2]).swapaxes(0, 1)
        return a.reshape(pieces, batch * step, a.shape[3])

    # Only what is differentiated is computed: attacks move x, training moves the kernel.
    dframes = None
    if not isinstance(dx, SymbolicZero):
        dframes = cut(_frames(dx, size, padding, pool))
    dtoeplitz = None
    if not isinstance(dkernel, SymbolicZero):
        dtoeplitz = _toeplitz(dkernel, pool)

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
        # window's gradient out at all its places, for one product with the matrix. A CPU's pieces
        # stay in its cache; on an accelerator that array, ``pool`` times the output, is written.
        chosen = place[:, None] == jnp.arange(pool, dtype=jnp.int8)[None, :, None]
        return jnp.sum(jnp.where(chosen, dy, 0), axis=1)

    out = conv_max_pool(x, kernel, padding, pool)
    if dframes is None and dtoeplitz is None:
        return out, jnp.zeros_like(out)
    dout = lax.map(lambda piece: tangent(*piece), (cut(frames), cut(place), dframes))
    dout = dout.reshape(pieces, batch, step, channels).swapaxes(0, 1)
    dout = dout.reshape(batch, pieces * step, channels)[:, :windows]
    return out, dout


conv_max_pool.defjvp(_conv_max_pool_jvp, symbolic_zeros=True)
