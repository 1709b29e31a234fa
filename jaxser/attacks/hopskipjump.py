"""HopSkipJump: the boundary's normal estimated from decisions alone.

    attack = HopSkipJump(norm="linf", queries=10_000)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
    result.measures["linf"]                # the smallest perturbations found; ε only thresholds

Source: Chen, Jordan, Wainwright, "HopSkipJumpAttack", S&P 2020, algorithm 2. An iteration
estimates the normal of the boundary from random decisions around a point of it (equation 16), goes
along the normal (L2) or its sign (L∞) by a length that is halved until that succeeds, and comes
back to the boundary by binary search. Every row is at its own point of its own iteration; a step
is one forward pass for each, so no pass is spent on waiting rows.

Three choices keep it sound in float32 on 32,000 samples and more. The radius of the random
decisions is a share ``gamma`` of the L2 distance and the binary search stops at ``gamma / sqrt(d)``
of it in either norm, as ART has it for L2; the d^-1.5 of the authors' code is below what float32
resolves. A length is accepted where the point at the row's best distance in the new direction is
adversarial: one pass then tells that the iteration gains, and the distance never grows. And
where no length gains, the decisions around the point are kept and more of them are added.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import LogitsFn, extended, new_state, step_keys
from jaxser.attacks.decision import (
    BISECT,
    START,
    ApproachState,
    DecisionAttack,
    decide,
    midway,
    noise_bits,
    normal,
    start_blocks,
    start_candidate,
    uniform,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.projections import (
    Norm,
    clip_to_bounds,
    per_row,
    project_l2,
    project_linf,
    row_norm,
    unit_l2,
)

__all__ = ["HopSkipJump", "HopSkipJumpState"]

# At the boundary, a row's next forward pass is for a random decision around it, or for a length of
# the move along its normal.
_ESTIMATE, _MOVE = range(BISECT + 1, BISECT + 3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HopSkipJumpState(ApproachState):
    """An iteration in progress.

    Attributes:
      iteration: lengths were searched so often.
      estimates: how often decisions have been gathered around this point.
      decisions: random decisions around this point.
      hits: how many of them were adversarial.
      halvings: of the current length.
      signed_sum: sum of the random directions, each times its decision, 1 or -1.
      plain_sum: sum of the random directions.
    """

    iteration: Int[Array, " batch"]
    estimates: Int[Array, " batch"]
    decisions: Int[Array, " batch"]
    hits: Int[Array, " batch"]
    halvings: Int[Array, " batch"]
    signed_sum: Float[Array, "batch ..."]
    plain_sum: Float[Array, "batch ..."]


@dataclasses.dataclass(frozen=True)
class HopSkipJump(DecisionAttack):
    """HopSkipJump: minimal L2 or L∞ norm, from decisions alone.

    Attributes:
      norm: "l2" or "linf".
      queries: as for every :class:`DecisionAttack`.
      initial_evaluations: random decisions in the first iteration; iteration t has sqrt(t) times
        as many.
      max_evaluations: most random decisions in an iteration.
      gamma: radius of the random decisions over the L2 distance.
      max_halvings: lengths tried before more decisions are gathered.
      start_tries: as for every :class:`DecisionAttack`.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1]])  # 0.28 is the smallest change in L2
      >>> attack = jaxser.attacks.HopSkipJump(queries=500, initial_evaluations=20)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.25, 0.35])
      >>> result.success[:, 0].tolist(), result.gradients[1, 0].item()
      ([False, True], 0)
    """

    name: ClassVar[str] = "hopskipjump"

    norm: Norm = "l2"
    queries: int = 10_000
    initial_evaluations: int = 100
    max_evaluations: int = 10_000
    gamma: float = 0.01
    max_halvings: int = 8
    start_tries: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            queries=self.queries,
            initial_evaluations=self.initial_evaluations,
            max_evaluations=self.max_evaluations,
            gamma=self.gamma,
            max_halvings=self.max_halvings,
            start_tries=self.start_tries,
        )
        check_choice(self.name, "norm", self.norm, ("l2", "linf"))

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> HopSkipJumpState:
        """Nothing spent; no start yet."""
        state = new_state(keys, x, y, epsilon)
        none = jnp.zeros_like(state.steps)
        return extended(
            state,
            HopSkipJumpState,
            phase=none,
            tries=none,
            low=none.astype(jnp.float32),
            iteration=none,
            estimates=none + 1,
            decisions=none,
            hits=none,
            halvings=none,
            signed_sum=jnp.zeros_like(x),
            plain_sum=jnp.zeros_like(x),
        )

    def step(self, logits_fn: LogitsFn, state: HopSkipJumpState) -> HopSkipJumpState:
        """One forward pass per row."""
        x, phase = state.x, state.phase
        starting, bisecting = phase == START, phase == BISECT
        estimating, moving = phase == _ESTIMATE, phase == _MOVE
        delta = state.x_adv - x
        distance = row_norm(delta, self.norm)
        radius = self.gamma * row_norm(delta, "l2")
        bits = noise_bits(
            step_keys(state.keys, state.steps + 1),
            x,
            jnp.where(starting, start_blocks(state.tries), 0),
        )
        candidate = x + self._within(delta, midway(state) * distance)
        around = state.x_adv + per_row(radius, x) * self._direction(bits)
        candidate = jnp.where(per_row(estimating, x), around, candidate)
        candidate = jnp.where(per_row(moving, x), self._moved(state, distance), candidate)
        candidate = clip_to_bounds(candidate, x, self.bounds)
        start = start_candidate(bits, state.tries, x, self.bounds)
        candidate = jnp.where(per_row(starting, x), start, candidate)
        hit, flags = decide(logits_fn, candidate, state.y, self.targeted)

        new = self.approached(state, hit, self._tolerance(x), arrived=_ESTIMATE)
        # Rounding must not let a move that gains nothing pass for one that does.
        gained = moving & hit & (row_norm(candidate - x, self.norm) < distance)
        stuck = moving & ~gained & (state.halvings + 1 >= self.max_halvings)
        taken = gained | (hit & (starting | bisecting))
        # Bounds cut directions short: what counts is where the victim was asked.
        direction = (candidate - state.x_adv) / per_row(jnp.where(radius > 0, radius, 1.0), x)
        direction = jnp.where(per_row(estimating, x), direction, 0.0)
        signed = state.signed_sum + jnp.where(per_row(hit, x), direction, -direction)
        plain = state.plain_sum + direction
        decisions = state.decisions + estimating
        enough = estimating & (decisions >= state.estimates * self._needed(state.iteration))

        next_phase = jnp.where(gained, BISECT, new.phase)
        next_phase = jnp.where(stuck, _ESTIMATE, next_phase)
        next_phase = jnp.where(enough, _MOVE, next_phase)
        new = dataclasses.replace(
            new,
            phase=next_phase,
            iteration=state.iteration + (gained | stuck),
            estimates=jnp.where(gained, 1, state.estimates + stuck),
            decisions=jnp.where(gained, 0, decisions),
            hits=jnp.where(gained, 0, state.hits + (estimating & hit)),
            halvings=jnp.where(gained | stuck, 0, state.halvings + moving),
            signed_sum=jnp.where(per_row(gained, x), 0.0, signed),
            plain_sum=jnp.where(per_row(gained, x), 0.0, plain),
        )
        return self.advanced(state, new, candidate, taken, flags)

    def _direction(self, bits: Array) -> Float[Array, "batch ..."]:
        """A random direction of L2 length 1: of the sphere, or of the cube for L∞."""
        return unit_l2(uniform(bits) if self.norm == "linf" else normal(bits))

    def _moved(
        self, state: HopSkipJumpState, distance: Float[Array, " batch"]
    ) -> Float[Array, "batch ..."]:
        """The point a little within the best distance, in the direction that the move leads to."""
        x = state.x
        mean = 2.0 * state.hits / jnp.maximum(state.decisions, 1) - 1.0
        # Equation 16: the mean decision is the baseline, unless all decisions agree. It is known
        # only after the last of them; from the two sums it can be taken off then, and none of the
        # directions has to be kept.
        baseline = jnp.where(jnp.abs(mean) < 1.0, mean, 0.0)
        normal_sum = state.signed_sum - per_row(baseline, x) * state.plain_sum
        along = jnp.sign(normal_sum) if self.norm == "linf" else unit_l2(normal_sum)
        length = distance * jax.lax.rsqrt(1.0 + state.iteration)
        length *= jnp.exp2(-state.halvings.astype(jnp.float32))
        ahead = clip_to_bounds(state.x_adv + per_row(length, x) * along, x, self.bounds)
        return x + self._within(ahead - x, (1.0 - self._tolerance(x)) * distance)

    def _within(
        self, offset: Float[Array, "batch ..."], size: Float[Array, " batch"]
    ) -> Float[Array, "batch ..."]:
        """Nearest point of the norm's ball of radius ``size``."""
        if self.norm == "linf":
            return project_linf(offset, size)
        return project_l2(offset, size)

    def _tolerance(self, x: Float[Array, "batch ..."]) -> float:
        """Where the binary search ends, as a share of the distance."""
        return float(self.gamma / x[0].size ** 0.5)

    def _needed(self, iteration: Int[Array, " batch"]) -> Int[Array, " batch"]:
        """Random decisions of an iteration."""
        wanted = self.initial_evaluations * jnp.sqrt(1.0 + iteration)
        return jnp.minimum(wanted, self.max_evaluations).astype(jnp.int32)
