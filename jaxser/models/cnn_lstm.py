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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from jaxser.models.conv2d import convolve, few_channel_conv, loop_conv, max_pool
from jaxser.models.layers import LSTM, Dense, on_cpu
from jaxser.runtime.cores import available_cores
from jaxser.runtime.errors import InputError

__all__ = [
    "CnnLstm",
    "CnnLstmEncoding",
    "CnnLstmM0",
    "CnnLstmM1",
    "CnnLstmM2",
]

_KERAS_EPSILON = 1e-3
_KERAS_MOMENTUM = 0.99


class _Block(NamedTuple):
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


_BLOCKS = (_Block(16, 5, 4, 2), _Block(32, 3, 2, 2), _Block(64, 3, 2, 1))

# Cells of slices that a CPU core takes at once, the first block's 64 bytes for each in its cache.
_CELLS_PER_CORE = 12_000

# Maps in a product of _banded_product: few have few bands, many make more of the kernel.
_MAPS_IN_A_PRODUCT = 64


def _receptive_field() -> int:
    """Cells along an axis that one feature sees."""
    return functools.reduce(lambda field, block: block.inputs(field), reversed(_BLOCKS), 1)


_FIELD = _receptive_field()


def _same(y: Array) -> Array:
    return y


def _backwards(y: Float[Array, "batch slices ..."]) -> Float[Array, "batch slices ..."]:
    return y[:, ::-1]


# How each direction of the LSTM is given the slices.
_ORDERS = (_same, _backwards)


