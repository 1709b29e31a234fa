"""What a few changed cells of an input do to the maps of a convolutional network.

    changed = ChangedCells(at, row, column, new)                  # one square of 1 by 1 for each
    for y, block in zip(maps, blocks):
        changed = changed.through(y, block, evaluate)             # larger squares of smaller maps
    moved = changed.differences(last_map)

A candidate of an attack on few pixels differs from the clean input in a few cells. Only the outputs
that see one are computed, from squares cut out of the clean input's maps.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxser.models.cnn_lstm_blocks import Block
from jaxser.runtime.forms import on_cpu

__all__ = ["ChangedCells", "banded_product"]

# Maps in a product of banded_product: few have few bands, many make more of the kernel.
_MAPS_IN_A_PRODUCT = 64


@dataclasses.dataclass(frozen=True)
class ChangedCells:
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
        block: Block,
        evaluate: Callable[[Array], Array],
    ) -> "ChangedCells":
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
        return ChangedCells(self.at, row, column, new.reshape(*self.at.shape, *new.shape[1:]))

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


def banded_product(
    maps: Float[Array, "changes rows bands channels"],
    first: Int[Array, "..."],
    width: int,
    kernel: Float[Array, "inputs gates"],
) -> tuple[Int[Array, " changes"], Float[Array, "changes gates"]]:
    """Products with a kernel of maps that are zero but for ``width`` bands from the ``first`` on.

    On a CPU the maps are taken in the order of their first band, a number of them at a time, which
    then are zero in nearly the same bands, and those are left out. On an accelerator one product of
    everything: the products of bands would be a loop of small ones, each after the last.

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
