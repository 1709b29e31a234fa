"""Layers that the waveform victims share, written so that their gradients are cheap.

    y = normalise_utterance(x)[..., None]                      # [batch, time, 1]
    y = ConvBlock(64, kernel_size=8, padding=3, pool=10, activation=nn.elu)(y, train=False)
    y = LSTM(256)(y)                                           # [batch, steps, 256]

The semantics are those of the usual convolution, batch norm, activation and max-pool (PyTorch's
defaults: eps 1e-5, momentum 0.1, unbiased running variance, LSTM gates in the order i, f, g, o).
The order of the work is not: see :class:`ConvBlock`. Computed in ``dtype``; statistics, affine
maps and the LSTM's cell in float32 at least.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int8

from jaxser.runtime.errors import InputError

__all__ = [
    "LSTM",
    "ConvBlock",
    "ConvLSTM",
    "Dense",
    "check_waveforms",
    "conv_max_pool",
    "conv_moments",
    "moments",
    "normalise_utterance",
    "on_cpu",
    "recurrence",
    "window_max",
]

NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.1  # share of the newest batch in the running statistics


def on_cpu() -> bool:
    """Whether forms of a computation are wanted that are fast on a CPU, where two are known."""
    return jax.default_backend() == "cpu"


def normalise_utterance(x: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
    """Every row with mean 0 and (unbiased) standard deviation 1; a constant row becomes zeros.

    Differentiable everywhere: the gradient of a constant row is 0, not NaN.
    """
    centred = x - x.mean(axis=1, keepdims=True)
    variance = jnp.sum(centred**2, axis=1, keepdims=True) / (x.shape[1] - 1)
    # The mean of n equal numbers is off by rounding; what is left of them is silence as well.
    peak = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    silent = variance <= (4 * jnp.finfo(x.dtype).eps * peak) ** 2
    return jnp.where(silent, 0.0, centred) * lax.rsqrt(jnp.where(silent, 1.0, variance))


# LeCun's variance for kernels, orthogonal recurrences, no bias to begin with. PyTorch's defaults,
# which the papers' code starts from, have a third of that variance; with Adam's steps of a fixed
# size, kernels that small are overwritten in the first epochs, and with few utterances the victim
# generalises worse to new speakers.
_KERNEL = nn.initializers.lecun_normal()
_BIAS = nn.initializers.zeros


def _recurrent_kernel(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """One orthogonal matrix per gate (Saxe et al., ICLR 2014)."""
    hidden, gates = shape
    square = nn.initializers.orthogonal()
    keys = jax.random.split(key, gates // hidden)
    return jnp.concatenate([square(each, (hidden, hidden), dtype) for each in keys], axis=1)


def _wide(dtype: Any) -> Any:
    """The type for statistics and sums: float32, or float64 where that is asked for."""
    return jnp.promote_types(dtype, jnp.float32)


# --- pooling -------------------------------------------------------------------------------


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
    resolution has to be kept for it, and ties (digital silence) count once.
    """
    return _windows(y, pool).max(axis=2)


