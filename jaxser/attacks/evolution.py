"""Evolutionary search in the unit cube, for many rows at once: differential evolution and CMA-ES.

    strategy = DifferentialEvolution(population=300)
    search, trial = strategy.start(keys, dimensions=2)        # trial: [batch, population, 2]
    search, trial = strategy.advance(keys, search, trial, scores)     # scores: lower is better

Differential evolution: Storn & Price, Journal of Global Optimization 1997, with the bookkeeping of
SciPy's ``differential_evolution(updating="deferred")``: strategy best1bin, one dithered scale per
generation, coordinates that leave the cube drawn anew, a trial kept where it is no worse than its
parent. CMA-ES: Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772), the
(μ/μ_w, λ) form with positive weights; the cube is continued by reflection, so the search itself
is unbounded and :func:`reflect` maps its points into the cube.
"""

import dataclasses
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import NON_FINITE, AttackState, LogitsFn, State, extended
from jaxser.attacks.losses import is_successful, log_odds, prediction

__all__ = [
    "AdaptationState",
    "CovarianceAdaptation",
    "DifferentialEvolution",
    "EvolutionState",
    "MutationDraws",
    "Strategy",
    "adaptation_start",
    "adaptation_update",
    "draw_mutation",
    "label_score",
    "latin_hypercube",
    "mutate",
    "reflect",
    "scored_start",
    "select",
    "uniform_index",
]


def label_score(
    logits: Float[Array, "rows classes"], y: Int[Array, "rows"], targeted: bool
) -> tuple[Float[Array, "rows"], Bool[Array, "rows"], Bool[Array, "rows"]]:
    """What score-based searches descend, whether a row is a success, and whether it is finite.

    The score is the log-odds of the attacked label (of all but the target when ``targeted``):
    it orders inputs as the label's probability does, without rounding to 1 where the victim is
    sure. Non-finite logits score +inf.
    """
    logits = logits.astype(jnp.float32)
    predicted = prediction(logits)
    finite = predicted >= 0
    against = log_odds(logits, y)
    score = jnp.where(finite, against if targeted else -against, jnp.inf)
    return score, is_successful(predicted, y, targeted), finite


def scored_start(
    state: AttackState, cls: type[State], logits_fn: LogitsFn, targeted: bool, **more: Any
) -> State:
    """``state`` as ``cls`` with the clean input's score: one query, and successes are done."""
    score, success, finite = label_score(logits_fn(state.x), state.y, targeted)
    return extended(
        state,
        cls,
        done=success,
        queries=state.queries + 1,
        flags=(NON_FINITE * ~finite).astype(jnp.uint32),
        score=score,
        **more,
    )


class Strategy(Protocol):
    """An evolutionary search over the unit cube; every array starts with the batch axis."""

    @property
    def population(self) -> int: ...

    def start(self, keys: Key[Array, "batch"], dimensions: int) -> tuple[Any, Array]:
        """The search's state and its first points ``[batch, population, dimensions]``."""
        ...

    def advance(
        self,
        keys: Key[Array, "batch"],
        search: Any,
        trial: Float[Array, "batch population dimensions"],
        scores: Float[Array, "batch population"],
    ) -> tuple[Any, Array]:
        """The state after the scores of ``trial``, and the next points."""
        ...

    def points(self, trial: Float[Array, "..."]) -> Float[Array, "..."]:
        """Points of the unit cube that the search's own coordinates stand for."""
        ...


def uniform_index(
    uniform: Float[Array, "..."], count: int | Int[Array, "..."]
) -> Int[Array, "..."]:
    """Indices below ``count`` from uniform numbers in [0, 1)."""
    index = jnp.floor(uniform * count).astype(jnp.int32)
    return jnp.clip(index, 0, count - 1)


