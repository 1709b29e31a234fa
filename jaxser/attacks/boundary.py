"""The Boundary attack: a walk along the decision boundary that needs nothing but decisions.

    attack = Boundary(queries=5_000)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.5, 1.0, 2.0])
    result.measures["l2"]                  # the smallest perturbations found; ε only thresholds

Source: Brendel, Rauber, Bethge, "Decision-Based Adversarial Attacks", ICLR 2018, section 2. A
proposal is a random step on the sphere around the clean input through the best adversarial input,
then a step towards the clean input; it is taken when it is adversarial. The lengths of both steps
follow the row's own success rates, as a trust region's radius does.

A row's search for a start, its way to the boundary and its walk take one forward pass per step
each, so rows in any of them share a batch. Peers differ: Foolbox' statistics need 300 and 1,000
proposals before the first adaptation and ART's start stays where it is; see ``compat``.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import LogitsFn, extended, new_state, step_keys
from jaxser.attacks.boundary_art import ARTBoundaryState, ARTSchedule
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
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row, row_norm
from jaxser.runtime.errors import UsageError

__all__ = ["Boundary", "BoundaryState"]

# At the boundary, a row's next forward pass is for a proposal, for the spherical step of a proposal
# alone, or for that proposal as a whole once its spherical step was adversarial.
_WALK, _CHECK, _FOLLOW = range(BISECT + 1, BISECT + 4)

# The success rates that steps are kept within. A proposal can only succeed where its spherical
# step does, so it is asked for half as much.
_SPHERICAL_RATES = (0.2, 0.5)
_SOURCE_RATES = (0.1, 0.25)

# The way from the start to the boundary ends when the rest is this share of the distance.
_LOCATED = 0.01


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BoundaryState(ApproachState):
    """A walk in progress.

    Attributes:
      proposals: proposals made.
      spherical_step, source_step: lengths over the distance to the clean input.
      spherical_trials, spherical_hits: outcomes since the spherical step was last looked at.
      source_trials, source_hits: outcomes since the source step was last looked at.
    """

    proposals: Int[Array, " batch"]
    spherical_step: Float[Array, " batch"]
    source_step: Float[Array, " batch"]
    spherical_trials: Int[Array, " batch"]
    spherical_hits: Int[Array, " batch"]
    source_trials: Int[Array, " batch"]
    source_hits: Int[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class Boundary(DecisionAttack):
    """Boundary attack: minimal L2 norm, from decisions alone.

    ART's schedule does not step out beyond the boundary at the end.

    Attributes:
      queries: as for every :class:`DecisionAttack`.
      spherical_step: first length of the step on the sphere, over the distance; None: 0.1, from
        which the adaptation gets where it belongs sooner than from the usual 0.01, or ART's 0.01.
      source_step: first length of the step towards the clean input, over the distance.
      source_step_convergence: a row whose source step gets shorter than this is done.
      step_adaptation: factor by which steps are lengthened or shortened.
      check_every: one in so many proposals shows its spherical step alone first.
      spherical_window, source_window: outcomes after which each step is looked at.
      start_tries: as for every :class:`DecisionAttack`.
      compat: "art" for the schedule of ART's BoundaryAttack, which starts from a uniform point of
        the valid range and tries ``samples`` steps at a time with the same length. ART's
        ``delta``, ``epsilon`` and ``init_size`` are ``spherical_step``, ``source_step`` and
        ``start_tries``, its ``step_adapt`` is ``1 / step_adaptation``. Of the other fields, it
        only knows the following, which the default does not use.
      iterations: ART's ``max_iter``; in place of ``queries``.
      trials: ART's ``num_trial``.
      samples: ART's ``sample_size``.

    Examples:
      It starts from noise that another class is seen in, and walks towards the clean input.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1]])  # 0.28 is the smallest change in L2
      >>> attack = jaxser.attacks.Boundary(queries=500)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.25, 0.35])
      >>> result.success[:, 0].tolist(), result.gradients[1, 0].item()
      ([False, True], 0)
    """

    name: ClassVar[str] = "boundary"

    queries: int = 5_000
    spherical_step: float | None = None
    source_step: float = 0.01
    source_step_convergence: float = 1e-7
    step_adaptation: float = 1.5
    check_every: int = 5
    spherical_window: int = 10
    source_window: int = 20
    start_tries: int = 100
    compat: Literal["art"] | None = None
    iterations: int = 5_000
    trials: int = 25
    samples: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            queries=self.queries,
            spherical_step=self.spherical_step,
            source_step=self.source_step,
            source_step_convergence=self.source_step_convergence,
            check_every=self.check_every,
            spherical_window=self.spherical_window,
            source_window=self.source_window,
            start_tries=self.start_tries,
            iterations=self.iterations,
            trials=self.trials,
            samples=self.samples,
        )
        if not 1 < self.step_adaptation < float("inf"):
            raise UsageError(
                f"{self.name}: step_adaptation must be finite and above 1, "
                f"not {self.step_adaptation!r}."
            )
        check_choice(self.name, "compat", self.compat, (None, "art"))

    @property
    def first_spherical_step(self) -> float:
        """Length of a row's first step on the sphere, over the distance."""
        if self.spherical_step is None:
            return 0.01 if self.compat == "art" else 0.1
        return self.spherical_step

    @property
    def max_steps(self) -> int:
        return self._art_schedule.max_steps if self.compat == "art" else super().max_steps

    @property
    def epsilon_norm(self) -> Norm:
        return "l2"

    @property
    def forward_rows(self) -> int:
        return self.samples if self.compat == "art" else 1

    @property
    def _art_schedule(self) -> ARTSchedule:
        return ARTSchedule(
            targeted=self.targeted,
            bounds=self.bounds,
            spherical_step=self.first_spherical_step,
            source_step=self.source_step,
            step_adaptation=self.step_adaptation,
            start_tries=self.start_tries,
            iterations=self.iterations,
            trials=self.trials,
            samples=self.samples,
        )

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> BoundaryState | ARTBoundaryState:
        """Nothing spent; no start yet."""
        state = new_state(keys, x, y, epsilon)
        if self.compat == "art":
            return self._art_schedule.init(state)
        none = jnp.zeros_like(state.steps)
        return extended(
            state,
            BoundaryState,
            spherical_step=jnp.full(none.shape, self.first_spherical_step, jnp.float32),
            source_step=jnp.full(none.shape, self.source_step, jnp.float32),
            phase=none,
            tries=none,
            low=none.astype(jnp.float32),
            proposals=none,
            spherical_trials=none,
            spherical_hits=none,
            source_trials=none,
            source_hits=none,
        )

    def step(
        self, logits_fn: LogitsFn, state: BoundaryState | ARTBoundaryState
    ) -> BoundaryState | ARTBoundaryState:
        """One forward pass per row, or one trial of ART's schedule."""
        if isinstance(state, ARTBoundaryState):
            return self._art_schedule.step(logits_fn, state)
        candidate = self._candidate(state)
        hit, flags = decide(logits_fn, candidate, state.y, self.targeted)
        new = self.approached(state, hit, _LOCATED, arrived=_WALK)
        new = self._walk(new, state, hit)
        # In theory a proposal is closer by construction; rounding must not undo that.
        closer = row_norm(candidate - state.x, "l2") < row_norm(state.x_adv - state.x, "l2")
        proposed = (state.phase == _WALK) | (state.phase == _FOLLOW)
        searched = (state.phase == START) | (state.phase == BISECT)
        taken = hit & (searched | (proposed & closer))
        converged = new.source_step < self.source_step_convergence
        new = dataclasses.replace(new, done=new.done | converged)
        return self.advanced(state, new, candidate, taken, flags)

    def _candidate(self, state: BoundaryState) -> Float[Array, "batch ..."]:
        """What the next forward pass is for, in whichever phase a row is.

        Points between the clean input and ``x_adv``, and steps on the sphere, are all the clean
        input plus ``along`` times the perturbation plus ``across`` times noise: two numbers per row
        tell the phases apart, and noise that is tangent to the sphere is never written out.
        """
        x, phase = state.x, state.phase
        axes = tuple(range(1, x.ndim))
        starting = phase == START
        # A checked proposal is made again from the same noise.
        steps = state.steps + (phase != _FOLLOW)
        blocks = jnp.where(starting, start_blocks(state.tries), 0)
        bits = noise_bits(step_keys(state.keys, steps), x, blocks)
        noise = normal(bits)
        delta = state.x_adv - x
        distance = row_norm(delta, "l2")
        inverse = 1.0 / jnp.where(distance > 0, distance, 1.0)
        radial = inverse * (noise * delta).sum(axis=axes)
        tangential = jnp.sqrt(jnp.square(noise).sum(axis=axes) - jnp.square(radial))
        across = state.spherical_step * distance / jnp.where(tangential > 0, tangential, 1.0)
        along = 1.0 - across * radial * inverse
        back_on_sphere = jax.lax.rsqrt(1.0 + jnp.square(state.spherical_step))
        walking = (phase == _WALK) | (phase == _CHECK) | (phase == _FOLLOW)
        along = jnp.where(walking, along * back_on_sphere, midway(state))
        across = jnp.where(walking, across * back_on_sphere, 0.0)
        moved = x + per_row(along, x) * delta + per_row(across, x) * noise
        offset = clip_to_bounds(moved, x, self.bounds) - x
        # Bounds may have brought it closer than the source step wants it.
        reached, wanted = row_norm(offset, "l2"), (1.0 - state.source_step) * distance
        shrink = walking & (phase != _CHECK) & (reached > wanted)
        share = jnp.where(shrink, wanted / jnp.where(reached > 0, reached, 1.0), 1.0)
        candidate = clip_to_bounds(x + per_row(share, x) * offset, x, self.bounds)
        start = start_candidate(bits, state.tries, x, self.bounds)
        return jnp.where(per_row(starting, x), start, candidate)

    def _walk(
        self, new: BoundaryState, state: BoundaryState, hit: Bool[Array, " batch"]
    ) -> BoundaryState:
        """Book what the pass says about a proposal, and adapt the steps."""
        checking = state.phase == _CHECK
        # A proposal whose spherical step fails is not made: it counts as a failure.
        over = (state.phase == _WALK) | (state.phase == _FOLLOW) | (checking & ~hit)
        proposals = state.proposals + over
        next_phase = jnp.where((proposals + 1) % self.check_every == 0, _CHECK, _WALK)
        phase = jnp.where(over, next_phase, new.phase)
        phase = jnp.where(checking & hit, _FOLLOW, phase)

        spherical_trials = state.spherical_trials + checking
        spherical_hits = state.spherical_hits + (checking & hit)
        source_trials = state.source_trials + over
        source_hits = state.source_hits + (over & ~checking & hit)
        change = self._change(
            spherical_trials, spherical_hits, self.spherical_window, _SPHERICAL_RATES
        )
        source_change = self._change(source_trials, source_hits, self.source_window, _SOURCE_RATES)
        spherical_full = spherical_trials >= self.spherical_window
        # A changed spherical step takes the source step along and makes its outcomes outdated.
        source_full = (source_trials >= self.source_window) | (change != 1.0)
        return dataclasses.replace(
            new,
            phase=phase,
            proposals=proposals,
            spherical_step=state.spherical_step * change,
            source_step=state.source_step * change * source_change,
            spherical_trials=jnp.where(spherical_full, 0, spherical_trials),
            spherical_hits=jnp.where(spherical_full, 0, spherical_hits),
            source_trials=jnp.where(source_full, 0, source_trials),
            source_hits=jnp.where(source_full, 0, source_hits),
        )

    def _change(
        self,
        trials: Int[Array, " batch"],
        hits: Int[Array, " batch"],
        window: int,
        rates: tuple[float, float],
    ) -> Float[Array, " batch"]:
        """Factor of a step whose outcomes fill the window: longer where it succeeds often."""
        low, high = rates
        longer = (trials >= window) & (hits > high * trials)
        shorter = (trials >= window) & (hits < low * trials)
        shrunk = jnp.where(shorter, 1.0 / self.step_adaptation, 1.0)
        return jnp.where(longer, self.step_adaptation, shrunk)
