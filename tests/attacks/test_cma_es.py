"""CMA-ES against evosax, with the same points, and against its published evaluations."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.attacks import cma_es

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "query.npz")


@pytest.mark.parametrize("dimensions", [2, 6])
def test_cma_es_is_evosaxs_with_the_same_points(dimensions: int) -> None:
    held = {
        name: GOLDEN[f"cma/{dimensions}/{name}"] for name in ("points", "scores", "mean", "std")
    }
    state = cma_es.adaptation_start(jnp.full((1, dimensions), 0.5), 0.3)
    update = jax.jit(cma_es.adaptation_update)
    for generation, points in enumerate(held["points"]):
        scores = jnp.asarray(held["scores"][generation])[None]
        state = update(state, jnp.asarray(points)[None], scores)
        np.testing.assert_allclose(state.mean[0], held["mean"][generation], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.sigma[0], held["std"][generation], rtol=1e-4)
        covariance = GOLDEN[f"cma/{dimensions}/C"][generation]
        np.testing.assert_allclose(state.covariance[0], covariance, rtol=1e-3, atol=1e-4)
        turned = state.basis[0] * jnp.square(state.scales[0])[None]
        np.testing.assert_allclose(turned @ state.basis[0].T, covariance, rtol=1e-3, atol=1e-4)


def rosenbrock(points: jax.Array) -> jax.Array:
    """Minimum 0 at 0.5 in every coordinate."""
    z = 2 * points
    return (
        100 * jnp.square(z[..., 1:] - jnp.square(z[..., :-1])) + jnp.square(1 - z[..., :-1])
    ).sum(axis=-1)


def sphere(points: jax.Array) -> jax.Array:
    return jnp.square(points - 0.7).sum(axis=-1)


@pytest.mark.parametrize(
    ("objective", "generations", "reached"), [(sphere, 90, 1e-8), (rosenbrock, 420, 1e-6)]
)
def test_cma_es_converges_in_the_usual_number_of_evaluations(
    objective: Any, generations: int, reached: float
) -> None:
    """In 5 dimensions with λ 8: about 90 generations to 1e-8 on the sphere, and about 400 on
    Rosenbrock's valley (Hansen's tutorial and the COCO tables give 700 and 3,000 evaluations)."""
    strategy = cma_es.CovarianceAdaptation(population=8, sigma=0.2)
    keys = jax.random.split(jax.random.key(1), 9)

    @jax.jit
    def run(keys: jax.Array) -> jax.Array:
        search, trial = strategy.start(keys, 5)
        search = dataclasses.replace(search, mean=jnp.full((9, 5), 0.1))

        def generation(index: int, carry: Any) -> Any:
            search, trial, best = carry
            scores = objective(trial)
            now = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index)
            search, trial = strategy.advance(now, search, trial, scores)
            return search, trial, jnp.minimum(best, scores.min(axis=1))

        best = jnp.full((9,), jnp.inf)
        return jax.lax.fori_loop(1, generations, generation, (search, trial, best))[2]

    assert np.median(run(keys)) < reached


def test_reflection_is_continuous_and_stays_in_the_cube() -> None:
    points = jnp.asarray([-1.2, -0.2, 0.0, 0.3, 1.0, 1.2, 2.4])
    expected = [0.8, 0.2, 0.0, 0.3, 1.0, 0.8, 0.4]
    np.testing.assert_allclose(cma_es.reflect(points), expected, atol=1e-6)
