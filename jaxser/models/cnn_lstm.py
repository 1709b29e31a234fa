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
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from jaxser.models.changed_cells import ChangedCells, banded_product
from jaxser.models.cnn_lstm_blocks import (
    BLOCKS,
    KERAS_EPSILON,
    Block,
    evaluated_block,
    field,
    first_conv,
    sizes,
)
from jaxser.models.layers.conv2d import max_pool
from jaxser.models.layers.dense import Dense
from jaxser.models.layers.feature_map import feature_map
from jaxser.models.layers.lstm import LSTM, read_together
from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.cores import available_cores
from jaxser.runtime.errors import InputError
from jaxser.runtime.forms import on_cpu

__all__ = ["CnnLstm", "CnnLstmEncoding"]

_KERAS_MOMENTUM = 0.99


# Cells of slices that a CPU core takes at once, the first block's 64 bytes for each in its cache.
_CELLS_PER_CORE = 12_000


def _same(y: Array) -> Array:
    return y


def _backwards(y: Float[Array, "batch slices ..."]) -> Float[Array, "batch slices ..."]:
    return y[:, ::-1]


# How each direction of the LSTM is given the slices.
_ORDERS = (_same, _backwards)


class CnnLstm(nn.Module):
    """The final CNN-LSTM; 3,960,389 numbers at 5 classes and 128 mels, batch statistics included.

    Attributes:
      num_classes: logits per input.
      units: of the LSTM, per direction.
      bidirectional: read the slices backwards too; the last states of both are joined.
      dropout: of the flattened slices.
      lstm_dropout: of the LSTM's input, the same features at every slice.
      slice_frames: frames of a slice; frames after the last whole slice are dropped.
      blocks: convolutions, each with the max-pool of what it gives.
      dtype: computed in; the statistics and the head stay in float32.
    """

    num_classes: int
    units: int = 256
    bidirectional: bool = True
    dropout: float = 0.3
    lstm_dropout: float = 0.2
    slice_frames: int = 29
    blocks: tuple[Block, ...] = BLOCKS
    dtype: Any = jnp.float32

    def __call__(
        self, x: Float[Array, "batch frames mels"], train: bool
    ) -> Float[Array, "batch classes"]:
        """Logits of standardised log-mel spectrograms.

        Raises:
          InputError: the spectrogram is shorter than a slice or has too few bands.
        """
        layers = self._layers(train)
        return layers.head(self._read(layers, x, train))

    def embed(
        self, x: Float[Array, "batch frames mels"], train: bool
    ) -> Float[Array, "batch hidden"]:
        """What the last linear layer reads: the last states of all directions."""
        return self._read(self._layers(train), x, train)

    @nn.nowrap
    def _read(
        self, layers: "_Layers", x: Float[Array, "batch frames mels"], train: bool
    ) -> Float[Array, "batch hidden"]:
        batch, slices = x.shape[0], self._slices(x.shape[1:])
        y = self._cut(x, slices)
        # Statistics of a batch need every number before the pool, so training keeps the paper's
        # order; in evaluation they are constants, and pooling comes first.
        if train or self.is_initializing():
            y = layers.features(y)
        else:
            (y,) = self._evaluate(y, slice(-1, None))
            # Slices follow each other in time, and so do the rows of their maps.
            y = feature_map(self, y, slices * y.shape[1], y.shape[2])
        y = y.reshape(batch, slices, -1)
        y = layers.dropout(y)
        projected = [
            reader.project(dropout(order(y)).swapaxes(0, 1))
            for order, dropout, reader in zip(
                _ORDERS, layers.reader_dropouts, layers.readers, strict=False
            )
        ]
        return self._joined(layers, projected)

    # --- what a few changed cells do -------------------------------------------------------------

    @nn.nowrap
    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        """Whether :meth:`logits_at` does less than a forward pass for so many cells."""
        # Changes are laid into each other's squares, which is worth it for 21 of a paper's input.
        return positions * field(self.blocks) < self._slices(shape) * shape[1] // 2

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
        changed = ChangedCells(
            at=at,
            row=frame - at * self.slice_frames,
            column=mel,
            new=values[..., None, None].astype(self.dtype),
        )
        cells = self._cut(x, slices).reshape(batch, slices, self.slice_frames, x.shape[2], 1)
        for block, y in enumerate((cells, *encoding.blocks[:-1])):
            evaluate = functools.partial(
                evaluated_block, self.variables, self.dtype, self.blocks, block
            )
            changed = changed.through(y, self.blocks[block], evaluate)

        moved = changed.differences(encoding.blocks[-1])
        # One product for both directions: the cells are sorted once.
        kernel = jnp.concatenate([reader.input_kernel() for reader in layers.readers], axis=1)
        order, products = banded_product(moved, changed.column, changed.width, kernel)
        gates = jnp.concatenate(encoding.gates, axis=2)
        gates = jnp.repeat(gates, candidates, axis=0)
        gates = gates.at[order // positions, at.reshape(-1)[order]].add(products)
        projected = [
            order(of_reader).swapaxes(0, 1)
            for order, of_reader in zip(
                _ORDERS, jnp.split(gates, len(layers.readers), axis=2), strict=False
            )
        ]
        return layers.head(self._joined(layers, projected)).reshape(batch, candidates, -1)

    # --- its parts -------------------------------------------------------------------------------

    @nn.compact
    def _layers(self, train: bool) -> "_Layers":
        """The modules, named by their order."""
        convolutions = []
        for index, block in enumerate(self.blocks):
            convolutions.append(
                nn.Conv(
                    block.channels,
                    (block.kernel, block.kernel),
                    padding="VALID",
                    kernel_init=nn.initializers.glorot_uniform(),
                    dtype=self.dtype,
                    conv_general_dilated=None if index else first_conv,
                )
            )
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=_KERAS_MOMENTUM,
            epsilon=KERAS_EPSILON,
            dtype=self.dtype,
        )
        names = ("forward", "backward") if self.bidirectional else ("forward",)
        return _Layers(
            blocks=self.blocks,
            convolutions=tuple(convolutions),
            norm=norm,
            dropout=nn.Dropout(self.dropout, deterministic=not train),
            reader_dropouts=tuple(
                # One mask for all steps, as Keras has it.
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
    def frames_read(self, frames: int) -> int:
        """How many of so many frames are in a slice: from the first on, all but a few."""
        return frames // self.slice_frames * self.slice_frames

    @nn.nowrap
    def _slices(self, shape: tuple[int, ...]) -> int:
        """Whole slices of a spectrogram of ``shape``."""
        frames, mels = shape
        slices = frames // self.slice_frames
        left = [min(sizes(self.blocks, size)) for size in (self.slice_frames, mels)]
        if not slices or min(left) < 1:
            raise InputError(
                f"a spectrogram of {frames} frames and {mels} bands is too small for this "
                f"CNN-LSTM; it reads slices of {self.slice_frames} frames, "
                f"{field(self.blocks)} bands at least."
            )
        return slices

    @nn.nowrap
    def _cut(
        self, x: Float[Array, "batch frames mels"], slices: int
    ) -> Float[Array, "cut slice_frames mels 1"]:
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
            for block in range(len(self.blocks)):
                y = evaluated_block(self.variables, self.dtype, self.blocks, block, y)
                blocks.append(y)
            return tuple(blocks[kept])

        # An accelerator takes them all: pieces would be computed one after the other.
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
    def _joined(
        self, layers: "_Layers", projected: Sequence[Float[Array, "slices batch gates"]]
    ) -> Float[Array, "batch hidden"]:
        """Last states by the slices' part of the gates, each reader's in the order it reads."""
        last = [states[-1] for states in read_together(layers.readers, projected)]
        return jnp.concatenate(last, axis=1).astype(at_least_float32(self.dtype))


class _Layers(NamedTuple):
    """The modules of a CNN-LSTM; those of its readers by direction."""

    blocks: tuple[Block, ...]
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
        blocks = zip(self.convolutions, self.blocks, strict=True)
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


def _forget_bias(
    key: Array, shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None
) -> Array:
    """Zeros, but ones for the forget gate, the second of four (Jozefowicz et al., ICML 2015)."""
    del key, out_sharding
    return jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)
