"""What the decision-based attacks share: a start, the way from it to the boundary, cheap noise.

    class Boundary(DecisionAttack): ...                              # max_steps is its queries
    bits = noise_bits(step_keys(keys, steps + 1), x)                 # [batch, ...], per row
    candidate = start_candidate(bits, tries, x, (-1.0, 1.0))         # the next start to try
    hit, flags = decide(logits_fn, candidate, y, targeted=False)     # one forward pass

A decision-based attack spends one forward pass per proposal, and a proposal needs as many random
numbers as the input has samples, so these come from an integer hash of (row key, position)
instead of from ``jax.random``: that takes a quarter of the time, and gives blockwise constant
(low-frequency) noise for nothing. The hash is the "lowbias32" mixer of C. Wellons' hash
prospector, applied twice, with one word of the key before each.
"""

import dataclasses
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    NON_FINITE,
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    freeze_done,
)
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import Bounds, clip_to_bounds, per_row, row_norm

__all__ = [
    "BISECT",
    "CLEAN",
    "START",
    "ApproachState",
    "DecisionAttack",
    "DecisionState",
    "decide",
    "midway",
    "noise_bits",
    "normal",
    "random_point",
    "start_blocks",
    "start_candidate",
    "stepped_out",
    "uniform",
]

# What a row's next forward pass is for: the clean input, a start, or a point on the way from the
# start to the clean input. An attack numbers its own phases from here on.
CLEAN, START, BISECT = range(3)

# Starts go up this ladder of weights, with each kind of noise on every rung, before the ladder
# begins again: the first that is adversarial is then among the closest.
_RUNGS = 8
# Samples that share a value, as powers of two: white noise, and noise of ever lower frequency.
_BLOCKS = (0, 2, 4, 6)
# Where there are no bounds, the noise of the ladder's n-th time is so many times louder.
_LOUDER = 8.0

# By this share of its perturbation what was found is moved away from the boundary at the end.
_BEYOND = 1e-3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecisionState(AttackState):
    """A search that decisions alone guide.

    Attributes:
      phase: what the next forward pass is for.
      tries: starts tried.
    """

    phase: Int[Array, " batch"]
    tries: Int[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ApproachState(DecisionState):
    """A search whose start is brought to the boundary by bisection; ``x_adv`` is where it stands.

    Attributes:
      low: while bisecting, the share of the way to ``x_adv`` known not to be adversarial.
    """

    low: Float[Array, " batch"]


Approach = TypeVar("Approach", bound=ApproachState)


@dataclasses.dataclass(frozen=True)
class DecisionAttack(MinimalNormAttack):
    """An attack that sees decisions alone, a forward pass of each row at a time.

    Untargeted and targeted; a start is noise of several weights and bandwidths. Targets that no
    noise reaches in ``start_tries`` tries are reported as failures: ``x_adv`` is the clean input. A
    search ends a thousandth of the perturbation beyond the boundary.

    Every row is in a phase of its own, and a step makes one candidate for each whatever its phase,
    so that rows in any phase share a forward pass and none waits for another.

    Attributes:
      queries: forward passes per row, those for the start included; one step spends one.
      start_tries: starts tried before a row is given up.
    """

    # Each attack has these fields where it lists them: fields of this class would come first.
    @property
    def queries(self) -> int:
        raise NotImplementedError

    @property
    def start_tries(self) -> int:
        raise NotImplementedError

    @property
    def max_steps(self) -> int:
        return self.queries

    def approached(
        self, state: Approach, hit: Bool[Array, " batch"], tolerance: float, arrived: int
    ) -> Approach:
        """Book what a pass says of the clean input, a start, or the way from it to the boundary.

        Rows in the attack's own phases keep theirs.

        Args:
          hit: whether the candidate is adversarial.
          tolerance: the way ends when the rest is this share of the distance.
          arrived: the phase of a row that is at the boundary.
        """
        starting, bisecting = state.phase == START, state.phase == BISECT
        tries = state.tries + starting
        # Shares are of the way to ``x_adv``, which a hit has moved to the middle.
        middle = midway(state)
        low = jnp.where(bisecting, jnp.where(hit, state.low / middle, middle), 0.0)
        phase = jnp.where(state.phase == CLEAN, START, state.phase)
        phase = jnp.where(starting & hit, BISECT, phase)
        phase = jnp.where(bisecting & (low >= 1.0 - tolerance), arrived, phase)
        already = (state.phase == CLEAN) & hit
        given_up = starting & ~hit & (tries >= self.start_tries)
        return dataclasses.replace(
            state, phase=phase, tries=tries, low=low, done=state.done | already | given_up
        )

    def advanced(
        self,
        state: Approach,
        new: Approach,
        candidate: Float[Array, "batch ..."],
        taken: Bool[Array, " batch"],
        flags: UInt[Array, " batch"],
    ) -> Approach:
        """``new``, at the candidates that are taken, a query later; a search that ends steps out.

        Args:
          state: before the step.
          new: with all that the attack books itself, rows that it ends included.
          candidate: what the victim was asked about.
          taken: rows that go there.
          flags: of the pass.
        """
        x, queries = state.x, state.queries + 1
        done = new.done | (queries >= self.queries)
        x_adv = jnp.where(per_row(taken, x), candidate, state.x_adv)
        new = dataclasses.replace(
            new,
            x_adv=stepped_out(done, x_adv, x, self.bounds),
            done=done,
            steps=state.steps + 1,
            queries=queries,
            flags=state.flags | flags,
        )
        return freeze_done(state, new)


def midway(state: ApproachState) -> Float[Array, " batch"]:
    """The share of the way to ``x_adv`` that a bisection looks at next."""
    return 0.5 * (1.0 + state.low)


def noise_bits(
    keys: Key[Array, " batch"],
    like: Float[Array, "batch ..."],
    block: Int[Array, " batch"] | None = None,
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


def start_blocks(tries: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """The blocks of :func:`noise_bits` that try number ``tries`` of a start wants."""
    return jnp.asarray(_BLOCKS)[tries % len(_BLOCKS)]


def start_candidate(
    bits: UInt[Array, "batch ..."],
    tries: Int[Array, " batch"],
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
    ended: Bool[Array, " batch"],
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
    y: Int[Array, " batch"],
    targeted: bool,
) -> tuple[Bool[Array, " batch"], UInt[Array, " batch"]]:
    """Whether each candidate is what the attack wants, and flags; one forward pass.

    A candidate without a finite prediction is not adversarial, and its row is flagged.
    """
    predicted = prediction(logits_fn(candidate).astype(jnp.float32))
    flags = (NON_FINITE * (predicted < 0)).astype(jnp.uint32)
    return is_successful(predicted, y, targeted), flags
