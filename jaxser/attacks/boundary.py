"""The Boundary attack: a walk along the decision boundary that needs nothing but decisions.

    attack = Boundary(queries=5_000)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.5, 1.0, 2.0])
    result.measures["l2"]                  # the smallest perturbations found; ε only thresholds

Brendel, Rauber, Bethge, "Decision-Based Adversarial Attacks: Reliable Attacks Against Black-Box
Machine Learning Models", ICLR 2018, section 2. A proposal is a random step on the sphere around
the clean input through the best adversarial input, then a step towards the clean input; it is
taken when it is adversarial. The lengths of both steps follow the row's own success rates, as a
trust region's radius does.

A row's search for a start, its way to the boundary and its walk take one forward pass per step
each, so rows in any of them share a batch. Peers differ: Foolbox' statistics need 300 and 1,000
proposals before the first adaptation and ART's start stays where it is; see ``compat``.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    extended,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.decision import (
    decide,
    noise_bits,
    normal,
    random_point,
    start_blocks,
    start_candidate,
    stepped_out,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row, row_norm
from jaxser.runtime.errors import UsageError

__all__ = ["ARTBoundaryState", "Boundary", "BoundaryState", "sample_noise"]

# What a row's next forward pass is for: the clean input, a start, a point on the way from the
# start to the clean input, a proposal, the spherical step of a proposal alone, or that proposal
# as a whole once its spherical step was adversarial.
_CLEAN, _START, _BISECT, _WALK, _CHECK, _FOLLOW = range(6)
# The same for ART's schedule: a trial of spherical steps, or of steps towards the clean input.
_SPHERICAL, _SOURCE = 2, 3

# The success rates that steps are kept within. A proposal can only succeed where its spherical
# step does, so it is asked for half as much.
_SPHERICAL_RATES = (0.2, 0.5)
_SOURCE_RATES = (0.1, 0.25)

# The way from the start to the boundary ends when the rest is this share of the distance.
_LOCATED = 0.01


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BoundaryState(AttackState):
    """A walk in progress; ``x_adv`` is where it stands.

    Attributes:
      phase: what the next forward pass is for.
      tries: starts tried.
      low: while bisecting, the share of the way to ``x_adv`` known not to be adversarial.
      proposals: proposals made.
      spherical_step, source_step: lengths over the distance to the clean input.
      spherical_trials, spherical_hits: outcomes since the spherical step was last looked at.
      source_trials, source_hits: outcomes since the source step was last looked at.
    """

    phase: Int[Array, "batch"]
    tries: Int[Array, "batch"]
    low: Float[Array, "batch"]
    proposals: Int[Array, "batch"]
    spherical_step: Float[Array, "batch"]
    source_step: Float[Array, "batch"]
    spherical_trials: Int[Array, "batch"]
    spherical_hits: Int[Array, "batch"]
    source_trials: Int[Array, "batch"]
    source_hits: Int[Array, "batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ARTBoundaryState(AttackState):
    """A walk by ART's schedule.

    Attributes:
      phase: what the next forward pass is for.
      tries: starts tried.
      iteration: pairs of a spherical and a source trial that succeeded.
      trial: trials of the current kind that failed.
      rounds: spherical trials so far, each with noise of its own.
      spherical_step, source_step: lengths over the distance to the clean input.
      used_step: the spherical step of the last spherical trial.
      satisfied: which of that trial's samples were adversarial.
    """

    phase: Int[Array, "batch"]
    tries: Int[Array, "batch"]
    iteration: Int[Array, "batch"]
    trial: Int[Array, "batch"]
    rounds: Int[Array, "batch"]
    spherical_step: Float[Array, "batch"]
    source_step: Float[Array, "batch"]
    used_step: Float[Array, "batch"]
    satisfied: Bool[Array, "batch samples"]


@dataclasses.dataclass(frozen=True)
class Boundary(MinimalNormAttack):
    """Boundary attack: minimal L2 norm, from decisions alone.

    Untargeted and targeted; a start is noise of several weights and bandwidths. Targets that no
    noise reaches in ``start_tries`` tries are reported as failures: ``x_adv`` is the clean input. A
    search ends a thousandth of the perturbation beyond the boundary (not ART's).

    Attributes:
      queries: forward passes per row, those for the start included; one step spends one.
      spherical_step: first length of the step on the sphere, over the distance; None: 0.1, from
        which the adaptation gets where it belongs sooner than from the usual 0.01, or ART's 0.01.
      source_step: first length of the step towards the clean input, over the distance.
      source_step_convergence: a row whose source step gets shorter than this is done.
      step_adaptation: factor by which steps are lengthened or shortened.
      check_every: one in so many proposals shows its spherical step alone first.
      spherical_window, source_window: outcomes after which each step is looked at.
      start_tries: starts tried before a row is given up.
      compat: "art" for the schedule of ART's BoundaryAttack, which starts from a uniform point of
        the valid range and tries ``samples`` steps at a time with the same length. ART's
        ``delta``, ``epsilon`` and ``init_size`` are ``spherical_step``, ``source_step`` and
        ``start_tries``, its ``step_adapt`` is ``1 / step_adaptation``. Of the other fields, it
        only knows the following, which the default does not use.
      iterations: ART's ``max_iter``; in place of ``queries``.
      trials: ART's ``num_trial``.
      samples: ART's ``sample_size``.
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
        if self.compat == "art":
            return 1 + -(-self.start_tries // self.samples) + 2 * self.iterations * self.trials
        return self.queries

    @property
    def epsilon_norm(self) -> Norm:
        return "l2"

    @property
    def forward_rows(self) -> int:
        return self.samples if self.compat == "art" else 1

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> BoundaryState | ARTBoundaryState:
        """Nothing spent; no start yet."""
        state = new_state(keys, x, y, epsilon)
        none = jnp.zeros_like(state.steps)
        lengths = {
            "spherical_step": jnp.full(none.shape, self.first_spherical_step, jnp.float32),
            "source_step": jnp.full(none.shape, self.source_step, jnp.float32),
        }
        if self.compat == "art":
            return extended(
                state,
                ARTBoundaryState,
                **lengths,
                phase=none,
                tries=none,
                iteration=none,
                trial=none,
                rounds=none,
                used_step=lengths["spherical_step"],
                satisfied=jnp.zeros((*none.shape, self.samples), bool),
            )
        return extended(
            state,
            BoundaryState,
            **lengths,
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
            return self._art_step(logits_fn, state)
        candidate = self._candidate(state)
        hit, flags = decide(logits_fn, candidate, state.y, self.targeted)
        new = self._walk(self._search(state, hit), state, hit)
        # In theory a proposal is closer by construction; rounding must not undo that.
        closer = row_norm(candidate - state.x, "l2") < row_norm(state.x_adv - state.x, "l2")
        proposed = (state.phase == _WALK) | (state.phase == _FOLLOW)
        searched = (state.phase == _START) | (state.phase == _BISECT)
        taken = hit & (searched | (proposed & closer))
        queries = state.queries + 1
        spent = queries >= self.queries
        converged = new.source_step < self.source_step_convergence
        done = new.done | spent | converged
        x_adv = jnp.where(per_row(taken, state.x), candidate, state.x_adv)
        new = dataclasses.replace(
            new,
            x_adv=stepped_out(done, x_adv, state.x, self.bounds),
            done=done,
            steps=state.steps + 1,
            queries=queries,
            flags=state.flags | flags,
        )
        return freeze_done(state, new)

    def _candidate(self, state: BoundaryState) -> Float[Array, "batch ..."]:
        """What the next forward pass is for, in whichever phase a row is.

        Points between the clean input and ``x_adv``, and steps on the sphere, are all the clean
        input plus ``along`` times the perturbation plus ``across`` times noise.
        """
        x, phase = state.x, state.phase
        axes = tuple(range(1, x.ndim))
        starting = phase == _START
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
        along = jnp.where(walking, along * back_on_sphere, 0.5 * (1.0 + state.low))
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

    def _search(self, state: BoundaryState, hit: Bool[Array, "batch"]) -> BoundaryState:
        """Book what the pass says about the start, or about the way from it to the boundary."""
        starting, bisecting = state.phase == _START, state.phase == _BISECT
        tries = state.tries + starting
        middle = 0.5 * (1.0 + state.low)
        low = jnp.where(bisecting, jnp.where(hit, state.low / middle, middle), 0.0)
        phase = jnp.where(state.phase == _CLEAN, _START, state.phase)
        phase = jnp.where(starting & hit, _BISECT, phase)
        phase = jnp.where(bisecting & (low >= 1.0 - _LOCATED), _WALK, phase)
        already = (state.phase == _CLEAN) & hit
        given_up = starting & ~hit & (tries >= self.start_tries)
        return dataclasses.replace(
            state, phase=phase, tries=tries, low=low, done=state.done | already | given_up
        )

    def _walk(
        self, new: BoundaryState, state: BoundaryState, hit: Bool[Array, "batch"]
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
        trials: Int[Array, "batch"],
        hits: Int[Array, "batch"],
        window: int,
        rates: tuple[float, float],
    ) -> Float[Array, "batch"]:
        """Factor of a step whose outcomes fill the window: longer where it succeeds often."""
        low, high = rates
        longer = (trials >= window) & (hits > high * trials)
        shorter = (trials >= window) & (hits < low * trials)
        shrunk = jnp.where(shorter, 1.0 / self.step_adaptation, 1.0)
        return jnp.where(longer, self.step_adaptation, shrunk)

    # --- ART's schedule --------------------------------------------------------------------------

    def _art_step(self, logits_fn: LogitsFn, state: ARTBoundaryState) -> ARTBoundaryState:
        """One trial: ``samples`` forward passes per row, not all of which a row may need.

        A row without a start tries as many points at once and takes the first that will do.
        """
        x, phase = state.x, state.phase
        clean, starting = phase == _CLEAN, phase == _START
        spherical, source = phase == _SPHERICAL, phase == _SOURCE
        around = self._art_spherical(state)
        nearer = around + per_row(state.source_step, around) * (x[:, None] - around)
        samples = jnp.where(per_row(source, around), nearer, around)
        samples = jnp.where(per_row(starting, around), self._art_starts(state), samples)
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
        next_phase = jnp.where(clean, _START, jnp.where(found, _SPHERICAL, phase))
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

    def _art_starts(self, state: ARTBoundaryState) -> Float[Array, "batch samples ..."]:
        """The next few uniform points of the valid range."""

        def start(place: Int[Array, ""]) -> Float[Array, "batch ..."]:
            bits = noise_bits(step_keys(state.keys, state.tries + place), state.x)
            return random_point(bits, state.x, self.bounds)

        return jax.vmap(start, out_axes=1)(jnp.arange(self.samples))

    def _art_spherical(self, state: ARTBoundaryState) -> Float[Array, "batch samples ..."]:
        """The samples of the current round: in a source trial, those of the spherical one again.

        The noise is scaled before its radial part is taken out, as ART does.
        """
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
    keys: Key[Array, "batch"], like: Float[Array, "batch samples ..."]
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
    bounds: tuple[float, float] | None,
) -> Float[Array, "batch samples ..."]:
    """:func:`clip_to_bounds` for several candidates per row."""
    return jax.vmap(clip_to_bounds, in_axes=(1, None, None), out_axes=1)(samples, x, bounds)
