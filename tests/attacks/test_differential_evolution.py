"""Differential evolution against SciPy's, with the same random numbers and with its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from scipy.optimize._differentialevolution import DifferentialEvolutionSolver

from jaxser.attacks import differential_evolution as de
from jaxser.attacks.one_pixel import OnePixel
from jaxser.attacks.score import label_score


class FedGenerator:
    """SciPy's source of random numbers for one generation, with the numbers given."""

    def __init__(self, draws: Any) -> None:
        self.draws = draws

    def uniform(self, low: float = 0, high: float = 1, size: Any = None) -> Any:
        return self.draws.scale if size is None else self.draws.crossover

    def randint(self, *args: Any, **options: Any) -> Any:
        return self.draws.always


@pytest.mark.parametrize("recombination", [1.0, 0.6])
def test_a_generation_is_scipys_with_the_same_numbers(recombination: float) -> None:
    population, dimensions = 12, 3

    def objective(points: np.ndarray) -> np.ndarray:
        return np.square(points - np.array([0.9, 0.1, 0.5])[:, None]).sum(axis=0)

    solver = DifferentialEvolutionSolver(
        objective,
        [(0, 1)] * dimensions,
        popsize=population // dimensions,
        mutation=(0.5, 1),
        recombination=recombination,
        updating="deferred",
        vectorized=True,
        rng=0,
    )
    next(solver)
    left_the_cube = 0
    draw = jax.jit(lambda key: de.draw_mutation(key, population, dimensions, scale=(0.5, 1.0)))
    mutate = jax.jit(functools.partial(de.mutate, recombination=recombination))
    for generation in range(6):
        key = jax.random.key(generation)
        draws = jax.tree.map(np.asarray, draw(key))
        members, scores = solver.population.copy(), solver.population_energies.copy()
        trial = mutate(
            jnp.asarray(members, jnp.float32),
            jnp.asarray(scores, jnp.float32),
            draws,
        )
        ours = de.select(
            de.EvolutionState(jnp.asarray(members)[None], jnp.asarray(scores)[None]),
            trial[None],
            jnp.asarray(objective(np.asarray(trial).T))[None],
        )

        def select_samples(candidate: int, _: int, draws: Any = draws) -> np.ndarray:
            others = [i for i in range(population) if i != candidate]
            chosen = [int(draws.first[candidate]), int(draws.second[candidate])]
            assert candidate not in chosen
            return np.array(chosen + [i for i in others if i not in chosen][:3])

        def ensure_constraint(trial: np.ndarray, draws: Any = draws) -> None:
            outside = (trial > 1) | (trial < 0)
            nonlocal left_the_cube
            left_the_cube += outside.sum()
            trial[outside] = draws.anew[outside]

        solver.random_number_generator = FedGenerator(draws)
        solver._select_samples = select_samples
        solver._ensure_constraint = ensure_constraint
        next(solver)
        # SciPy keeps the best member first.
        order = np.arange(population)
        best = int(np.argmin(ours.scores[0]))
        order[[0, best]] = order[[best, 0]]
        np.testing.assert_allclose(np.asarray(ours.members[0])[order], solver.population, atol=1e-6)
        np.testing.assert_allclose(
            np.asarray(ours.scores[0])[order], solver.population_energies, atol=1e-6
        )
    assert left_the_cube > 0


def test_parents_of_a_mutant_are_distinct_and_uniform() -> None:
    population = 6
    draws = jax.vmap(lambda key: de.draw_mutation(key, population, 1, scale=(0.5, 1.0)))(
        jax.random.split(jax.random.key(0), 4000)
    )
    first, second = np.asarray(draws.first), np.asarray(draws.second)
    parent = np.arange(population)[None, :]
    assert (first != second).all()
    assert (first != parent).all()
    assert (second != parent).all()
    for each in (first, second):
        counts = np.bincount(each[:, 2], minlength=population)
        # Binomial: 4,000 draws over five members, standard deviation 25.
        np.testing.assert_allclose(counts, [800, 800, 0, 800, 800, 800], atol=110)
    assert 0.5 <= np.asarray(draws.scale).min() < 0.51
    assert 0.99 < np.asarray(draws.scale).max() <= 1.0


def test_a_latin_hypercube_has_one_point_in_each_slice() -> None:
    points = np.asarray(
        jax.jit(de.latin_hypercube, static_argnums=(1, 2))(jax.random.key(3), 40, 3)
    )
    for axis in range(3):
        np.testing.assert_array_equal(np.sort(np.floor(points[:, axis] * 40)), np.arange(40))
    assert abs(np.corrcoef(points.T) - np.eye(3)).max() < 0.5


def test_as_good_as_scipy_after_the_same_evaluations() -> None:
    """Best score after 8 generations of 20 over 150 seeds, on a one-pixel objective."""
    from scipy.optimize import differential_evolution

    victim = small_victims.small_victim("conv")
    x = small_victims.waveforms(1, seed=8)
    label = int(np.argmax(victim.logits(jnp.asarray(x))))
    epsilon, population, generations, seeds = 0.2, 20, 8, 150

    @jax.jit
    def objective(inputs: jax.Array) -> jax.Array:
        logits = victim.logits(inputs)
        return label_score(logits, jnp.full(inputs.shape[0], label), False)[0]

    def scipy_objective(points: np.ndarray) -> np.ndarray:
        inputs = np.repeat(x, points.shape[1], axis=0)
        inputs[np.arange(points.shape[1]), points[0].astype(int)] += points[1]
        return np.asarray(objective(inputs.astype(np.float32)))

    theirs = [
        differential_evolution(
            scipy_objective,
            [(0, 63.999), (-epsilon, epsilon)],
            maxiter=generations,
            popsize=population // 2,
            recombination=1,
            atol=-1,
            tol=0,
            polish=False,
            updating="deferred",
            vectorized=True,
            rng=seed,
        ).fun
        for seed in range(seeds)
    ]

    attack = OnePixel(population=population)
    strategy = attack.strategy

    @jax.jit
    def run(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        def tried(trial: jax.Array) -> jax.Array:
            inputs = attack.candidate(jnp.asarray(x[0]), jnp.asarray(epsilon), trial.reshape(-1, 2))
            return objective(inputs).reshape(trial.shape[:2])

        search, trial = strategy.start(keys, 2)
        first = tried(trial).min(axis=1)
        for generation in range(generations + 1):
            generation_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, generation + 1)
            search, trial = strategy.advance(generation_keys, search, trial, tried(trial))
        return first, search.scores.min(axis=1)

    first, ours = (np.asarray(each) for each in run(jax.random.split(jax.random.key(0), seeds)))
    error = np.sqrt((np.var(ours) + np.var(theirs)) / seeds)
    assert abs(ours.mean() - np.mean(theirs)) < 3 * error
    # The tolerance tells a search from the first generation alone.
    assert first.mean() - ours.mean() > 10 * error
    for share in (0.1, 0.5, 0.9):
        assert abs(np.quantile(ours, share) - np.quantile(theirs, share)) < 12 * error
