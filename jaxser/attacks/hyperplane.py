"""Nearest points of a hyperplane inside a box, per row and without sorting.

    d = project_to_hyperplane(x, normal, gap, x, (-1.0, 1.0), norm="l2")
    # (normal * d).sum() == gap with the smallest L2 norm such that x + d stays inside the bounds

Croce & Hein (ICML 2020), section 3.1 and appendix A, solve these problems after a sort. Here the
multiplier of the plane is found by Newton's method on a concave, piecewise linear function (a
handful of passes, after which it is exact), and the coordinates that an L1 solution spends by a
search for their threshold over the bits of float32, as in ``projections.largest_mask``.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.projections import Bounds, Box, Norm, per_row, row_norm

__all__ = ["fill_largest", "project_to_hyperplane", "room_towards"]

# Newton's steps are monotone and end at the solution; a handful is usual.
_MOST_NEWTON_STEPS = 64


def room_towards(
    direction: Float[Array, "batch ..."],
    point: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    bounds: Box,
) -> Float[Array, "batch ..."]:
    """How far each entry of ``point`` may go along the sign of ``direction``; 0 where that is 0.

    As in ``projections.clip_to_bounds``, a clean value outside the bounds may stay there.
    """
    if bounds is None:
        return jnp.where(direction == 0, 0.0, jnp.inf)
    up = jnp.maximum(x, bounds[1]) - point
    down = point - jnp.minimum(x, bounds[0])
    room = jnp.where(direction > 0, up, jnp.where(direction < 0, down, 0.0))
    return jnp.maximum(room, 0.0)


def project_to_hyperplane(
    point: Float[Array, "batch ..."],
    normal: Float[Array, "batch ..."],
    gap: Float[Array, " batch"],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
    norm: Norm,
) -> Float[Array, "batch ..."]:
    """The smallest ``d`` with ``(normal * d).sum() == gap`` and ``point + d`` inside the bounds.

    Where the box does not reach the plane, ``d`` goes as far as the box allows.

    Args:
      point: where to start, inside the bounds.
      normal: of the plane; a row of zeros stays where it is.
      gap: what ``normal @ point`` lacks, of either sign.
      x: the clean input, for values outside the bounds.
      bounds: valid range of an input, or None.
      norm: "linf", "l2" or "l1", the norm of ``d`` that is smallest.
    """
    largest = row_norm(normal, "linf")
    scale = jnp.where(largest > 0, largest, 1.0)
    side = jnp.where(gap < 0, -1.0, 1.0)
    unit = normal / per_row(scale * side, normal)
    lacking = jnp.abs(gap) / scale
    weights, room = jnp.abs(unit), room_towards(unit, point, x, bounds)
    if norm == "l1":
        amount = fill_largest(weights, room, lacking)
    else:
        speed = weights if norm == "l2" else jnp.ones_like(weights)
        amount = _rising_together(weights, speed, room, lacking)
    return jnp.sign(unit) * amount


def _rising_together(
    weights: Float[Array, "batch ..."],
    speed: Float[Array, "batch ..."],
    room: Float[Array, "batch ..."],
    gap: Float[Array, " batch"],
) -> Float[Array, "batch ..."]:
    """``min(t * speed, room)`` at the time t when its sum weighted by ``weights`` is ``gap``.

    That sum is concave and piecewise linear in t, so Newton's method from 0 never passes the
    solution and ends there once the set of entries without room is right.
    """
    axes = tuple(range(1, weights.ndim))

    def improve(
        carry: tuple[Int[Array, ""], Float[Array, " batch"], Bool[Array, " batch"]],
    ) -> tuple[Int[Array, ""], Float[Array, " batch"], Bool[Array, " batch"]]:
        count, time, _ = carry
        moving = room > per_row(time, room) * speed
        spent = jnp.where(moving, 0.0, weights * room).sum(axis=axes)
        slope = jnp.where(moving, weights * speed, 0.0).sum(axis=axes)
        tangent = jnp.where(slope > 0, (gap - spent) / jnp.where(slope > 0, slope, 1.0), time)
        later = jnp.maximum(tangent, time)
        return count + 1, later, later > time

    def unfinished(
        carry: tuple[Int[Array, ""], Float[Array, " batch"], Bool[Array, " batch"]],
    ) -> Bool[Array, ""]:
        return (carry[0] < _MOST_NEWTON_STEPS) & carry[2].any()

    start = (jnp.int32(0), jnp.zeros_like(gap), jnp.ones(gap.shape, bool))
    _, time, _ = jax.lax.while_loop(unfinished, improve, start)
    return jnp.minimum(per_row(time, room) * speed, room)


def fill_largest(
    weights: Float[Array, "batch ..."],
    room: Float[Array, "batch ..."],
    gap: Float[Array, " batch"],
    surplus: float = 0.0,
) -> Float[Array, "batch ..."]:
    """Entries in the order of falling ``weights`` take all their room until ``gap`` is covered.

    The entry that covers it takes what is left, and ``surplus`` beyond as far as its room goes;
    the others take nothing. Ties go to the lower index. This is the L1 projection, and the linear
    solver of SparseFool (Modas et al., CVPR 2019, algorithm 1).

    Args:
      weights: non-negative; an entry of weight 0 takes nothing.
      room: non-negative, possibly infinite.
      gap: what the weighted amounts shall sum to; nothing is taken where it is not positive.
      surplus: in the units of ``gap``.
    """
    flat = jnp.where(weights > 0, weights, 0.0).reshape(weights.shape[0], -1)
    space = room.reshape(flat.shape)
    # 0 times infinity is no gain.
    gain = jnp.where((flat > 0) & (space > 0), flat * space, 0.0)
    # Floats that are not negative are in the order of their bits, so a search over 31 bits ends at
    # one of the entries exactly, and nothing has to be sorted.
    bits = jax.lax.bitcast_convert_type(flat, jnp.int32)
    index = jnp.arange(flat.shape[1], dtype=jnp.int32)[None, :]

    def covered(taken: Bool[Array, "batch size"]) -> Float[Array, " batch"]:
        # Always the same sum over all entries: with rounding, too, it grows with the set.
        return jnp.where(taken, gain, 0.0).sum(axis=1)

    def lower(i: Int[Array, ""], threshold: Int[Array, " batch"]) -> Int[Array, " batch"]:
        candidate = threshold | (jnp.int32(1) << (30 - i))
        return jnp.where(covered(bits >= candidate[:, None]) >= gap, candidate, threshold)

    # The largest threshold whose entries cover the gap; 0 where all together do not.
    start = jnp.zeros(flat.shape[:1], jnp.int32)
    threshold = jax.lax.fori_loop(0, 31, lower, start)[:, None]
    above, tied = bits > threshold, bits == threshold
    width = max(1, (flat.shape[1] - 1).bit_length())

    def further(i: Int[Array, ""], count: Int[Array, " batch"]) -> Int[Array, " batch"]:
        candidate = count | (jnp.int32(1) << (width - 1 - i))
        before = above | (tied & (index < candidate[:, None]))
        return jnp.where(covered(before) < gap, candidate, count)

    # The largest number of leading indices whose tied entries do not yet cover it.
    last = jax.lax.fori_loop(0, width, further, start)[:, None]
    full = above | (tied & (index < last))
    covering = tied & (index == last) & (flat > 0)
    rest = (gap - covered(full) + surplus)[:, None] / jnp.where(flat > 0, flat, 1.0)
    partial = jnp.where(covering & (gap > 0)[:, None], jnp.minimum(space, rest), 0.0)
    # Where nothing had to be covered, the threshold is above every entry.
    amount = jnp.where(full & (flat > 0), space, partial)
    return amount.reshape(weights.shape)
