"""CNN-LSTM: convolutions on slices of a log-mel spectrogram, then an LSTM over the slices.

    model = jaxser.models.build("cnn_lstm", num_classes=5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 261, 128)), train=False)
    logits = model.apply(variables, x, train=False)     # x [batch, frames, mels] -> [batch, 5]

Source: Facchinetti, Simonetta, Ntalampiras, "A Systematic Evaluation of Adversarial Attacks against
Speech Emotion Recognition Models", 2024, section 2.3 and figure 3. Semantics are those of its
framework, Keras: batch norm after the activation, eps 1e-3, momentum 0.99; Glorot's initialisation,
orthogonal recurrences and a forget bias of 1; one dropout mask for all steps of the LSTM's input.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from jaxser.cores import available_cores
from jaxser.errors import InputError
from jaxser.models.layers import LSTM, Dense

__all__ = [
    "CnnLstm",
    "CnnLstmEncoding",
    "CnnLstmM0",
    "CnnLstmM1",
    "CnnLstmM2",
    "few_channel_conv",
    "max_pool",
]

_KERAS_EPSILON = 1e-3
_KERAS_MOMENTUM = 0.99

# (channels, kernel, pool window, pool stride) of every convolution
_BLOCKS = ((16, 5, 4, 2), (32, 3, 2, 2), (64, 3, 2, 1))

# Cells of slices that a CPU core takes at once, the first block's 64 bytes for each in its cache.
_CELLS_PER_CORE = 12_000


def _receptive_field() -> tuple[int, int]:
    """Cells along an axis that one feature sees, and from one feature to the next."""
    field = jump = 1
    for _, kernel, window, stride in _BLOCKS:
        field += (kernel + window - 2) * jump
        jump *= stride
    return field, jump


_FIELD, _JUMP = _receptive_field()


def _same(y: Array) -> Array:
    return y


def _backwards(y: Float[Array, "batch slices ..."]) -> Float[Array, "batch slices ..."]:
    return y[:, ::-1]


# How each direction of the LSTM is given the slices.
_ORDERS = (_same, _backwards)


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
    return few_channel_conv(x, kernel) if _on_cpu() else _convolve(x, kernel)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


@jax.custom_vjp
def _conv_in_loop(x: Array, kernel: Array) -> Array:
    """A convolution without padding whose gradient by its input is one as well.

    XLA brings a gradient's convolution into the form that its fast CPU kernel takes, but not
    inside a loop, where it is then ten times slower.
    """
    return _convolve(x, kernel)


def _conv_in_loop_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _conv_in_loop_backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rows, columns = kernel.shape[0] - 1, kernel.shape[1] - 1
    padded = jnp.pad(cotangent, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    by_x = _convolve(padded, kernel[::-1, ::-1].swapaxes(2, 3))
    (by_kernel,) = jax.linear_transpose(functools.partial(_convolve, x), kernel)(cotangent)
    return by_x, by_kernel


_conv_in_loop.defvjp(_conv_in_loop_forward, _conv_in_loop_backward)


def _evaluate(
    variables: Mapping[str, Any], dtype: Any, y: Float[Array, "slices frames mels 1"]
) -> Float[Array, "slices rows bands channels"]:
    """The convolutions in evaluation, where batch norm is a fixed affine map.

    Bias, ReLU and the affine map are monotone, so they commute with the maximum and run on the few
    numbers that are left by it; under a falling map the largest is the smallest of before, hence
    kernel and maximum take its sign.
    """
    params = variables["params"]

    def per_channel(values: Array, dtype: Any) -> Array:
        return jnp.expand_dims(values, (0, 1, 2)).astype(dtype)

    wide = jnp.promote_types(dtype, jnp.float32)
    norm = {**params["BatchNorm_0"], **variables["batch_stats"]["BatchNorm_0"]}
    norm = {name: per_channel(values, wide) for name, values in norm.items()}
    scale = norm["scale"] * lax.rsqrt(norm["var"] + _KERAS_EPSILON)
    sign = jnp.where(scale < 0, -1, 1).astype(dtype)
    for index, (_, size, window, stride) in enumerate(_BLOCKS):
        kernel = params[f"Conv_{index}"]["kernel"].astype(dtype)
        bias = per_channel(params[f"Conv_{index}"]["bias"], dtype)
        # Without what no window of the pool sees.
        seen = [
            (n - size + 1 - window) // stride * stride + window + size - 1 for n in y.shape[1:3]
        ]
        y = y[:, : seen[0], : seen[1]]
        if index:
            y = nn.relu(max_pool(_conv_in_loop(y, kernel), window, stride) + bias)
        else:
            y = nn.relu(max_pool(_first_conv(y, kernel * sign), window, stride) * sign + bias)
            y = ((y - norm["mean"]) * scale + norm["bias"]).astype(dtype)
    return y


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

    def __call__(
        self, x: Float[Array, "batch frames mels"], train: bool
    ) -> Float[Array, "batch classes"]:
        """Logits of standardised log-mel spectrograms.

        Raises:
          InputError: the spectrogram is shorter than a slice or has too few bands.
        """
        layers = self._layers(train)
        batch, slices = x.shape[0], self._slices(x.shape[1:])
        y = self._features(layers, self._cut(x, slices), train).reshape(batch, slices, -1)
        y = layers.dropout(y)
        last = [
            reader(dropout(order(y)))[:, -1]
            for order, dropout, reader in zip(
                _ORDERS, layers.reader_dropouts, layers.readers, strict=False
            )
        ]
        return self._answer(layers, last)

    # --- what a few changed cells do -------------------------------------------------------------

    @nn.nowrap
    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        """Whether :meth:`logits_at` does less than a forward pass for so many cells."""
        width = _FIELD + (_reach(shape[1]) - 1) * _JUMP
        return positions * width < self._slices(shape) * shape[1]

    def encode(self, x: Float[Array, "batch frames mels"]) -> "CnnLstmEncoding":
        """What :meth:`logits_at` needs of spectrograms."""
        layers = self._layers(train=False)
        slices = self._slices(x.shape[1:])
        features = self._features(layers, self._cut(x, slices))
        features = features.reshape(x.shape[0], slices, *features.shape[1:])
        y = features.reshape(*features.shape[:2], -1)
        return CnnLstmEncoding(features, tuple(reader.project(y) for reader in layers.readers))

    def logits_at(
        self,
        x: Float[Array, "batch frames mels"],
        encoding: "CnnLstmEncoding",
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions 1"],
    ) -> Float[Array, "batch candidates classes"]:
        """Logits of copies of encoded spectrograms with a few cells changed.

        A cell is seen by seven bands of its slice's features at most. The convolutions run on the
        cells that those bands see, once per changed cell; of the LSTM, all but the recurrence is
        done for changed slices alone. Nothing is padded, so it is the forward pass but for the
        order of sums.

        Args:
          x: the spectrograms.
          encoding: of ``x``.
          index: changed cells, ``frame * mels + mel``; one that comes twice has the same value.
          values: of these cells.
        """
        layers = self._layers(train=False)
        batch, candidates, positions = index.shape
        _, slices, rows, bands, _ = encoding.features.shape
        reach = _reach(x.shape[2])
        height, width = self.slice_frames, _FIELD + (reach - 1) * _JUMP
        frame, mel = jnp.divmod(index, x.shape[2])
        # Frames after the last whole slice are in no patch.
        at = jnp.minimum(frame // height, slices - 1)
        band = jnp.clip(-((_FIELD - 1 - mel) // _JUMP), 0, bands - reach)

        top, left = at * height, band * _JUMP
        cut = functools.partial(lax.dynamic_slice, slice_sizes=(height, width))
        cut = jax.vmap(jax.vmap(cut, in_axes=(None, 0)), in_axes=(0, 0))
        corners = jnp.stack([top, left], axis=-1).reshape(batch, -1, 2)
        patches = cut(x, corners).reshape(batch, candidates, positions, height * width)
        # Where a patch has each of the candidate's cells; past its end, where it has it not.
        down = frame[:, :, None] - top[..., None]
        right = mel[:, :, None] - left[..., None]
        inside = (down >= 0) & (down < height) & (right >= 0) & (right < width)
        place = jnp.where(inside, down * width + right, height * width)
        grid = jnp.indices(place.shape, sparse=True)[:3]
        patches = patches.at[(*grid, place)].set(values[:, :, None, :, 0], mode="drop")
        patches = patches.reshape(-1, height, width, 1).astype(self.dtype)
        new = self._features(layers, patches)

        shape = (batch, candidates, *encoding.features.shape[1:])
        features = jnp.broadcast_to(encoding.features[:, None], shape)
        row, candidate, _ = jnp.indices(index.shape, sparse=True)
        features = features.at[
            row[..., None, None],
            candidate[..., None, None],
            at[..., None, None],
            jnp.arange(rows)[None, None, None, :, None],
            band[..., None, None] + jnp.arange(reach)[None, None, None, None],
        ].set(new.reshape(batch, candidates, positions, rows, reach, -1))
        if positions < slices:
            features = features[row, candidate, at]
        else:
            at = jnp.broadcast_to(jnp.arange(slices)[None, None], (batch, candidates, slices))
        changed = features.reshape(*features.shape[:3], -1)
        last = []
        for order, reader, gates in zip(_ORDERS, layers.readers, encoding.gates, strict=False):
            copies = jnp.broadcast_to(gates[:, None], (batch, candidates, *gates.shape[1:]))
            copies = copies.at[row, candidate, at].set(reader.project(changed))
            projected = order(copies.reshape(batch * candidates, slices, -1)).swapaxes(0, 1)
            last.append(reader.read(projected)[-1])
        return self._answer(layers, last).reshape(batch, candidates, -1)

    # --- its parts -------------------------------------------------------------------------------

    @nn.compact
    def _layers(self, train: bool) -> "_Layers":
        """The modules, named by their order."""
        convolutions = []
        for index, (channels, kernel, _, _) in enumerate(_BLOCKS):
            convolutions.append(
                nn.Conv(
                    channels,
                    (kernel, kernel),
                    padding="VALID",
                    kernel_init=nn.initializers.glorot_uniform(),
                    dtype=self.dtype,
                    conv_general_dilated=None if index else _first_conv,
                )
            )
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=_KERAS_MOMENTUM,
            epsilon=_KERAS_EPSILON,
            dtype=self.dtype,
        )
        names = ("forward", "backward") if self.bidirectional else ("forward",)
        return _Layers(
            convolutions=tuple(convolutions),
            norm=norm,
            dropout=nn.Dropout(self.dropout, deterministic=not train),
            reader_dropouts=tuple(
                nn.Dropout(self.lstm_dropout, broadcast_dims=(1,), deterministic=not train)
                for _ in names
            ),
            readers=tuple(
                LSTM(
                    self.units,
                    kernel_init=nn.initializers.glorot_uniform(),
                    bias_init=_forget_bias,
                    dtype=self.dtype,
                    name=name,
                )
                for name in names
            ),
            head=Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform()),
        )

    @nn.nowrap
    def _slices(self, shape: tuple[int, ...]) -> int:
        """Whole slices of a spectrogram of ``shape``."""
        frames, mels = shape
        slices = frames // self.slice_frames
        if not slices or min(_sizes(self.slice_frames)[-1], _sizes(mels)[-1]) < 1:
            raise InputError(
                f"a spectrogram of {frames} frames and {mels} bands is too small for this "
                f"CNN-LSTM; it reads slices of {self.slice_frames} frames, {_FIELD} bands at least."
            )
        return slices

    @nn.nowrap
    def _cut(
        self, x: Float[Array, "batch frames mels"], slices: int
    ) -> Float[Array, "slices frames mels 1"]:
        y = x[:, : slices * self.slice_frames]
        return y.reshape(-1, self.slice_frames, x.shape[2], 1).astype(self.dtype)

    @nn.nowrap
    def _features(
        self, layers: "_Layers", y: Float[Array, "slices frames mels 1"], train: bool = False
    ) -> Float[Array, "slices rows bands channels"]:
        """The convolutions of slices, or of patches of them.

        In evaluation, when nothing is counted over a batch, the work is done in another order: see
        :func:`_evaluate`. On a CPU a few slices at a time, so that what a step writes is still in
        the cache when the next one reads it.
        """
        if train or self.is_initializing():
            return layers.features(y)
        evaluate = functools.partial(_evaluate, self.variables, self.dtype)
        count, height, width, _ = y.shape
        most = max(1, _CELLS_PER_CORE * available_cores() // (height * width))
        if not _on_cpu() or count <= most:
            return evaluate(y)
        group = -(-count // -(-count // most))
        pieces = -(-count // group)
        y = jnp.pad(y, ((0, pieces * group - count), (0, 0), (0, 0), (0, 0)))
        # What the gradient needs is made again, while it is in the cache, instead of being kept.
        found = lax.map(jax.checkpoint(evaluate), y.reshape(pieces, group, height, width, 1))
        return found.reshape(pieces * group, *found.shape[2:])[:count]

    @nn.nowrap
    def _answer(
        self, layers: "_Layers", last: Sequence[Float[Array, "batch units"]]
    ) -> Float[Array, "batch classes"]:
        y = jnp.concatenate(last, axis=1).astype(jnp.promote_types(self.dtype, jnp.float32))
        return layers.head(y)


class _Layers(NamedTuple):
    """The modules of a CNN-LSTM; those of its readers by direction."""

    convolutions: tuple[nn.Module, ...]
    norm: nn.Module
    dropout: nn.Module
    reader_dropouts: tuple[nn.Module, ...]
    readers: tuple[LSTM, ...]
    head: nn.Module

    def features(
        self, y: Float[Array, "slices frames mels 1"]
    ) -> Float[Array, "slices rows bands channels"]:
        """The blocks one after the other, as they are trained."""
        blocks = zip(self.convolutions, _BLOCKS, strict=True)
        for index, (convolution, (_, _, window, stride)) in enumerate(blocks):
            y = nn.relu(convolution(y))
            if index == 0:
                y = self.norm(y)
            y = max_pool(y, window, stride)
        return y


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CnnLstmEncoding:
    """Spectrograms as a CNN-LSTM reads them.

    Attributes:
      features: of the slices.
      gates: the slices' part of the LSTM's gates, of each direction.
    """

    features: Float[Array, "batch slices rows bands channels"]
    gates: tuple[Float[Array, "batch slices gates"], ...]


def _sizes(size: int) -> list[int]:
    """What is left of an axis after each block."""
    sizes = []
    for _, kernel, window, stride in _BLOCKS:
        size = (size - kernel + 1 - window) // stride + 1
        sizes.append(size)
    return sizes


def _reach(mels: int) -> int:
    """Bands of the features that see a cell, at most."""
    return min(-(-_FIELD // _JUMP), _sizes(mels)[-1])


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
