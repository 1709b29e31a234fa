"""Differential evolution in the unit cube, for many rows at once.

    strategy = DifferentialEvolution(population=300)
    search, trial = strategy.start(keys, dimensions=2)        # trial: [batch, population, 2]
    search, trial = strategy.advance(keys, search, trial, scores)     # scores: lower is better

Storn & Price, Journal of Global Optimization 1997, with the bookkeeping of SciPy's
``differential_evolution(updating="deferred")``: strategy best1bin, one dithered scale per
generation, coordinates that leave the cube drawn anew, a trial kept where it is no worse than its
parent.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.score import uniform_index

__all__ = [
    "DifferentialEvolution",
    "EvolutionState",
    "MutationDraws",
    "draw_mutation",
    "latin_hypercube",
    "mutate",
    "select",
]


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

    first: Int[Array, " population"]
    second: Int[Array, " population"]
    scale: Float[Array, ""]
    always: Int[Array, " population"]
    crossover: Float[Array, "population dimensions"]
    anew: Float[Array, "population dimensions"]


def latin_hypercube(
    key: Key[Array, ""], population: int, dimensions: int
) -> Float[Array, "population dimensions"]:
    """Points of the unit cube with one in each of ``population`` slices of every axis."""
    draws = jax.random.uniform(key, (population, 2, dimensions))
    # The order of random numbers is a random permutation.
    return (jnp.argsort(draws[:, 0], axis=0) + draws[:, 1]) / population


def _uniform(key: Key[Array, ""], population: int, dimensions: int) -> Array:
    return jax.random.uniform(key, (population, dimensions))


def draw_mutation(
    key: Key[Array, ""], population: int, dimensions: int, *, scale: tuple[float, float]
) -> MutationDraws:
    """Random numbers of one generation, all from one draw (each draw costs compile time)."""
    draws = jax.random.uniform(key, (1 + population * (3 + 2 * dimensions),))
    each = draws[1:].reshape(population, -1)
    parent = jnp.arange(population)
    # Distinct members without rejection, whose loop would run as long as the worst row's: indices
    # among those that are left, moved up past those that are not.
    first = uniform_index(each[:, 0], population - 1)
    first = first + (first >= parent)
    # Two are left out for the second, the lower one first.
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
    scores: Float[Array, " population"],
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

    def start(self, keys: Key[Array, " batch"], dimensions: int) -> tuple[EvolutionState, Array]:
        """Points all over the cube."""
        draw = latin_hypercube if self.initial == "latin_hypercube" else _uniform
        trial = jax.vmap(lambda key: draw(key, self.population, dimensions))(keys)
        return EvolutionState(trial, jnp.full(trial.shape[:2], jnp.inf)), trial

    def advance(
        self,
        keys: Key[Array, " batch"],
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
