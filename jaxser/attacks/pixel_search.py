"""What the one-pixel and the few-pixel attack share: evolution, a generation at a time.

    attack = FewPixel(count=10, optimizer="cma_es")     # a PixelSearch
    search, trial = attack.strategy.start(keys, attack.dimensions(shape))
    inputs = attack.candidate(x, epsilon, points)       # [candidates, ...], of one row

A subclass says what a point of the unit cube stands for; a :class:`Strategy` says which points are
tried. Only scores are asked for. The search updates once per generation ("deferred"), so a
generation's candidates can share forward passes; the authors' calls of SciPy update at once.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from jaxser.attacks.base import (
    AttackState,
    LocalLogits,
    LogitsFn,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.cma_es import CovarianceAdaptation
from jaxser.attacks.differential_evolution import DifferentialEvolution
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.projections import Norm, per_row
from jaxser.attacks.score import candidate_scores, scored_start, shared_out
from jaxser.attacks.sparse import SparseAttack
from jaxser.runtime.errors import InputError, UsageError

__all__ = ["PixelSearch", "PixelSearchState", "Strategy", "with_values"]

# More variables than these would take more memory than any population of candidates (DE), or
# more time for eigenvectors than for the victim (CMA-ES).
_MOST_VARIABLES = {"de": 8_192, "cma_es": 256}


@runtime_checkable
class Strategy(Protocol):
    """An evolutionary search over the unit cube; every array starts with the batch axis."""

    @property
    def population(self) -> int: ...

    def start(self, keys: Key[Array, " batch"], dimensions: int) -> tuple[Any, Array]:
        """The search's state and its first points ``[batch, population, dimensions]``."""
        ...

    def advance(
        self,
        keys: Key[Array, " batch"],
        search: Any,
        trial: Float[Array, "batch population dimensions"],
        scores: Float[Array, "batch population"],
    ) -> tuple[Any, Array]:
        """The state after the scores of ``trial``, and the next points."""
        ...

    def points(self, trial: Float[Array, "..."]) -> Float[Array, "..."]:
        """Points of the unit cube that the search's own coordinates stand for."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PixelSearchState(AttackState):
    """A generation that is being tried.

    Attributes:
      score: of ``x_adv``; lower is closer to success.
      trial: the generation's points.
      scores: of those that have been tried.
      tried: how many have been.
      search: the strategy's state.
      encoding: what a local victim keeps of ``x``; () of others.
    """

    score: Float[Array, " batch"]
    trial: Float[Array, "batch population dimensions"]
    scores: Float[Array, "batch population"]
    tried: Int[Array, " batch"]
    search: Any
    encoding: Any


@dataclasses.dataclass(frozen=True)
class PixelSearch(SparseAttack):
    """What the evolutionary attacks share.

    A step tries ``candidates`` points of the generation in one forward pass; a generation takes
    several steps, and a row is done at its first step with a success. All positions are searched
    at once: a point of the unit cube holds, for each moved position, its index along each
    position axis (time; frames and mels; height and width) and its value in each channel. A victim
    that is local (:class:`jaxser.attacks.base.LocalFunction`) is asked for what the moved
    positions change instead of a forward pass; that is one query per candidate all the same.

    Attributes:
      optimizer: "de" (differential evolution, best1bin) or "cma_es".
      population: points per generation, in all (SciPy's and ART's ``popsize`` multiplies the
        number of variables: STAA-Net's 300 // 2 is 300 points for one position).
      generations: after the initial one.
      candidates: points of a row in one forward pass at most.
      scale: range of the factor of differential evolution, drawn once per generation.
      recombination: probability of a mutant's coordinate in differential evolution.
      initial: first generation of differential evolution, "latin_hypercube" or "random".
      sigma: initial standard deviation of CMA-ES, as a share of the range.
      compat: None: a value moves by at most ε. "paper": by at most ε times itself, as the public
        code of STAA-Net does. "art": to any of 256 levels of ``bounds``, whatever ε, as ART's
        PixelAttack does; the norm that counts is then the number of changed samples, and
        ``amplitude`` bounds how far they go. Elsewhere ε bounds that.
    """

    optimizer: Literal["de", "cma_es"] = "de"
    population: int = 300
    generations: int = 20
    candidates: int = 20
    scale: tuple[float, float] = (0.5, 1.0)
    recombination: float = 1.0
    initial: Literal["latin_hypercube", "random"] = "latin_hypercube"
    sigma: float = 0.3
    compat: Literal["paper", "art"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            generations=self.generations,
            candidates=self.candidates,
            sigma=self.sigma,
        )
        check_choice(self.name, "optimizer", self.optimizer, ("de", "cma_es"))
        if self.population < 5:
            raise UsageError(
                f"{self.name}: population must be at least 5, not {self.population!r}."
            )
        if not 0 <= self.scale[0] <= self.scale[1] < 2:
            raise UsageError(
                f"{self.name}: scale must be (low, high) with 0 <= low <= high < 2, not "
                f"{self.scale!r}."
            )
        if not 0 <= self.recombination <= 1:
            raise UsageError(
                f"{self.name}: recombination must lie in [0, 1], not {self.recombination!r}."
            )
        check_choice(self.name, "initial", self.initial, ("latin_hypercube", "random"))
        check_choice(self.name, "compat", self.compat, (None, "paper", "art"))
        if self.compat != "art" and self.amplitude is not None:
            raise UsageError(
                f"{self.name}: epsilon bounds how far a sample goes; amplitude is for "
                "compat='art', where epsilon is a number of samples."
            )
        if self.compat == "art" and self.bounds is None:
            raise UsageError(
                f"{self.name}: compat='art' draws values from the bounds; give bounds."
            )

    @property
    def steps_per_generation(self) -> int:
        return shared_out(self.population, self.candidates)[0]

    @property
    def max_steps(self) -> int:
        return (self.generations + 1) * self.steps_per_generation

    @property
    def finishes_early(self) -> bool:
        return True

    @property
    def forward_rows(self) -> int:
        return shared_out(self.population, self.candidates)[1]

    @property
    def minimal_norm(self) -> bool:
        return self.compat == "art"

    @property
    def epsilon_norm(self) -> Norm:
        return "l0" if self.compat == "art" else "linf"

    @property
    def strategy(self) -> Strategy:
        """The optimiser."""
        if self.optimizer == "cma_es":
            return CovarianceAdaptation(self.population, self.sigma)
        return DifferentialEvolution(self.population, self.scale, self.recombination, self.initial)

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Variables of the search for an input of ``shape``."""
        raise NotImplementedError

    @property
    def moved_positions(self) -> int | None:
        """Positions of an input that a candidate moves; None for all of them."""
        raise NotImplementedError

    def moves(
        self,
        x: Float[Array, "..."],
        epsilon: Float[Array, ""],
        points: Float[Array, "candidates dimensions"],
    ) -> tuple[Int[Array, "candidates positions"], Float[Array, "candidates positions channels"]]:
        """Where the candidates differ from one row's input, and their values there."""
        raise NotImplementedError

    def candidate(
        self,
        x: Float[Array, "..."],
        epsilon: Float[Array, ""],
        points: Float[Array, "candidates dimensions"],
    ) -> Float[Array, "candidates ..."]:
        """Perturbed copies of one row's input."""
        raise NotImplementedError

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> PixelSearchState:
        """The clean input's score, and the first generation; one forward pass."""
        dimensions = self.dimensions(x.shape[1:])
        if dimensions > _MOST_VARIABLES[self.optimizer]:
            raise InputError(
                f"{self.name}: an input of shape {x.shape[1:]} makes {dimensions} variables, more "
                f"than the {_MOST_VARIABLES[self.optimizer]} that optimizer={self.optimizer!r} "
                "takes; lower count or cells."
            )
        state = new_state(keys, x, y, epsilon)
        search, trial = self.strategy.start(step_keys(keys, state.steps), dimensions)
        local = self._local(logits_fn, x.shape[1:])
        return scored_start(
            state,
            PixelSearchState,
            logits_fn,
            self.targeted,
            trial=trial,
            scores=jnp.full(trial.shape[:2], jnp.inf),
            tried=state.steps,
            search=search,
            encoding=() if local is None else local.function.encode(local.variables, x),
        )

    def step(self, logits_fn: LogitsFn, state: PixelSearchState) -> PixelSearchState:
        """The next few candidates; after the last of a generation, the next generation."""
        _, population, dimensions = state.trial.shape
        count = self.forward_rows
        # Rows are at different places of their generations, and a program has one shape: each row
        # has a window of as many candidates, from a start that is traced. Where fewer are left the
        # window reaches back, and tries some again.
        start = jnp.minimum(state.tried, population - count)
        points = jax.vmap(
            lambda trial, at: jax.lax.dynamic_slice(trial, (at, 0), (count, dimensions))
        )(state.trial, start)
        logits, pick = self._try(logits_fn, state, self.strategy.points(points))
        scores, success, flags = candidate_scores(logits, state.y, self.targeted)

        # A success is better than any failure: with many classes, the label's probability may be
        # lower where it is still the largest.
        found = success.any(axis=1)
        ranked = jnp.where(success | ~found[:, None], scores, jnp.inf)
        best = jnp.argmin(ranked, axis=1)
        score = jnp.take_along_axis(scores, best[:, None], axis=1)[:, 0]
        # A minimal-norm attack answers a failure with the clean input, not with what came closest.
        better = found | ((score < state.score) & (not self.minimal_norm))

        scores = jax.vmap(lambda all_, new, at: jax.lax.dynamic_update_slice(all_, new, (at,)))(
            state.scores, scores, start
        )
        complete = start + count >= population
        search, trial = self._next_generation(state, scores, complete)
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(better, state.x), pick(best), state.x_adv),
            score=jnp.where(better, score, state.score),
            trial=trial,
            scores=scores,
            tried=jnp.where(complete, 0, start + count),
            search=search,
            done=found | (state.steps + 1 >= self.max_steps),
            steps=state.steps + 1,
            queries=state.queries + count,
            flags=state.flags | flags,
        )
        return freeze_done(state, new)

    def _try(
        self,
        logits_fn: LogitsFn,
        state: PixelSearchState,
        points: Float[Array, "batch candidates dimensions"],
    ) -> tuple[Float[Array, "rows classes"], Callable[[Int[Array, " batch"]], Array]]:
        """Logits of all candidates, and how to get one candidate of each row."""
        rows = points.shape[0] * points.shape[1]
        local = self._local(logits_fn, state.x.shape[1:])
        if local is None:
            inputs = jax.vmap(self.candidate)(state.x, state.epsilon, points)
            logits = logits_fn(inputs.reshape(rows, *state.x.shape[1:]))
            return logits, lambda best: _of_each(inputs, best)[:, 0]
        # A candidate is the clean input but for its moves, so the clean input's encoding, made once
        # in ``init``, serves them all. The logits are those of a forward pass but for rounding: the
        # victim works out all that a moved position reaches, and leaves out what cannot change.
        index, values = jax.vmap(self.moves)(state.x, state.epsilon, points)
        logits = local.function.logits_at(local.variables, state.x, state.encoding, index, values)

        def pick(best: Int[Array, " batch"]) -> Float[Array, "batch ..."]:
            # Whole inputs are made of the best candidates alone.
            chosen = jax.vmap(with_values)(state.x, _of_each(index, best), _of_each(values, best))
            return chosen[:, 0]

        return logits.reshape(rows, -1), pick

    def _local(self, logits_fn: LogitsFn, shape: tuple[int, ...]) -> LocalLogits | None:
        """``logits_fn`` where it is cheaper to ask for moved positions than for whole inputs."""
        if not isinstance(logits_fn, LocalLogits) or self.moved_positions is None:
            return None
        return logits_fn if logits_fn.function.is_local(shape, self.moved_positions) else None

    def _next_generation(
        self,
        state: PixelSearchState,
        scores: Float[Array, "batch population"],
        complete: Bool[Array, " batch"],
    ) -> tuple[Any, Float[Array, "batch population dimensions"]]:
        """The search after the rows' complete generations, and what they try next."""
        old = (state.search, state.trial)

        def advance() -> tuple[Any, Array]:
            # By generation, so that the search does not depend on how it is cut into steps.
            keys = step_keys(state.keys, (state.steps + 1) // self.steps_per_generation)
            new = self.strategy.advance(keys, state.search, state.trial, scores)
            return jax.tree.map(lambda o, n: jnp.where(per_row(complete, n), n, o), old, new)

        # Most steps complete no generation; theirs need no eigenvectors and no new draws.
        return jax.lax.cond(complete.any(), advance, lambda: old)


def _of_each(
    values: Shaped[Array, "batch candidates ..."], which: Int[Array, " batch"]
) -> Shaped[Array, "batch 1 ..."]:
    """One candidate of each row."""
    return jnp.take_along_axis(values, per_row(which, values), axis=1)


def with_values(
    x: Float[Array, "..."],
    index: Int[Array, "candidates positions"],
    values: Float[Array, "candidates positions channels"],
) -> Float[Array, "candidates ..."]:
    """Copies of ``x`` with the positions at ``index``, flat, set to ``values``."""
    flat = x.reshape(-1, values.shape[2])
    copies = jnp.broadcast_to(flat[None], (index.shape[0], *flat.shape))
    moved = copies.at[jnp.arange(index.shape[0])[:, None], index].set(values)
    return moved.reshape(index.shape[0], *x.shape)
