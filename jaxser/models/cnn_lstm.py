"""CNN-LSTM: convolutions on slices of a log-mel spectrogram, then an LSTM over the slices.

    model = jaxser.models.build("cnn_lstm", num_classes=5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 261, 128)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, frames, mels] -> [batch, 5]

Source: Facchinetti, Simonetta, Ntalampiras, "A Systematic Evaluation of Adversarial Attacks against
Speech Emotion Recognition Models", 2024, section 2.3 and figure 3. Semantics are those of its
framework, Keras: batch norm after the activation, eps 1e-3, momentum 0.99; Glorot's initialisation,
orthogonal recurrences and a forget bias of 1; one dropout mask for all steps of the LSTM's input.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxser.errors import InputError
from jaxser.models.layers import LSTM, Dense

__all__ = ["CnnLstm", "CnnLstmM0", "CnnLstmM1", "CnnLstmM2", "few_channel_conv", "max_pool"]

_KERAS_EPSILON = 1e-3
_KERAS_MOMENTUM = 0.99

# (channels, kernel, pool window, pool stride) of every convolution
_BLOCKS = ((16, 5, 4, 2), (32, 3, 2, 2), (64, 3, 2, 1))


def max_pool(
    y: Float[Array, "batch height width channels"], window: int, stride: int
) -> Float[Array, "batch rows columns channels"]:
    """Square max-pool without padding, as maxima of blocks and of shifted views.

    Where windows are made of whole blocks of ``stride`` by ``stride``, the blocks' maxima come
    first, once for all windows that share them. The gradient is a sum of slices put back in their
    places; that of ``nn.max_pool`` is a scatter, which is many times slower on a CPU. Equal maxima
    share the gradient, where others give it to the first: after a ReLU those are zeros, whose
    gradient is stopped there anyway.
    """
    if stride > 1 and window % stride == 0:
        batch, height, width, channels = y.shape
        rows, columns = height // stride, width // stride
        y = y[:, : rows * stride, : columns * stride]
        y = y.reshape(batch, rows, stride, columns * stride, channels)
        y = functools.reduce(jnp.maximum, [y[:, :, i] for i in range(stride)])
        y = y.reshape(batch, rows, columns, stride, channels)
        y = functools.reduce(jnp.maximum, [y[:, :, :, i] for i in range(stride)])
        window, stride = window // stride, 1
    for axis in (1, 2):
        last = y.shape[axis] - window
        views = [
            lax.slice_in_dim(y, i, last // stride * stride + i + 1, stride, axis)
            for i in range(window)
        ]
        y = functools.reduce(jnp.maximum, views)
    return y


# Outputs that share a window in few_channel_conv.
_BLOCK = 4


def _convolve(x: Array, kernel: Array) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


@jax.custom_jvp
def few_channel_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
) -> Float[Array, "batch rows columns features"]:
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
        terms.append(_convolve(x, dkernel))
    return out, sum(terms[1:], start=terms[0]) if terms else jnp.zeros_like(out)


few_channel_conv.defjvp(_few_channel_conv_jvp, symbolic_zeros=True)


def _first_conv(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What ``nn.Conv`` calls in the first block, whose input has one channel."""
    cpu = jax.default_backend() == "cpu"
    return few_channel_conv(x, kernel) if cpu else _convolve(x, kernel)


class CnnLstm(nn.Module):
    """The final CNN-LSTM; 3,960,389 numbers at 5 classes and 128 mels, batch statistics included.

    Attributes:
      num_classes: logits per input.
      units: of the LSTM, per direction.
      bidirectional: read the slices backwards too; the last states of both are joined.
      dropout: of the flattened slices.
      lstm_dropout: of the LSTM's input, the same features at every slice.
      slice_frames: frames of a slice; frames after the last whole slice are dropped.
      dtype: computed in; the statistics and the head stay in float32.
    """

    num_classes: int
    units: int = 256
    bidirectional: bool = True
    dropout: float = 0.3
    lstm_dropout: float = 0.2
    slice_frames: int = 29
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch frames mels"], train: bool
    ) -> Float[Array, "batch classes"]:
        """Logits of standardised log-mel spectrograms.

        Raises:
          InputError: the spectrogram is shorter than a slice or has too few bands.
        """
        batch, frames, mels = x.shape
        slices = frames // self.slice_frames
        if not slices or min(_sizes(self.slice_frames)[-1], _sizes(mels)[-1]) < 1:
            raise InputError(
                f"a spectrogram of {frames} frames and {mels} bands is too small for this "
                f"CNN-LSTM; it reads slices of {self.slice_frames} frames, 26 bands at least."
            )
        y = x[:, : slices * self.slice_frames]
        y = y.reshape(batch * slices, self.slice_frames, mels, 1).astype(self.dtype)
        y = self._convolutions(y, train).reshape(batch, slices, -1)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        last = [self._read(y, train, "forward")[:, -1]]
        if self.bidirectional:
            last.append(self._read(y[:, ::-1], train, "backward")[:, -1])
        y = jnp.concatenate(last, axis=1).astype(jnp.promote_types(self.dtype, jnp.float32))
        return Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform())(y)

    def _convolutions(
        self, y: Float[Array, "slices frames mels 1"], train: bool
    ) -> Float[Array, "slices frames bands channels"]:
        for index, (channels, kernel, window, stride) in enumerate(_BLOCKS):
            y = nn.Conv(
                channels,
                (kernel, kernel),
                padding="VALID",
                kernel_init=nn.initializers.glorot_uniform(),
                dtype=self.dtype,
                conv_general_dilated=None if index else _first_conv,
            )(y)
            y = nn.relu(y)
            if index == 0:
                y = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=_KERAS_MOMENTUM,
                    epsilon=_KERAS_EPSILON,
                    dtype=self.dtype,
                )(y)
            y = max_pool(y, window, stride)
        return y

    def _read(
        self, y: Float[Array, "batch slices features"], train: bool, name: str
    ) -> Float[Array, "batch slices units"]:
        masked = nn.Dropout(self.lstm_dropout, broadcast_dims=(1,), deterministic=not train)(y)
        return LSTM(
            self.units,
            kernel_init=nn.initializers.glorot_uniform(),
            bias_init=_forget_bias,
            dtype=self.dtype,
            name=name,
        )(masked)


def _sizes(size: int) -> list[int]:
    """What is left of an axis after each block."""
    sizes = []
    for _, kernel, window, stride in _BLOCKS:
        size = (size - kernel + 1 - window) // stride + 1
        sizes.append(size)
    return sizes


def _forget_bias(
    key: Array, shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None
) -> Array:
    """Zeros, but ones for the forget gate, the second of four (Jozefowicz et al., ICML 2015)."""
    del key, out_sharding
    return jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


class CnnLstmM0(CnnLstm):
    """The paper's first model: three LSTM units, one direction, no dropout of the slices."""

    units: int = 3
    bidirectional: bool = False
    dropout: float = 0.0


class CnnLstmM1(CnnLstm):
    """The paper's M1: three LSTM units in each direction."""

    units: int = 3
    dropout: float = 0.0


class CnnLstmM2(CnnLstm):
    """The paper's M2: six LSTM units in one direction."""

    units: int = 6
    bidirectional: bool = False
    dropout: float = 0.0