# --- differential evolution ----------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EvolutionState:
    """Members and their scores; scores are +inf until the first generation has been tried."""

    members: Float[Array, "batch population dimensions"]
    scores: Float[Array, "batch population"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MutationDraws:
    """The random numbers of one generation of one row.

    Attributes:
      first, second: members whose difference moves the best; distinct, and not the parent.
      scale: of the difference.
      always: the coordinate that is taken from the mutant whatever the crossover says.
      crossover: uniform in (0, 1).
      anew: uniform in (0, 1), for coordinates that left the cube.
    """

    first: Int[Array, "population"]
    second: Int[Array, "population"]
    scale: Float[Array, ""]
    always: Int[Array, "population"]
    crossover: Float[Array, "population dimensions"]
    anew: Float[Array, "population dimensions"]


def latin_hypercube(
    key: Key[Array, ""], population: int, dimensions: int
) -> Float[Array, "population dimensions"]:
    """Points of the unit cube with one in each of ``population`` slices of every axis."""
    draws = jax.random.uniform(key, (population, 2, dimensions))
    # The order of random numbers is a random permutation.
    return (jnp.argsort(draws[:, 0], axis=0) + draws[:, 1]) / population


def draw_mutation(
    key: Key[Array, ""], population: int, dimensions: int, *, scale: tuple[float, float]
) -> MutationDraws:
    """Random numbers of one generation, all from one draw (each draw costs compile time)."""
    draws = jax.random.uniform(key, (1 + population * (3 + 2 * dimensions),))
    each = draws[1:].reshape(population, -1)
    parent = jnp.arange(population)
    first = uniform_index(each[:, 0], population - 1)
    first = first + (first >= parent)
    # Two numbers are left out for the second, the lower one first.
    second = uniform_index(each[:, 1], population - 2)
    second = second + (second >= jnp.minimum(parent, first))
    second = second + (second >= jnp.maximum(parent, first))
    return MutationDraws(
        first=first,
        second=second,
        scale=scale[0] + (scale[1] - scale[0]) * draws[0],
        always=uniform_index(each[:, 2], dimensions),
        crossover=each[:, 3 : 3 + dimensions],
        anew=each[:, 3 + dimensions :],
    )


def mutate(
    members: Float[Array, "population dimensions"],
    scores: Float[Array, "population"],
    draws: MutationDraws,
    recombination: float,
) -> Float[Array, "population dimensions"]:
    """One trial per member (best1bin): the best plus a difference, crossed with the parent."""
    best = members[jnp.argmin(scores)]
    mutant = best[None, :] + draws.scale * (members[draws.first] - members[draws.second])
    taken = draws.crossover < recombination
    taken |= jnp.arange(members.shape[1])[None, :] == draws.always[:, None]
    trial = jnp.where(taken, mutant, members)
    return jnp.where((trial < 0) | (trial > 1), draws.anew, trial)


def select(
    search: EvolutionState,
    trial: Float[Array, "batch population dimensions"],
    scores: Float[Array, "batch population"],
) -> EvolutionState:
    """Trials replace parents that they are no worse than."""
    kept = scores <= search.scores
    return EvolutionState(
        members=jnp.where(kept[..., None], trial, search.members),
        scores=jnp.where(kept, scores, search.scores),
    )


@dataclasses.dataclass(frozen=True)
class DifferentialEvolution:
    """best1bin with deferred updating.

    Attributes:
      population: members, at least 5.
      scale: range of the difference's factor, drawn once per generation.
      recombination: probability that a coordinate comes from the mutant.
      initial: "latin_hypercube" or "random" points.
    """

    population: int
    scale: tuple[float, float] = (0.5, 1.0)
    recombination: float = 1.0
    initial: Literal["latin_hypercube", "random"] = "latin_hypercube"

    def start(self, keys: Key[Array, "batch"], dimensions: int) -> tuple[EvolutionState, Array]:
        """Points all over the cube."""
        draw = latin_hypercube if self.initial == "latin_hypercube" else _uniform
        trial = jax.vmap(lambda key: draw(key, self.population, dimensions))(keys)
        return EvolutionState(trial, jnp.full(trial.shape[:2], jnp.inf)), trial

    def advance(
        self,
        keys: Key[Array, "batch"],
        search: EvolutionState,
        trial: Float[Array, "batch population dimensions"],
        scores: Float[Array, "batch population"],
    ) -> tuple[EvolutionState, Array]:
        """Selection, then the next generation's trials."""
        search = select(search, trial, scores)

        def next_trial(key: Array, members: Array, scores: Array) -> Array:
            draws = draw_mutation(key, *trial.shape[1:], scale=self.scale)
            return mutate(members, scores, draws, self.recombination)

        return search, jax.vmap(next_trial)(keys, search.members, search.scores)

    def points(self, trial: Float[Array, "..."]) -> Float[Array, "..."]:
        """Trials are inside the cube as they are."""
        return trial


# --- CMA-ES --------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptationState:
    """The search distribution and its evolution paths.

    ``basis`` and ``scales`` are the eigenvectors and the square roots of the eigenvalues of
    ``covariance``; ``mean`` lives in the unbounded coordinates of :func:`reflect`.
    """

    mean: Float[Array, "batch dimensions"]
    sigma: Float[Array, "batch"]
    covariance: Float[Array, "batch dimensions dimensions"]
    basis: Float[Array, "batch dimensions dimensions"]
    scales: Float[Array, "batch dimensions"]
    step_path: Float[Array, "batch dimensions"]
    shape_path: Float[Array, "batch dimensions"]
    generation: Int[Array, "batch"]


# An eigenvalue below this share of the largest is rounding in float32.
_LEAST_EIGENVALUE = 1e-12


def reflect(points: Float[Array, "..."]) -> Float[Array, "..."]:
    """Unbounded coordinates folded into [0, 1]: 1.2 is 0.8, -0.2 is 0.2."""
    return 1.0 - jnp.abs(1.0 - jnp.mod(points, 2.0))


def adaptation_start(mean: Float[Array, "batch dimensions"], sigma: float) -> AdaptationState:
    """A round distribution of standard deviation ``sigma``."""
    batch, dimensions = mean.shape
    eye = jnp.broadcast_to(jnp.eye(dimensions), (batch, dimensions, dimensions))
    return AdaptationState(
        mean=mean,
        sigma=jnp.full((batch,), sigma),
        covariance=eye,
        basis=eye,
        scales=jnp.ones_like(mean),
        step_path=jnp.zeros_like(mean),
        shape_path=jnp.zeros_like(mean),
        generation=jnp.zeros((batch,), jnp.int32),
    )


def _sample(
    state: AdaptationState, noise: Float[Array, "batch population dimensions"]
) -> Float[Array, "batch population dimensions"]:
    """Points of the distribution from standard normal ``noise`` (tutorial, Eqs. 38-40)."""
    stretched = noise * state.scales[:, None, :]
    turned = jnp.einsum("bpd,bed->bpe", stretched, state.basis, precision="highest")
    return state.mean[:, None, :] + state.sigma[:, None, None] * turned


def adaptation_update(
    state: AdaptationState,
    points: Float[Array, "batch population dimensions"],
    scores: Float[Array, "batch population"],
) -> AdaptationState:
    """The distribution after a generation (tutorial, Eqs. 41-47 with its default constants)."""
    population, n = points.shape[1:]
    parents = population // 2
    raw = np.log((population + 1) / 2) - np.log(np.arange(1, parents + 1))
    weights = raw / raw.sum()
    mass = 1 / np.square(weights).sum()
    step_rate = (mass + 2) / (n + mass + 5)
    damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (n + 1)) - 1) + step_rate
    path_rate = (4 + mass / n) / (n + 4 + 2 * mass / n)
    rank_one = 2 / ((n + 1.3) ** 2 + mass)
    rank_mu = min(1 - rank_one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
    # Expected length of a standard normal vector.
    length = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))

    ranked = jnp.argsort(scores, axis=1)[:, :parents]
    best = jnp.take_along_axis(points, ranked[..., None], axis=1)
    moves = (best - state.mean[:, None, :]) / state.sigma[:, None, None]
    share = jnp.asarray(weights, jnp.float32)
    move = jnp.einsum("bpd,p->bd", moves, share, precision="highest")

    # C^(-1/2) of the move: to the eigenvectors' axes, over the scales, and back.
    along = jnp.einsum("bed,be->bd", state.basis, move, precision="highest") / state.scales
    white = jnp.einsum("bed,bd->be", state.basis, along, precision="highest")
    keep = 1 - step_rate
    step_path = keep * state.step_path + np.sqrt(step_rate * (2 - step_rate) * mass) * white
    ratio = jnp.sqrt(jnp.square(step_path).sum(axis=1)) / length
    exponent = jnp.minimum(1.0, step_rate / damping * (ratio - 1))

    generation = state.generation + 1
    unbiased = jnp.sqrt(1 - keep ** (2.0 * (generation + 1).astype(jnp.float32)))
    # The path of the shape stands still while the step size grows fast.
    calm = (ratio / unbiased < 1.4 + 2 / (n + 1)).astype(jnp.float32)[:, None]
    shape_path = (1 - path_rate) * state.shape_path
    shape_path += calm * np.sqrt(path_rate * (2 - path_rate) * mass) * move
    lost = ((1 - calm) * path_rate * (2 - path_rate))[..., None]
    covariance = (
        (1 - rank_one - rank_mu + rank_one * lost) * state.covariance
        + rank_one * shape_path[:, :, None] * shape_path[:, None, :]
        + rank_mu * jnp.einsum("bpd,bpe,p->bde", moves, moves, share, precision="highest")
    )
    values, basis = jnp.linalg.eigh((covariance + covariance.swapaxes(1, 2)) / 2)
    values = jnp.maximum(values, _LEAST_EIGENVALUE * values[:, -1:])
    return AdaptationState(
        mean=state.mean + state.sigma[:, None] * move,
        sigma=state.sigma * jnp.exp(exponent),
        covariance=covariance,
        basis=basis,
        scales=jnp.sqrt(values),
        step_path=step_path,
        shape_path=shape_path,
        generation=generation,
    )