def _first_conv(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What ``nn.Conv`` calls in the first block, whose input has one channel."""
    return few_channel_conv(x, kernel) if on_cpu() else convolve(x, kernel)


def _evaluated_block(
    variables: Mapping[str, Any],
    dtype: Any,
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
    block = _BLOCKS[index]
    kernel = params[f"Conv_{index}"]["kernel"].astype(dtype)
    bias = per_channel(params[f"Conv_{index}"]["bias"], dtype)
    # Without what no window of the pool sees.
    height, width = (block.inputs(block.outputs(size)) for size in y.shape[1:3])
    y = y[:, :height, :width]
    if index:
        return nn.relu(max_pool(loop_conv(y, kernel), block.window, block.stride) + bias)
    norm = {**params["BatchNorm_0"], **variables["batch_stats"]["BatchNorm_0"]}
    wide = jnp.promote_types(dtype, jnp.float32)
    norm = {name: per_channel(values, wide) for name, values in norm.items()}
    scale = norm["scale"] * lax.rsqrt(norm["var"] + _KERAS_EPSILON)
    sign = jnp.where(scale < 0, -1, 1).astype(dtype)
    y = max_pool(_first_conv(y, kernel * sign), block.window, block.stride)
    y = nn.relu(y * sign + bias)
    return ((y - norm["mean"]) * scale + norm["bias"]).astype(dtype)


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
        y = self._cut(x, slices)
        if train or self.is_initializing():
            y = layers.features(y)
        else:
            (y,) = self._evaluate(y, slice(-1, None))
        y = y.reshape(batch, slices, -1)
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
        # Changes are laid into each other's squares, which is worth it for 21 of a paper's input.
        return positions * _FIELD < self._slices(shape) * shape[1] // 2

    def encode(self, x: Float[Array, "batch frames mels"]) -> "CnnLstmEncoding":
        """What :meth:`logits_at` needs of spectrograms."""
        layers = self._layers(train=False)
        slices = self._slices(x.shape[1:])
        blocks = self._evaluate(self._cut(x, slices), slice(None))
        blocks = tuple(y.reshape(x.shape[0], slices, *y.shape[1:]) for y in blocks)
        y = blocks[-1].reshape(*blocks[-1].shape[:2], -1)
        return CnnLstmEncoding(blocks, tuple(reader.project(y) for reader in layers.readers))

    def logits_at(
        self,
        x: Float[Array, "batch frames mels"],
        encoding: "CnnLstmEncoding",
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions 1"],
    ) -> Float[Array, "batch candidates classes"]:
        """Logits of copies of encoded spectrograms with a few cells changed.

        A cell moves four by four numbers of a block at most, and seven bands of its slice's
        features. The blocks run on what those see, once per changed cell, and the LSTM's input
        product is of what the features move by; the recurrence is done for all. Nothing is padded,
        so it is the forward pass but for the order of sums.

        Args:
          x: the spectrograms.
          encoding: of ``x``.
          index: changed cells, ``frame * mels + mel``; one that comes twice has the same value.
          values: of these cells.
        """
        layers = self._layers(train=False)
        batch, candidates, positions = index.shape
        slices = encoding.blocks[-1].shape[1]
        frame, mel = jnp.divmod(index, x.shape[2])
        # Frames after the last whole slice are in no patch.
        at = jnp.minimum(frame // self.slice_frames, slices - 1)
        changed = _Changed(
            at=at,
            row=frame - at * self.slice_frames,
            column=mel,
            new=values[..., None, None].astype(self.dtype),
        )
        cells = self._cut(x, slices).reshape(batch, slices, self.slice_frames, x.shape[2], 1)
        for block, y in enumerate((cells, *encoding.blocks[:-1])):
            evaluate = functools.partial(_evaluated_block, self.variables, self.dtype, block)
            changed = changed.through(y, _BLOCKS[block], evaluate)

        moved = changed.differences(encoding.blocks[-1])
        # One product for both directions: the cells are sorted once.
        kernel = jnp.concatenate([reader.input_kernel() for reader in layers.readers], axis=1)
        order, products = _banded_product(moved, changed.column, changed.width, kernel)
        gates = jnp.concatenate(encoding.gates, axis=2)
        gates = jnp.repeat(gates, candidates, axis=0)
        gates = gates.at[order // positions, at.reshape(-1)[order]].add(products)
        last = []
        for direction, reader, projected in zip(
            _ORDERS, layers.readers, jnp.split(gates, len(layers.readers), axis=2), strict=False
        ):
            last.append(reader.read(direction(projected).swapaxes(0, 1))[-1])
        return self._answer(layers, last).reshape(batch, candidates, -1)

    # --- its parts -------------------------------------------------------------------------------

    @nn.compact
    def _layers(self, train: bool) -> "_Layers":
        """The modules, named by their order."""
        convolutions = []
        for index, block in enumerate(_BLOCKS):
            convolutions.append(
                nn.Conv(
                    block.channels,
                    (block.kernel, block.kernel),
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
    def _evaluate(
        self, y: Float[Array, "slices frames mels 1"], kept: slice
    ) -> tuple[Float[Array, "slices rows bands channels"], ...]:
        """What ``kept`` of the blocks make of slices in evaluation, when no batch is counted over.

        On a CPU a few slices at a time, so that what a step writes is still in the cache when the
        next one reads it.
        """

        def of_piece(y: Array) -> tuple[Array, ...]:
            blocks = []
            for block in range(len(_BLOCKS)):
                y = _evaluated_block(self.variables, self.dtype, block, y)
                blocks.append(y)
            return tuple(blocks[kept])

        count, height, width, _ = y.shape
        most = max(1, _CELLS_PER_CORE * available_cores() // (height * width))
        if not on_cpu() or count <= most:
            return of_piece(y)
        group = -(-count // -(-count // most))
        pieces = -(-count // group)
        y = jnp.pad(y, ((0, pieces * group - count), (0, 0), (0, 0), (0, 0)))
        # What the gradient needs is made again, while it is in the cache, instead of being kept.
        found = lax.map(jax.checkpoint(of_piece), y.reshape(pieces, group, height, width, 1))
        return tuple(y.reshape(pieces * group, *y.shape[2:])[:count] for y in found)

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
        for index, (convolution, block) in enumerate(blocks):
            y = nn.relu(convolution(y))
            if index == 0:
                y = self.norm(y)
            y = max_pool(y, block.window, block.stride)
        return y


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CnnLstmEncoding:
    """Spectrograms as a CNN-LSTM reads them.

    Attributes:
      blocks: what each block makes of the slices.
      gates: the slices' part of the LSTM's gates, of each direction.
    """

    blocks: tuple[Float[Array, "batch slices rows bands channels"], ...]
    gates: tuple[Float[Array, "batch slices gates"], ...]


@dataclasses.dataclass(frozen=True)
class _Changed:
    """Squares of maps that are not what they were, one for each changed cell of a candidate.

    Attributes:
      at: slice of the cell.
      row, column: of the slice's map, where the square begins.
      new: what is there now; where squares overlap they agree.
    """

    at: Int[Array, "batch candidates positions"]
    row: Int[Array, "batch candidates positions"]
    column: Int[Array, "batch candidates positions"]
    new: Float[Array, "batch candidates positions height width channels"]

    def through(
        self,
        y: Float[Array, "batch slices height width channels"],
        block: _Block,
        evaluate: Callable[[Array], Array],
    ) -> "_Changed":
        """The squares after a block, whose input was ``y`` before the change."""

        def seen_by(start: Array, length: int, extent: int) -> tuple[Array, int]:
            """The first output that sees a change along an axis, and cells that all of them see."""
            # An output sees this many numbers before the last one that it sees.
            before, outputs = block.inputs(1) - 1, block.outputs(extent)
            changed = min((length + before - 1) // block.stride + 1, outputs)
            first = jnp.clip(-((before - start) // block.stride), 0, outputs - changed)
            return first, block.inputs(changed)

        row, height = seen_by(self.row, self.new.shape[3], y.shape[2])
        column, width = seen_by(self.column, self.new.shape[4], y.shape[3])
        top, left = row * block.stride, column * block.stride
        corners = jnp.stack([self.at, top, left], axis=-1)
        cut = functools.partial(_cut_square, height=height, width=width)
        squares = jax.vmap(jax.vmap(cut, in_axes=(None, 0)))(y, corners.reshape(len(y), -1, 3))
        squares = squares.reshape(*self.at.shape, *squares.shape[2:])
        squares = self._put_into_squares(squares, top, left)
        new = evaluate(squares.reshape(-1, *squares.shape[3:]))
        return _Changed(self.at, row, column, new.reshape(*self.at.shape, *new.shape[1:]))

    def _put_into_squares(
        self,
        squares: Float[Array, "batch candidates positions height width channels"],
        top: Int[Array, "batch candidates positions"],
        left: Int[Array, "batch candidates positions"],
    ) -> Float[Array, "batch candidates positions height width channels"]:
        """Squares of ``y`` that begin at ``top`` and ``left``, with all changes that they see."""
        height, width = squares.shape[3:5]
        down, right = self._places()
        down = down[:, :, None] - top[:, :, :, None, None, None]
        right = right[:, :, None] - left[:, :, :, None, None, None]
        same = (self.at[:, :, None] == self.at[..., None])[..., None, None]
        inside = same & (down >= 0) & (down < height) & (right >= 0) & (right < width)
        # Past the end, where a square has no part of a change.
        place = jnp.where(inside, down * width + right, height * width)
        flat = squares.reshape(*squares.shape[:3], height * width, -1)
        row, candidate, position = jnp.indices(self.at.shape, sparse=True)
        grid = (each[..., None, None, None] for each in (row, candidate, position))
        flat = flat.at[(*grid, place)].set(self.new[:, :, None], mode="drop")
        return flat.reshape(squares.shape)

    def differences(
        self, y: Float[Array, "batch slices height width channels"]
    ) -> Float[Array, "changes height width channels"]:
        """What the squares add to the maps ``y``, each in a map of zeros, and each number once."""
        down, right = self._places()
        row, _, position = (
            each[..., None, None] for each in jnp.indices(self.at.shape, sparse=True)
        )
        added = self.new - y[row, self.at[..., None, None], down, right]
        # Whether an earlier square of the candidate has the number too.
        height, width = self.new.shape[3:5]
        below = down[:, :, :, None] - self.row[:, :, None, :, None, None]
        beyond = right[:, :, :, None] - self.column[:, :, None, :, None, None]
        has = (below >= 0) & (below < height) & (beyond >= 0) & (beyond < width)
        has &= (self.at[..., None] == self.at[:, :, None])[..., None, None]
        has &= position[:, :, None] < position[:, :, :, None]
        added = jnp.where(has.any(axis=3)[..., None], 0, added)
        maps = jnp.zeros((self.at.size, *y.shape[2:]), y.dtype)
        change = jnp.arange(self.at.size)[:, None, None]
        down, right = (each.reshape(-1, *each.shape[3:]) for each in (down, right))
        return maps.at[change, down, right].set(added.reshape(-1, *added.shape[3:]))

    @property
    def width(self) -> int:
        """Columns of a square."""
        return self.new.shape[4]

    def _places(self) -> tuple[Array, Array]:
        """Row and column of every number of the squares."""
        height, width = self.new.shape[3:5]
        down = self.row[..., None, None] + jnp.arange(height)[None, None, None, :, None]
        right = self.column[..., None, None] + jnp.arange(width)[None, None, None, None]
        return down, right


def _banded_product(
    maps: Float[Array, "changes rows bands channels"],
    first: Int[Array, "..."],
    width: int,
    kernel: Float[Array, "inputs gates"],
) -> tuple[Int[Array, " changes"], Float[Array, "changes gates"]]:
    """Products with a kernel of maps that are zero but for ``width`` bands from the ``first`` on.

    On a CPU the maps are taken in the order of their first band, a number of them at a time, which
    then are zero in nearly the same bands, and those are left out.

    Returns:
      order: of the maps.
      products: in that order.
    """
    count, rows, bands, channels = maps.shape
    groups = round(count / _MAPS_IN_A_PRODUCT)
    if not on_cpu() or groups < 2:
        return jnp.arange(count), maps.reshape(count, -1) @ kernel
    order = jnp.argsort(first.reshape(-1))
    group = -(-count // groups)
    # The last map again and again fills the last group.
    padded = jnp.pad(order, (0, -count % group), mode="edge").reshape(-1, group)
    by_band = kernel.reshape(rows, bands, channels, -1).swapaxes(0, 1)
    by_band = by_band.reshape(bands, rows * channels, -1)

    def of_group(index: Int[Array, " group"]) -> Float[Array, "group gates"]:
        group_maps = maps[index].swapaxes(1, 2).reshape(group, bands, rows * channels)

        def add_band(band: Int[Array, ""], total: Array) -> Array:
            in_maps = lax.dynamic_index_in_dim(group_maps, band, axis=1, keepdims=False)
            return total + in_maps @ lax.dynamic_index_in_dim(by_band, band, keepdims=False)

        lowest, highest = (first.reshape(-1)[index[end]] for end in (0, -1))
        zeros = jnp.zeros((group, kernel.shape[1]), maps.dtype)
        return lax.fori_loop(lowest, highest + width, add_band, zeros)

    products = lax.map(of_group, padded)
    return order, products.reshape(-1, kernel.shape[1])[:count]


def _cut_square(
    y: Float[Array, "slices rows columns channels"],
    corner: Int[Array, "3"],
    height: int,
    width: int,
) -> Float[Array, "height width channels"]:
    sizes = (1, height, width, y.shape[3])
    return lax.dynamic_slice(y, (*corner, 0), sizes)[0]


def _sizes(size: int) -> list[int]:
    """What is left of an axis after each block."""
    sizes = []
    for block in _BLOCKS:
        size = block.outputs(size)
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
