"""The schedule by which ART's BoundaryAttack walks, for ``Boundary(compat="art")``.

    walk = ARTSchedule(samples=20, trials=25, iterations=5_000, ...)
    state = walk.init(new_state(keys, x, y, epsilon))
    state = walk.step(logits_fn, state)                  # ``samples`` forward passes per row

Adversarial Robustness Toolbox, ``art.attacks.evasion.BoundaryAttack``, after Brendel, Rauber,
Bethge, ICLR 2018. It starts from a uniform point of the valid range, which it does not bring to the
boundary first, tries several steps of one length at a time, and adapts that length to how many of
them were adversarial.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import AttackState, LogitsFn, extended, freeze_done, step_keys
from jaxser.attacks.decision import (
    CLEAN,
    START,
    DecisionState,
    decide,
    noise_bits,
    normal,
    random_point,
)
from jaxser.attacks.projections import Bounds, clip_to_bounds, per_row

__all__ = ["ARTBoundaryState", "ARTSchedule", "sample_noise"]

# With a start, a row's next forward passes are for a trial of spherical steps, or of steps towards
# the clean input.
_SPHERICAL, _SOURCE = range(START + 1, START + 3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ARTBoundaryState(DecisionState):
    """A walk by ART's schedule.

    Attributes:
      iteration: pairs of a spherical and a source trial that succeeded.
      trial: trials of the current kind that failed.
      rounds: spherical trials so far, each with noise of its own.
      spherical_step, source_step: lengths over the distance to the clean input.
      used_step: the spherical step of the last spherical trial.
      satisfied: which of that trial's samples were adversarial.
    """

    iteration: Int[Array, " batch"]
    trial: Int[Array, " batch"]
    rounds: Int[Array, " batch"]
    spherical_step: Float[Array, " batch"]
    source_step: Float[Array, " batch"]
    used_step: Float[Array, " batch"]
    satisfied: Bool[Array, "batch samples"]


@dataclasses.dataclass(frozen=True)
class ARTSchedule:
    """ART's walk; :class:`jaxser.attacks.boundary.Boundary` says what its fields are.

    Attributes:
      spherical_step, source_step: first lengths of the two kinds of steps.
    """

    targeted: bool
    bounds: Bounds
    spherical_step: float
    source_step: float
    step_adaptation: float
    start_tries: int
    iterations: int
    trials: int
    samples: int

    @property
    def max_steps(self) -> int:
        """The clean input, the starts, and as many trials of either kind as iterations may take."""
        return 1 + -(-self.start_tries // self.samples) + 2 * self.iterations * self.trials

    def init(self, state: AttackState) -> ARTBoundaryState:
        """Nothing spent; no start yet."""
        none = jnp.zeros_like(state.steps)
        spherical_step = jnp.full(none.shape, self.spherical_step, jnp.float32)
        return extended(
            state,
            ARTBoundaryState,
            spherical_step=spherical_step,
            source_step=jnp.full(none.shape, self.source_step, jnp.float32),
            phase=none,
            tries=none,
            iteration=none,
            trial=none,
            rounds=none,
            used_step=spherical_step,
            satisfied=jnp.zeros((*none.shape, self.samples), bool),
        )

    def step(self, logits_fn: LogitsFn, state: ARTBoundaryState) -> ARTBoundaryState:
        """One trial: ``samples`` forward passes per row, not all of which a row may need.

        A row without a start tries as many points at once and takes the first that will do.
        """
        x, phase = state.x, state.phase
        clean, starting = phase == CLEAN, phase == START
        spherical, source = phase == _SPHERICAL, phase == _SOURCE
        around = self._spherical(state)
        nearer = around + per_row(state.source_step, around) * (x[:, None] - around)
        samples = jnp.where(per_row(source, around), nearer, around)
        samples = jnp.where(per_row(starting, around), self._starts(state), samples)
        samples = jnp.where(per_row(clean, around), x[:, None], samples)
        samples = _clip_samples(samples, x, self.bounds)
        flat = samples.reshape(-1, *x.shape[1:])
        hits, flags = decide(logits_fn, flat, jnp.repeat(state.y, self.samples), self.targeted)
        hits = hits.reshape(-1, self.samples)
        flags = jnp.bitwise_or.reduce(flags.reshape(-1, self.samples), axis=1)

        place = jnp.arange(self.samples)[None]
        left = state.tries[:, None] + place < self.start_tries
        counted = jnp.where(source[:, None], state.satisfied, left | ~starting[:, None])
        adversarial = hits & counted
        first = jnp.where(adversarial, place, self.samples).min(axis=1)
        tried = jnp.minimum(first + 1, counted.sum(axis=1))
        used = jnp.where(clean, 1, jnp.where(starting, tried, counted.sum(axis=1)))
        rate = adversarial.sum(axis=1) / counted.sum(axis=1).astype(jnp.float32)
        change = jnp.where(rate > 0.5, self.step_adaptation, 1.0)
        change = jnp.where(rate < 0.2, 1.0 / self.step_adaptation, change)
        worked = adversarial.any(axis=1)
        trial = jnp.where(worked | clean | starting, 0, state.trial + 1)
        exhausted = trial >= self.trials
        # Out of trials towards the clean input, ART returns the best of the spherical trial.
        settled = source & ~worked & exhausted
        kept = jnp.where(per_row(settled, samples), around, samples)
        allowed = jnp.where(settled[:, None], state.satisfied, adversarial)
        distance = jnp.sqrt(jnp.square(kept - x[:, None]).sum(axis=tuple(range(2, kept.ndim))))
        rank = jnp.where(starting[:, None], place.astype(distance.dtype), distance)
        best = jnp.where(allowed, rank, jnp.inf).argmin(axis=1)
        chosen = jnp.take_along_axis(kept, per_row(best, kept), axis=1)[:, 0]
        found = starting & worked
        taken = found | (source & worked) | settled
        tries = state.tries + jnp.where(starting, tried, 0)
        iteration = state.iteration + (source & worked)
        next_phase = jnp.where(clean, START, jnp.where(found, _SPHERICAL, phase))
        next_phase = jnp.where(spherical & worked, _SOURCE, next_phase)
        next_phase = jnp.where(source & worked, _SPHERICAL, next_phase)
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(taken, x), chosen, state.x_adv),
            done=(clean & worked)
            | (starting & ~worked & (tries >= self.start_tries))
            | exhausted
            | (iteration >= self.iterations),
            steps=state.steps + 1,
            queries=state.queries + used,
            flags=state.flags | flags,
            phase=next_phase,
            tries=tries,
            iteration=iteration,
            trial=trial,
            rounds=state.rounds + (source & worked) + (spherical & ~worked),
            spherical_step=state.spherical_step * jnp.where(spherical, change, 1.0),
            source_step=state.source_step * jnp.where(source, change, 1.0),
            used_step=jnp.where(spherical, state.spherical_step, state.used_step),
            satisfied=jnp.where(spherical[:, None], hits, state.satisfied),
        )
        return freeze_done(state, new)

    def _starts(self, state: ARTBoundaryState) -> Float[Array, "batch samples ..."]:
        """The next few uniform points of the valid range."""

        def start(place: Int[Array, ""]) -> Float[Array, "batch ..."]:
            bits = noise_bits(step_keys(state.keys, state.tries + place), state.x)
            return random_point(bits, state.x, self.bounds)

        return jax.vmap(start, out_axes=1)(jnp.arange(self.samples))

    def _spherical(self, state: ARTBoundaryState) -> Float[Array, "batch samples ..."]:
        """The samples of the current round: in a source trial, those of the spherical one again.

        The noise is scaled before its radial part is taken out, as ART does.
        """
        # Made again from the same keys and the same length rather than kept, which would put
        # ``samples`` inputs per row into the state.
        x = state.x
        keys = step_keys(state.keys, self.start_tries + state.rounds)
        like = jnp.broadcast_to(x[:, None], (len(x), self.samples, *x.shape[1:]))
        noise = sample_noise(keys, like).reshape(len(x), self.samples, -1)
        delta = (state.x_adv - x).reshape(len(x), 1, -1)
        distance = jnp.sqrt(jnp.square(delta).sum(axis=2, keepdims=True))
        along = delta / jnp.where(distance > 0, distance, 1.0)
        length = jnp.where(state.phase == _SOURCE, state.used_step, state.spherical_step)
        length = length[:, None, None]
        noise *= length * distance / jnp.sqrt(jnp.square(noise).sum(axis=2, keepdims=True))
        noise -= (noise * along).sum(axis=2, keepdims=True) * along
        moved = ((delta + noise) * jax.lax.rsqrt(1.0 + jnp.square(length))).reshape(like.shape)
        return _clip_samples(like + moved, x, self.bounds)


def sample_noise(
    keys: Key[Array, " batch"], like: Float[Array, "batch samples ..."]
) -> Float[Array, "batch samples ..."]:
    """Standard normal noise for several candidates per row."""
    each = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))(
        keys, jnp.arange(like.shape[1])
    )
    flat = like.reshape(-1, *like.shape[2:])
    return normal(noise_bits(each.reshape(-1), flat)).reshape(like.shape)


def _clip_samples(
    samples: Float[Array, "batch samples ..."],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch samples ..."]:
    """:func:`clip_to_bounds` for several candidates per row."""
    return jax.vmap(clip_to_bounds, in_axes=(1, None, None), out_axes=1)(samples, x, bounds)
