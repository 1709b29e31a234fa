"""Windows of the Square attack: how large each query's is, and the bumps that L2 windows hold.

    sides = scheduled_sides(261, 128, share=0.8, norm="linf")           # [levels, 2]
    level = halvings(query, queries=5000, rescale=True)                 # [batch], into ``sides``
    pattern = bumps(row, col, (9, 9), across, bump_table(9))            # L2 norm 1

Andriushchenko et al., "Square Attack", ECCV 2020: its schedule, Algorithm 3 and Equation 2.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.projections import Norm

__all__ = ["bump_table", "bumps", "halvings", "scheduled_sides", "window_sides"]

# The share of the input that a window covers is halved after these queries of 10,000.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SCHEDULE_QUERIES = 10_000


def halvings(query: Int[Array, " batch"], queries: int, rescale: bool) -> Int[Array, " batch"]:
    """How often the window has been halved at a query (from 0)."""
    total = queries if rescale else _SCHEDULE_QUERIES
    # A query counts as ⌊query · 10,000 / total⌋; solved for the query, so that nothing overflows.
    first = [-(-(last + 1) * total // _SCHEDULE_QUERIES) for last in _HALVINGS]
    return (query[:, None] >= jnp.asarray(first)[None, :]).sum(axis=1)


def window_sides(height: int, width: int, share: float, least: int = 1) -> tuple[int, int]:
    """Sides of a window that covers ``share`` of the positions, square where that fits."""
    area = share * height * width
    side = max(round(math.sqrt(area)), least)
    if side > width:
        return min(max(round(area / width), least), height), width
    if side > height:
        return height, min(max(round(area / height), least), width)
    return side, side


def scheduled_sides(height: int, width: int, share: float, norm: Norm) -> Int[Array, "levels 2"]:
    """Sides of the windows, by how often the first one's share of the input has been halved.

    Windows differ from row to row in a batch of one shape, so sides are looked up in this table
    and a window is a mask over the whole input, never a slice.
    """
    shares = [share / 2**times for times in range(len(_HALVINGS) + 1)]
    least = 1 if norm == "linf" else 3
    sides = [window_sides(height, width, share, least) for share in shares]
    if norm == "l2":
        # Odd, so that a window has a middle.
        sides = [(min(h | 1, height), min(w | 1, width)) for h, w in sides]
    return jnp.asarray(sides)


def bump_table(longest: int) -> Float[np.ndarray, " sizes"]:
    """Sums of 1/m² for m up to 0, 1, 2 ...: the profile of Algorithm 3's concentric windows."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, longest + 3) ** 2)])


def _half(row: Array, col: Array, height: Array, width: Array, table: Array) -> Array:
    """Value of Eq. 2's concentric windows at a place of a ``height`` by ``width`` rectangle."""
    top, left = height // 2, width // 2
    away = jnp.maximum(jnp.abs(row - top), jnp.abs(col - left))
    return table[jnp.maximum(top, left) + 1] - table[jnp.minimum(away, table.shape[0] - 1)]


def bumps(
    row: Int[Array, "height 1"],
    col: Int[Array, "1 width"],
    sides: tuple[Array, Array],
    across: Bool[Array, ""],
    table: Float[Array, " sizes"],
) -> Float[Array, "height width"]:
    """Two bumps of opposite sign side by side in a window, of L2 norm 1; zero outside.

    ``row`` and ``col`` count from the window's corner; ``across`` puts the bumps left and right
    instead of above and below.
    """
    height, width = sides
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    along, length = jnp.where(across, col, row), jnp.where(across, width, height)
    other, breadth = jnp.where(across, row, col), jnp.where(across, height, width)
    first = length // 2
    is_first = along < first
    value = jnp.where(
        is_first,
        _half(along, other, first, breadth, table),
        _half(along - first, other, length - first, breadth, table),
    )

    def unit(part: Bool[Array, "height width"]) -> Float[Array, "height width"]:
        kept = jnp.where(part & inside, value, 0.0)
        return kept / jnp.sqrt(jnp.maximum(jnp.square(kept).sum(), 1e-12))

    both = unit(is_first) - unit(~is_first)
    return both / jnp.sqrt(jnp.maximum(jnp.square(both).sum(), 1e-12))
