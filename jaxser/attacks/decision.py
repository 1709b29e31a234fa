"""What the decision-based attacks share: noise that is cheap on long inputs, starts, decisions.

    bits = noise_bits(step_keys(keys, steps + 1), x)                 # [batch, ...], per row
    candidate = start_candidate(bits, tries, x, (-1.0, 1.0))         # the next start to try
    hit, flags = decide(logits_fn, candidate, y, targeted=False)     # one forward pass

A decision-based attack spends one forward pass per proposal, and a proposal needs as many random
numbers as the input has samples, so these come from an integer hash of (row key, position)
instead of from ``jax.random``: that takes a quarter of the time, and gives blockwise constant
(low-frequency) noise for nothing. The hash is the "lowbias32" mixer of C. Wellons' hash
prospector, applied twice, with one word of the key before each.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import NON_FINITE, LogitsFn
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import Bounds, clip_to_bounds, per_row, row_norm

__all__ = [
    "decide",
    "noise_bits",
    "normal",
    "random_point",
    "start_blocks",
    "start_candidate",
    "stepped_out",
    "uniform",
]

# Starts go up this ladder of weights, with each kind of noise on every rung, before the ladder
# begins again: the first that is adversarial is then among the closest.
_RUNGS = 8
# Samples that share a value, as powers of two: white noise, and noise of ever lower frequency.
_BLOCKS = (0, 2, 4, 6)
# Where there are no bounds, the noise of the ladder's n-th time is so many times louder.
_LOUDER = 8.0

# By this share of its perturbation what was found is moved away from the boundary at the end.
_BEYOND = 1e-3


def noise_bits(
    keys: Key[Array, "batch"],
    like: Float[Array, "batch ..."],
    block: Int[Array, "batch"] | None = None,
) -> UInt[Array, "batch ..."]:
    """32 random bits per entry, from the row's key and the entry's position alone.

    Args:
      keys: one per row.
      like: an array of the wanted shape.
      block: log2 of the number of neighbours (in memory order) that share their bits; by default
        all entries are independent.
    """
    words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
    position = jnp.arange(like[0].size, dtype=jnp.uint32)[None]
    if block is not None:
        position = position >> block.astype(jnp.uint32)[:, None]
    mixed = _mix(position * jnp.uint32(0x9E3779B9) + words[:, :1])
    return _mix(mixed ^ words[:, 1:]).reshape(like.shape)


def _mix(bits: UInt[Array, "..."]) -> UInt[Array, "..."]:
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def uniform(bits: UInt[Array, "..."]) -> Float[Array, "..."]:
    """Uniform on the open interval (-1, 1): the centres of 2^23 equal cells."""
    return (bits >> 9).astype(jnp.float32) * 2.0**-22 + (2.0**-23 - 1.0)


def normal(bits: UInt[Array, "..."]) -> Float[Array, "..."]:
    """Standard normal, by the inverse of its distribution function."""
    return math.sqrt(2.0) * jax.lax.erf_inv(uniform(bits))


def random_point(
    bits: UInt[Array, "batch ..."], x: Float[Array, "batch ..."], bounds: Bounds
) -> Float[Array, "batch ..."]:
    """A uniform point of the valid range; without one, of the range of the row's own peak."""
    if bounds is not None:
        low, high = bounds
        return (low + high) / 2 + (high - low) / 2 * uniform(bits)
    peak = row_norm(x, "linf")
    return per_row(jnp.where(peak > 0, peak, 1.0), x) * uniform(bits)


def start_blocks(tries: Int[Array, "batch"]) -> Int[Array, "batch"]:
    """The blocks of :func:`noise_bits` that try number ``tries`` of a start wants."""
    return jnp.asarray(_BLOCKS)[tries % len(_BLOCKS)]


def start_candidate(
    bits: UInt[Array, "batch ..."],
    tries: Int[Array, "batch"],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """An input that may be adversarial, to start from: noise blended into the clean input.

    White noise alone reaches few classes of a speech model, so every weight is tried with noise
    of several bandwidths, from the smallest weight (1/128) to noise alone.

    Args:
      bits: random bits, in the blocks of :func:`start_blocks`.
      tries: starts tried before.
      x: the clean inputs.
      bounds: valid range; without one, the noise gets louder each time round.
    """
    again, rung = jnp.divmod(tries // len(_BLOCKS), _RUNGS)
    point = random_point(bits, x, bounds)
    if bounds is None:
        point *= per_row(_LOUDER ** again.astype(jnp.float32), x)
    weight = jnp.exp2((rung + 1 - _RUNGS).astype(jnp.float32))
    return clip_to_bounds(x + per_row(weight, x) * (point - x), x, bounds)


def stepped_out(
    ended: Bool[Array, "batch"],
    x_adv: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """``x_adv``, a thousandth further from ``x``, within ``bounds``, where a search has ended.

    A search that decisions alone guide comes as close to the boundary as rounding lets it, and what
    it ends on is not adversarial to a program that rounds in another way, such as that of another
    batch size. A margin, which would tell, is not for such an attack to see.
    """
    beyond = clip_to_bounds(x_adv + _BEYOND * (x_adv - x), x, bounds)
    return jnp.where(per_row(ended, x), beyond, x_adv)


def decide(
    logits_fn: LogitsFn,
    candidate: Float[Array, "batch ..."],
    y: Int[Array, "batch"],
    targeted: bool,
) -> tuple[Bool[Array, "batch"], UInt[Array, "batch"]]:
    """Whether each candidate is what the attack wants, and flags; one forward pass.

    A candidate without a finite prediction is not adversarial, and its row is flagged.
    """
    predicted = prediction(logits_fn(candidate).astype(jnp.float32))
    flags = (NON_FINITE * (predicted < 0)).astype(jnp.uint32)
    return is_successful(predicted, y, targeted), flags
