"""Norms, directions, projections and random starts, each per row.

    delta = project_linf(delta, epsilon)                 # epsilon: [batch]
    x_adv = clip_to_bounds(x + delta, x, (-1.0, 1.0))
    keep = largest_mask(jnp.abs(gradient), count=6_500)  # exactly 6,500 True per row

``x`` is ``[batch, ...]`` everywhere and the norm runs over all but the first axis, so no result
depends on the batch a row sits in. Everything is float32.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

__all__ = [
    "Bounds",
    "Box",
    "Norm",
    "clip_to_bounds",
    "largest_bits",
    "largest_mask",
    "per_row",
    "project_l0_linf",
    "project_l1",
    "project_l2",
    "project_linf",
    "random_l1",
    "random_l2",
    "random_linf",
    "row_norm",
    "row_sum",
    "sparse_sign",
    "unit_l2",
]

Bounds = tuple[float, float] | None

# Bounds of all samples, or lowest and highest values of each, shaped as the input.
Box = tuple[float | Array, float | Array] | None

Norm = Literal["linf", "l2", "l1", "l0"]


def per_row(values: Array, like: Shaped[Array, "batch ..."]) -> Array:
    """``[batch]`` values with axes of size 1 appended, to broadcast against ``like``."""
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def row_norm(x: Float[Array, "batch ..."], norm: Norm) -> Float[Array, " batch"]:
    """Norm of each row; "l0" counts what is not zero."""
    axes = tuple(range(1, x.ndim))
    if norm == "l0":
        return (x != 0).sum(axis=axes).astype(jnp.float32)
    if norm == "l1":
        return jnp.abs(x).sum(axis=axes)
    largest = jnp.abs(x).max(axis=axes)
    if norm == "linf":
        return largest
    # Scaled by the largest entry, since squares of gradients such as 1e-30 underflow.
    scale = jnp.where(largest > 0, largest, 1.0)
    return scale * jnp.sqrt(jnp.square(x / per_row(scale, x)).sum(axis=axes))


def row_sum(x: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Sum of each row's entries."""
    return x.sum(axis=tuple(range(1, x.ndim)))