@dataclasses.dataclass(frozen=True)
class CovarianceAdaptation:
    """CMA-ES from the middle of the cube.

    Attributes:
      population: λ, points per generation.
      sigma: initial standard deviation, as a share of the cube's side.
    """

    population: int
    sigma: float = 0.3

    def start(self, keys: Key[Array, "batch"], dimensions: int) -> tuple[AdaptationState, Array]:
        """Points around the middle."""
        search = adaptation_start(jnp.full((keys.shape[0], dimensions), 0.5), self.sigma)
        return search, _sample(search, self._noise(keys, dimensions))

    def advance(
        self,
        keys: Key[Array, "batch"],
        search: AdaptationState,
        trial: Float[Array, "batch population dimensions"],
        scores: Float[Array, "batch population"],
    ) -> tuple[AdaptationState, Array]:
        """The adapted distribution and its points."""
        search = adaptation_update(search, trial, scores)
        return search, _sample(search, self._noise(keys, trial.shape[2]))

    def points(self, trial: Float[Array, "..."]) -> Float[Array, "..."]:
        """Trials are folded into the cube."""
        return reflect(trial)

    def _noise(self, keys: Key[Array, "batch"], dimensions: int) -> Array:
        shape = (self.population, dimensions)
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def _uniform(key: Key[Array, ""], population: int, dimensions: int) -> Array:
    return jax.random.uniform(key, (population, dimensions))