@window_max.defjvp
def _window_max_jvp(pool: int, primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (y,), (dy,) = primals, tangents
    views = _windows(y, pool)
    place = _first_argmax([views[:, :, p] for p in range(pool)])
    chosen = place[:, :, None] == jnp.arange(pool, dtype=jnp.int8)[None, None, :, None]
    return window_max(y, pool), jnp.sum(jnp.where(chosen, _windows(dy, pool), 0), axis=2)


# --- batch statistics ----------------------------------------------------------------------


@jax.custom_jvp
def moments(
    y: Float[Array, "batch time channels"],
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Mean and (biased) variance of every channel.

    Differentiated by hand so that the centred signal is never kept.
    """
    return y.mean(axis=(0, 1)), y.var(axis=(0, 1))


@moments.defjvp
def _moments_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (y,), (dy,) = primals, tangents
    mean, variance = moments(y)
    dmean = dy.mean(axis=(0, 1))
    return (mean, variance), (dmean, 2 * ((y * dy).mean(axis=(0, 1)) - mean * dmean))


def conv_moments(
    x: Float[Array, "batch time"], kernel: Float[Array, "size channels"], padding: int
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """:func:`moments` of the convolution of a waveform, without computing the convolution.

    The mean is linear and the variance quadratic in the kernel, so the waveform's means and
    covariances under the taps (``size × size`` numbers) say it all.
    """
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding)))
    steps = x.shape[1] - size + 1
    taps = [x[:, k : k + steps] for k in range(size)]
    means = [tap.mean() for tap in taps]
    lower = {
        (k, m): (taps[k] * taps[m]).mean() - means[k] * means[m]
        for k in range(size)
        for m in range(k + 1)
    }
    covariance = jnp.stack([lower[max(k, m), min(k, m)] for k in range(size) for m in range(size)])
    covariance = covariance.reshape(size, size)
    variance = jnp.sum(kernel * (covariance @ kernel), axis=0)
    return jnp.stack(means) @ kernel, jnp.maximum(variance, 0.0)


# --- convolution of a waveform, pooled -----------------------------------------------------


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
) -> Float[Array, "span pool*channels"]:
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

    A CPU wants pieces that stay in its cache; an accelerator wants all of them.
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

    # Rematerialised: otherwise the one-hot choice would be kept for every sample and channel.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def tangent(frames: Array, place: Array, dframes: Any) -> Array:
        terms = []
        if dframes is not None:
            terms.append(dframes @ toeplitz)
        if dtoeplitz is not None:
            terms.append(frames @ dtoeplitz)
        dy = sum(terms[1:], start=terms[0]).reshape(batch * step, pool, channels)
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


# --- LSTM ----------------------------------------------------------------------------------


def _cell_step(
    hidden: Array, cell: Array, projected: Array, recurrent_kernel: Array
) -> tuple[Array, Array, Array]:
    """One LSTM step: the new hidden state, the new cell and the gates before activation."""
    gates = (projected + hidden @ recurrent_kernel).astype(cell.dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
    hidden = (nn.sigmoid(o) * jnp.tanh(cell)).astype(hidden.dtype)
    return hidden, cell, gates


def _zero_state(projected: Array, recurrent_kernel: Array) -> tuple[Array, Array]:
    shape = (projected.shape[1], recurrent_kernel.shape[0])
    return jnp.zeros(shape, projected.dtype), jnp.zeros(shape, _wide(projected.dtype))


@jax.custom_jvp
def recurrence(
    projected: Float[Array, "steps batch 4*hidden"],
    recurrent_kernel: Float[Array, "hidden 4*hidden"],
) -> Float[Array, "steps batch hidden"]:
    """Hidden states of an LSTM, given the input's part of its gates (order i, f, g, o).

    The derivative by the kernel is one matrix product over all steps; by itself JAX would add
    up an outer product of the kernel's size at every step of the backward loop.
    """

    def step(carry: tuple[Array, Array], projected: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell, _ = _cell_step(*carry, projected, recurrent_kernel)
        return (hidden, cell), hidden

    return lax.scan(step, _zero_state(projected, recurrent_kernel), projected)[1]


def _recurrence_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> Any:
    (projected, kernel), (dprojected, dkernel) = primals, tangents
    start = _zero_state(projected, kernel)

    def step(carry: tuple[Array, Array], projected: Array) -> Any:
        hidden, cell, gates = _cell_step(*carry, projected, kernel)
        return (hidden, cell), (hidden, cell, gates)

    _, (hidden, cell, gates) = lax.scan(step, start, projected)

    def delayed(states: Array) -> Array:
        return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])

    dgates = jnp.zeros_like(projected)
    if not isinstance(dprojected, SymbolicZero):
        dgates = dgates + dprojected
    if not isinstance(dkernel, SymbolicZero):
        dgates = dgates + delayed(hidden) @ dkernel

    # Slopes of the new cell by its gates and of the hidden state by the output gate and the cell.
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    tanh_cell = jnp.tanh(cell)
    slopes = jnp.concatenate(
        [
            g * i * (1 - i),
            delayed(cell) * f * (1 - f),
            i * (1 - g**2),
            tanh_cell * o * (1 - o),
        ],
        axis=-1,
    )

    # Laid out for the backward loop, where its product is twice as fast this way on a CPU.
    transposed = kernel.T

    def tangent(carry: tuple[Array, Array], terms: Any) -> Any:
        dhidden, dcell = carry
        dgates, slopes, by_cell, forget = terms
        recurrent = jnp.einsum("bh,gh->bg", dhidden, transposed)
        moved = (dgates + recurrent).astype(dcell.dtype) * slopes
        by_i, by_f, by_g, by_o = jnp.split(moved, 4, axis=-1)
        dcell = forget * dcell + by_i + by_f + by_g
        dhidden = (by_o + by_cell * dcell).astype(dhidden.dtype)
        return (dhidden, dcell), dhidden

    _, dhidden = lax.scan(tangent, start, (dgates, slopes, o * (1 - tanh_cell**2), f))
    return hidden, dhidden


recurrence.defjvp(_recurrence_jvp, symbolic_zeros=True)


def check_waveforms(name: str, x: Float[Array, "..."], shortest: int) -> None:
    """Refuse what is no batch of waveforms, or shorter than ``shortest`` samples.

    Raises:
      InputError: it says so of the model ``name``.
    """
    if x.ndim != 2:
        raise InputError(
            f"{name} takes waveforms of shape [batch, time], but got an array of shape "
            f"{tuple(x.shape)}; add a batch axis or mix the channels down."
        )
    if x.shape[1] < shortest:
        raise InputError(
            f"{name} needs waveforms of at least {shortest} samples, but got {x.shape[1]}; pad "
            "them or use longer utterances."
        )


# --- modules -------------------------------------------------------------------------------


class ConvBlock(nn.Module):
    """Convolution, batch norm, increasing activation, max-pool (stride = window).

    Pooling comes first here: activation and affine map are monotone, so they commute with the
    maximum (a negative scale turns it into a minimum, hence the kernel takes the scale's sign)
    and run on ``1 / pool`` of the samples. Batch statistics still see every sample.

    Attributes:
      features: channels out.
      kernel_size, padding: of the convolution, in samples.
      pool: window and stride of the max-pool.
      activation: any non-decreasing function.
      dtype: the convolution's type.
    """

    features: int
    kernel_size: int
    padding: int
    pool: int
    activation: Callable[[Array], Array]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time channels"], train: bool
    ) -> Float[Array, "batch windows features"]:
        wide = _wide(self.dtype)
        channels = x.shape[-1]
        per_feature = (self.features,)
        kernel = self.param(
            "kernel", _KERNEL, (self.kernel_size, channels, self.features), self.param_dtype
        )
        bias = self.param("bias", _BIAS, per_feature, self.param_dtype)
        scale = self.param("norm_scale", nn.initializers.ones, per_feature, self.param_dtype)
        shift = self.param("norm_bias", nn.initializers.zeros, per_feature, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, per_feature, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, per_feature, jnp.float32)

        sign = jnp.where(scale < 0, -1, 1).astype(wide)
        kernel = kernel.astype(wide) * sign[None, None]
        if channels == 1:
            wave = x[..., 0].astype(wide)
            pooled = conv_max_pool(wave, kernel[:, 0], self.padding, self.pool)
        else:
            y = lax.conv_general_dilated(
                x.astype(self.dtype),
                kernel.astype(self.dtype),
                window_strides=(1,),
                padding=[(self.padding, self.padding)],
                dimension_numbers=("NWC", "WIO", "NWC"),
            ).astype(wide)
            pooled = window_max(y, self.pool)

        # Up to here without bias, and with the scale's sign.
        if train:
            if channels == 1:
                mean, variance = conv_moments(wave, kernel[:, 0], self.padding)
            else:
                mean, variance = moments(y)
            if not self.is_initializing():
                steps = x.shape[1] + 2 * self.padding - self.kernel_size + 1
                count = x.shape[0] * steps
                new_mean, new_var = mean * sign + bias, variance * (count / (count - 1))
                running_mean.value += NORM_MOMENTUM * (new_mean - running_mean.value)
                running_var.value += NORM_MOMENTUM * (new_var - running_var.value)
        else:
            mean, variance = (running_mean.value - bias) * sign, running_var.value
        # Not |scale|, whose derivative at 0 would be 0 for good.
        slope = sign * scale * lax.rsqrt(variance + NORM_EPSILON)
        y = pooled * slope[None, None] + (shift - mean * slope)[None, None]
        return self.activation(y).astype(self.dtype)


class LSTM(nn.Module):
    """A unidirectional LSTM with one bias, from a zero state.

    The input's part of the gates is one matrix product for all steps; only the recurrent part
    is in the loop.
    """

    features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = _KERNEL
    bias_init: Initializer = _BIAS

    def __call__(
        self, x: Float[Array, "batch steps channels"]
    ) -> Float[Array, "batch steps features"]:
        return self.read(self.project(x.swapaxes(0, 1))).swapaxes(0, 1)

    @nn.compact
    def project(self, x: Float[Array, "... channels"]) -> Float[Array, "... gates"]:
        """The input's part of the gates."""
        gates = 4 * self.features
        input_kernel = self.param(
            "input_kernel", self.kernel_init, (x.shape[-1], gates), self.param_dtype
        )
        self.param("recurrent_kernel", _recurrent_kernel, (self.features, gates), self.param_dtype)
        bias = self.param("bias", self.bias_init, (gates,), self.param_dtype)
        x, input_kernel, bias = (a.astype(self.dtype) for a in (x, input_kernel, bias))
        return x @ input_kernel + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))

    def input_kernel(self) -> Float[Array, "channels gates"]:
        """What :meth:`project` multiplies with."""
        kernel: Array = self.get_variable("params", "input_kernel")
        return kernel.astype(self.dtype)

    def read(
        self, projected: Float[Array, "steps batch gates"]
    ) -> Float[Array, "steps batch features"]:
        """Hidden states of what :meth:`project` made."""
        recurrent_kernel: Array = self.get_variable("params", "recurrent_kernel")
        return recurrence(projected, recurrent_kernel.astype(self.dtype))


class Dense(nn.Module):
    """A linear layer in float32 (at least)."""

    features: int
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = _KERNEL

    @nn.compact
    def __call__(self, x: Float[Array, "batch channels"]) -> Float[Array, "batch features"]:
        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        bias = self.param("bias", _BIAS, (self.features,), self.param_dtype)
        return x @ kernel + bias[None]


class ConvLSTM(nn.Module):
    """Normalised waveform → convolution blocks → two LSTM layers → linear → mean over time.

    Subclasses set ``blocks``: ``(features, kernel_size, padding, pool)`` of each block, and
    ``activation``.

    Attributes:
      num_classes: length of a row of logits.
      dtype: type of convolutions and matrix products; bfloat16 is allowed.
      param_dtype: type of the parameters.
    """

    num_classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    blocks: ClassVar[tuple[tuple[int, int, int, int], ...]]
    hidden: ClassVar[int] = 256

    @staticmethod
    def activation(y: Array) -> Array:
        """The blocks' activation; must not decrease."""
        raise NotImplementedError

    @classmethod
    def shortest_input(cls) -> int:
        """Fewest samples that leave one step after the last pooling."""
        samples = 1
        for _, kernel_size, padding, pool in reversed(cls.blocks):
            samples = samples * pool + kernel_size - 1 - 2 * padding
        return samples

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of waveforms ``x``.

        Args:
          x: waveforms.
          train: normalise by the batch's statistics and update the running ones (the caller
            makes the collection ``batch_stats`` mutable).

        Raises:
          InputError: ``x`` is not a batch of waveforms or is too short for the poolings.
        """
        check_waveforms(type(self).__name__, x, self.shortest_input())
        wide = _wide(self.dtype)
        y = normalise_utterance(x.astype(wide))[..., None]
        for index, (features, kernel_size, padding, pool) in enumerate(self.blocks):
            y = ConvBlock(
                features,
                kernel_size,
                padding,
                pool,
                self.activation,
                self.dtype,
                self.param_dtype,
                name=f"block{index}",
            )(y, train)
        for index in range(2):
            y = LSTM(self.hidden, self.dtype, self.param_dtype, name=f"lstm{index}")(y)
        # The mean of linear outputs is the linear output of the mean.
        return Dense(self.num_classes, self.param_dtype, name="head")(y.astype(wide).mean(axis=1))