def unit_l2(x: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Each row divided by its L2 norm; a row of zeros stays zero."""
    largest = row_norm(x, "linf")
    # Over the largest entry first, so that the norm to divide by lies between one and the root of
    # the row's length: it neither overflows nor loses bits among the subnormal numbers.
    scaled = x / per_row(jnp.where(largest > 0, largest, 1.0), x)
    norm = row_norm(scaled, "l2")
    return scaled / per_row(jnp.where(norm > 0, norm, 1.0), x)


def sparse_sign(
    gradient: Float[Array, "batch ..."],
    at: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    count: int | Int[Array, " batch"],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """Direction of L1 norm 1: the signs of the ``count`` largest entries of the gradient.

    Entries that would push a sample of ``at`` out of the bounds are passed over.
    """
    movable = gradient
    if bounds is not None:
        limit = clip_to_bounds(jnp.where(gradient > 0, jnp.inf, -jnp.inf), x, bounds)
        # ``x + (limit - x)`` is the limit but for rounding.
        rounding = 2.0**-22 * (jnp.abs(limit) + jnp.abs(x))
        movable = jnp.where(jnp.abs(limit - at) > rounding, gradient, 0.0)
    signs = jnp.where(largest_mask(jnp.abs(movable), count), jnp.sign(movable), 0.0)
    return signs / per_row(jnp.maximum(row_norm(signs, "l1"), 1.0), signs)


def project_linf(
    delta: Float[Array, "batch ..."], epsilon: Float[Array, " batch"]
) -> Float[Array, "batch ..."]:
    """Nearest point of the L-infinity ball of radius ``epsilon``."""
    radius = per_row(epsilon, delta)
    return jnp.clip(delta, -radius, radius)


def project_l2(
    delta: Float[Array, "batch ..."], epsilon: Float[Array, " batch"]
) -> Float[Array, "batch ..."]:
    """Nearest point of the L2 ball of radius ``epsilon``."""
    norm = row_norm(delta, "l2")
    shrink = jnp.where(norm > epsilon, epsilon / jnp.where(norm > 0, norm, 1.0), 1.0)
    return delta * per_row(shrink, delta)


def clip_to_bounds(
    x_adv: Float[Array, "batch ..."], x: Float[Array, "batch ..."], bounds: Box
) -> Float[Array, "batch ..."]:
    """``x_adv`` inside the valid range of the input.

    A clean value that already lies outside (resampling overshoots) may stay where it is, but is
    not moved further out: pulling it in would change it by more than the attack was allowed.
    """
    if bounds is None:
        return x_adv
    return jnp.clip(x_adv, jnp.minimum(x, bounds[0]), jnp.maximum(x, bounds[1]))


def largest_bits(
    holds: Callable[[Int[Array, " batch"]], Bool[Array, " batch"]], rows: int
) -> Int[Array, " batch"]:
    """The bits of the largest non-negative float32 for which ``holds``, of each of the rows.

    ``holds`` gets candidates as bits and must be true below some number and false above it; zero is
    the answer where it is never true. Non-negative floats are ordered as their bits are, so setting
    the 31 bits from the highest down is a bisection that ends at the last bit: 31 evaluations
    whatever the scale, no sort, and no tolerance to choose.
    """

    def set_bit(index: Int[Array, ""], bits: Int[Array, " batch"]) -> Int[Array, " batch"]:
        candidate = bits | (jnp.int32(1) << (30 - index))
        return jnp.where(holds(candidate), candidate, bits)

    return jax.lax.fori_loop(0, 31, set_bit, jnp.zeros(rows, jnp.int32))


def largest_mask(
    values: Float[Array, "batch ..."], count: int | Int[Array, " batch"]
) -> Bool[Array, "batch ..."]:
    """True at exactly ``count`` largest of the non-negative ``values`` of each row.

    Ties go to the lower index, and NaN counts as zero. The ``count``-th largest value is found by
    :func:`largest_bits`, so ``count`` may differ from row to row, which ``top_k`` does not allow.
    """
    flat = jnp.where(values > 0, values, 0.0).astype(jnp.float32).reshape(values.shape[0], -1)
    bits = jax.lax.bitcast_convert_type(flat, jnp.int32)
    wanted = jnp.broadcast_to(jnp.minimum(jnp.asarray(count), flat.shape[1]), flat.shape[:1])

    # Compared as integers: as floats, subnormal values would be equal where they are flushed.
    def enough(candidate: Int[Array, " batch"]) -> Bool[Array, " batch"]:
        return (bits >= candidate[:, None]).sum(axis=1) >= wanted

    # The largest threshold that at least `wanted` values reach is the wanted-th largest value.
    threshold = largest_bits(enough, flat.shape[0])[:, None]
    above = bits > threshold
    tied = bits == threshold
    left = (wanted - above.sum(axis=1))[:, None]
    mask = above | (tied & (jnp.cumsum(tied, axis=1) <= left))
    return mask.reshape(values.shape)


def project_l1(
    delta: Float[Array, "batch ..."],
    epsilon: Float[Array, " batch"],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """Nearest point to ``delta`` in the L1 ball of radius ``epsilon`` and, from ``x``, the bounds.

    It is ``sign(delta) * clip(|delta| - shrink, 0, room)`` with the smallest ``shrink`` that brings
    the sum down to ε (Croce & Hein, ICML 2021, proposition 3.1). The sum falls as ``shrink``
    grows, so ``shrink`` is found by :func:`largest_bits`.
    """
    size = jnp.abs(delta)
    far = jnp.where(delta > 0, jnp.inf, -jnp.inf)
    room = jnp.abs(clip_to_bounds(far, x, bounds) - x)

    def shrunk(shrink: Float[Array, " batch"]) -> Float[Array, "batch ..."]:
        return jnp.clip(size - per_row(shrink, size), 0.0, room)

    def outside(bits: Int[Array, " batch"]) -> Bool[Array, " batch"]:
        shrink = jax.lax.bitcast_convert_type(bits, jnp.float32)
        return row_norm(shrunk(shrink), "l1") > epsilon

    # The largest shrink that is too small, and the next number after it; a row that is inside
    # already shrinks by nothing.
    bits = largest_bits(outside, delta.shape[0]) + outside(jnp.zeros(delta.shape[:1], jnp.int32))
    return jnp.sign(delta) * shrunk(jax.lax.bitcast_convert_type(bits, jnp.float32))


def project_l0_linf(
    delta: Float[Array, "batch ..."],
    epsilon: Float[Array, " batch"],
    count: int,
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """Nearest point with at most ``count`` non-zeros inside the L-infinity ball and the bounds.

    Keeping an entry saves ``delta² - (delta - clipped)²`` of squared distance, so the ``count``
    entries with the largest saving are kept, as in Croce & Hein (ICCV 2019, section 4.1).
    """
    clipped = clip_to_bounds(x + project_linf(delta, epsilon), x, bounds) - x
    saving = jnp.square(delta) - jnp.square(delta - clipped)
    return jnp.where(largest_mask(saving, count), clipped, 0.0)


def random_linf(
    keys: Key[Array, " batch"], epsilon: Float[Array, " batch"], like: Float[Array, "batch ..."]
) -> Float[Array, "batch ..."]:
    """A uniform point of each row's L-infinity ball, drawn from the row's own key."""
    shape = like.shape[1:]
    noise = jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)
    return noise * per_row(epsilon, like)


def random_l2(
    keys: Key[Array, " batch"], epsilon: Float[Array, " batch"], like: Float[Array, "batch ..."]
) -> Float[Array, "batch ..."]:
    """A uniform point of each row's L2 ball, drawn from the row's own key."""
    shape = like.shape[1:]
    size = like[0].size

    def direction_and_radius(key: Key[Array, ""]) -> tuple[Array, Array]:
        along, out = jax.random.split(key)
        radius = jax.random.uniform(out) ** (1.0 / size)
        return jax.random.normal(along, shape), radius

    noise, radius = jax.vmap(direction_and_radius)(keys)
    return unit_l2(noise) * per_row(radius * epsilon, like)


def random_l1(
    keys: Key[Array, " batch"], epsilon: Float[Array, " batch"], like: Float[Array, "batch ..."]
) -> Float[Array, "batch ..."]:
    """A uniform point of each row's L1 ball, drawn from the row's own key.

    Exponential variables over their sum, with one more for the distance to the sphere, are
    uniform on the simplex.
    """
    shape = like.shape[1:]

    def draw(key: Key[Array, ""]) -> Float[Array, "..."]:
        along, slack, side = jax.random.split(key, 3)
        amount = jax.random.exponential(along, shape)
        share = amount / (amount.sum() + jax.random.exponential(slack))
        return share * jax.random.rademacher(side, shape, jnp.float32)

    return jax.vmap(draw)(keys) * per_row(epsilon, like)
