"""Projections on a hyperplane within a box, against searches in double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.attacks.hyperplane import fill_largest, project_to_hyperplane, room_towards

ROWS, SIZE = 40, 30
BOUNDS = (-0.5, 1.0)
PROJECT = jax.jit(project_to_hyperplane, static_argnames=("bounds", "norm"))
FILL = jax.jit(fill_largest, static_argnames="surplus")


def problems(seed: int = 0) -> dict[str, Any]:
    """Points (many of them at a bound), normals (some entries zero) and gaps of either sign."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.8, 1.3, (ROWS, SIZE)), *BOUNDS).astype(np.float32)
    normal = rng.normal(0, 1, (ROWS, SIZE)) * (rng.uniform(size=(ROWS, SIZE)) < 0.9)
    normal *= 10.0 ** rng.integers(-6, 4, (ROWS, 1))
    toward = np.where(normal > 0, BOUNDS[1] - x, x - BOUNDS[0])
    away = np.where(normal < 0, BOUNDS[1] - x, x - BOUNDS[0])
    share = rng.uniform(-1, 1, ROWS)
    reach = np.where(share[:, None] > 0, toward, away)
    gap = share * (np.abs(normal) * reach).sum(axis=1)
    return {"x": x, "normal": normal.astype(np.float32), "gap": gap.astype(np.float32)}


def smallest(x: np.ndarray, normal: np.ndarray, gap: float, norm: str) -> float:
    """The smallest norm, by bisection of the multiplier (or greedily for L1), in float64."""
    weight, side = np.abs(normal).astype(np.float64), np.sign(normal) * np.sign(gap)
    room = np.where(side > 0, BOUNDS[1] - x, x - BOUNDS[0]) * (weight > 0)
    if norm == "l1":
        left, spent = abs(gap), 0.0
        for i in np.argsort(-weight):
            if left <= 0 or weight[i] == 0:
                break
            step = min(room[i], left / weight[i])
            left, spent = left - step * weight[i], spent + step
        return spent
    speed = weight if norm == "l2" else np.ones_like(weight)
    low, high = 0.0, 10.0 / weight[weight > 0].min() ** (norm == "l2")
    for _ in range(200):
        middle = (low + high) / 2
        covered = (weight * np.minimum(middle * speed, room)).sum() >= abs(gap)
        low, high = (low, middle) if covered else (middle, high)
    delta = np.minimum(high * speed, room)
    return float(np.linalg.norm(delta)) if norm == "l2" else float(delta.max())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_projection_is_the_nearest_point(norm: str) -> None:
    given = problems()
    x, normal, gap = given["x"], given["normal"], given["gap"]
    delta = np.asarray(PROJECT(x, normal, gap, x, bounds=BOUNDS, norm=norm), np.float64)
    moved = x + delta
    assert moved.min() >= BOUNDS[0] - 1e-6
    assert moved.max() <= BOUNDS[1] + 1e-6
    scale = np.abs(normal).max(axis=1)
    np.testing.assert_allclose((normal * delta).sum(axis=1) / scale, gap / scale, atol=2e-5)
    size = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    found = np.linalg.norm(delta, size, axis=1)
    best = [smallest(*each, norm) for each in zip(x, normal, gap, strict=True)]
    np.testing.assert_allclose(found, best, rtol=2e-4)
    # The box matters in these problems: without it the answer is another.
    free = np.asarray(PROJECT(x, normal, gap, x, bounds=None, norm=norm))
    assert (np.linalg.norm(free, size, axis=1) < found * 0.99).sum() > ROWS / 2


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_out_of_reach_goes_as_far_as_the_box(norm: str) -> None:
    given = problems(1)
    x, normal = given["x"], given["normal"]
    gap = np.full(ROWS, 1e6, np.float32)
    moved = x + np.asarray(PROJECT(x, normal, gap, x, bounds=BOUNDS, norm=norm))
    corner = np.where(normal > 0, BOUNDS[1], np.where(normal < 0, BOUNDS[0], x))
    np.testing.assert_allclose(moved, corner, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_nothing_to_do(norm: str) -> None:
    given = problems(2)
    x, normal, zero = given["x"], given["normal"], np.zeros(ROWS, np.float32)
    assert not np.asarray(PROJECT(x, normal, zero, x, bounds=BOUNDS, norm=norm)).any()
    flat = np.zeros_like(normal)
    assert not np.asarray(PROJECT(x, flat, zero + 1, x, bounds=BOUNDS, norm=norm)).any()


def naive_fill(weights: np.ndarray, room: np.ndarray, gap: float, surplus: float) -> np.ndarray:
    """Coordinate by coordinate, the largest weight first."""
    amount, covered = np.zeros_like(weights), 0.0
    for i in np.argsort(-weights, kind="stable"):
        if covered >= gap or weights[i] == 0:
            break
        amount[i] = min(room[i], (gap - covered + surplus) / weights[i])
        covered += weights[i] * room[i]
    return amount


@pytest.mark.parametrize("surplus", [0.0, 0.25])
def test_filling_takes_the_largest_weights_first_and_the_lower_index_on_ties(
    surplus: float,
) -> None:
    """Weights and rooms are quarters, so that sums are exact and ties abound."""
    rng = np.random.default_rng(0)
    shape = (200, 17)
    weights = rng.integers(0, 5, shape) / 4
    room = rng.integers(0, 5, shape) / 4
    # Some are covered exactly, some not at all, some have nothing to cover.
    gap = rng.integers(-2, 40, shape[0]) / 4
    found = FILL(*(jnp.asarray(each, jnp.float32) for each in (weights, room, gap)), surplus)
    naive = [naive_fill(*each, surplus) for each in zip(weights, room, gap, strict=True)]
    np.testing.assert_allclose(found, naive, rtol=1e-6)
    total = (weights * room).sum(axis=1)
    assert ((gap > total).sum() > 5) & ((gap <= 0).sum() > 5) & ((gap == total).sum() > 0)


def test_filling_without_bounds_takes_one() -> None:
    weights = jnp.asarray([[0.5, 2.0, 0.0, 2.0]])
    room = room_towards(weights, weights, weights, None)
    np.testing.assert_array_equal(room, [[np.inf, np.inf, 0.0, np.inf]])
    np.testing.assert_allclose(FILL(weights, room, jnp.asarray([3.0])), [[0.0, 1.5, 0.0, 0.0]])


def test_room_is_what_the_bounds_leave() -> None:
    point = jnp.asarray([[0.2, 0.2, 0.2, 1.3]])
    direction = jnp.asarray([[2.0, -2.0, 0.0, 1.0]])
    # The last value was outside from the start: it may stay there, and go no further.
    np.testing.assert_allclose(
        room_towards(direction, point, point, BOUNDS), [[0.8, 0.7, 0.0, 0.0]], rtol=1e-6
    )
