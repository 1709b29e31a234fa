"""Norms, projections and random starts against NumPy, per row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser.attacks import projections as P
from jaxser.attacks.base import row_keys


def rows(seed: int = 0, shape: tuple[int, ...] = (6, 5, 7)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def largest_by_sorting(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    flat = np.where(values > 0, values, 0).reshape(len(values), -1)
    mask = np.zeros(flat.shape, bool)
    for row, (line, k) in enumerate(zip(flat, count, strict=True)):
        mask[row, np.argsort(-line, kind="stable")[:k]] = True
    return mask.reshape(values.shape)


@pytest.mark.parametrize("count", [1, 2, 17, 34, 35])
def test_largest_mask_is_a_sort(count: int) -> None:
    values = np.abs(rows())
    mask = P.largest_mask(jnp.asarray(values), count)
    np.testing.assert_array_equal(mask, largest_by_sorting(values, np.full(6, count)))


def test_largest_mask_breaks_ties_by_index() -> None:
    values = np.random.default_rng(1).integers(0, 3, (8, 40)).astype(np.float32)
    count = np.arange(1, 9) * 4
    mask = P.largest_mask(jnp.asarray(values), jnp.asarray(count))
    np.testing.assert_array_equal(mask, largest_by_sorting(values, count))
    np.testing.assert_array_equal(mask.sum(axis=1), count)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e30])
def test_largest_mask_at_any_scale(scale: float) -> None:
    values = np.zeros((1, 6), np.float32)
    values[0, [1, 4]] = np.float32(scale)
    values[0, 5] = np.float32(scale) * 3
    mask = np.asarray(P.largest_mask(jnp.asarray(values), 2))[0]
    if np.float32(scale) < np.finfo(np.float32).tiny:  # subnormal: flushed or kept, but two of six
        assert mask.sum() == 2
    else:
        np.testing.assert_array_equal(mask, [False, True, False, False, False, True])


def test_largest_mask_of_more_than_there_are_and_of_nan() -> None:
    values = jnp.asarray([[1.0, jnp.nan, 0.0]])
    np.testing.assert_array_equal(P.largest_mask(values, 9), [[True, True, True]])
    np.testing.assert_array_equal(P.largest_mask(values, 1), [[True, False, False]])


def test_norms_of_tiny_and_huge_rows() -> None:
    x = np.stack([np.full(16, 1e-30), np.full(16, 1e25), np.zeros(16)]).astype(np.float32)
    np.testing.assert_allclose(P.row_norm(jnp.asarray(x), "l2"), [4e-30, 4e25, 0], rtol=1e-6)
    np.testing.assert_allclose(P.row_norm(jnp.asarray(x), "linf"), [1e-30, 1e25, 0], rtol=1e-6)
    unit = np.asarray(P.unit_l2(jnp.asarray(x)))
    np.testing.assert_allclose(unit[:2], 0.25, rtol=1e-6)
    np.testing.assert_array_equal(unit[2], 0)


def test_project_linf() -> None:
    x, radius = rows(), np.linspace(0.1, 1.0, 6).astype(np.float32)
    expected = np.clip(x, -radius[:, None, None], radius[:, None, None])
    np.testing.assert_array_equal(P.project_linf(jnp.asarray(x), jnp.asarray(radius)), expected)


def test_project_l2_moves_only_what_is_outside() -> None:
    x, radius = rows(), np.array([0.5, 1, 2, 5, 8, 100], np.float32)
    got = np.asarray(P.project_l2(jnp.asarray(x), jnp.asarray(radius)))
    norm = np.linalg.norm(x.reshape(6, -1), axis=1)
    expected = x * np.minimum(1, radius / norm)[:, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_array_equal(got[norm < radius], x[norm < radius])
    assert (norm < radius).any()
    assert (norm > radius).any()


def test_project_l0_linf_is_the_nearest_point() -> None:
    rng = np.random.default_rng(4)
    delta = rng.normal(0, 1, (5, 6)).astype(np.float32)
    x = rng.uniform(-0.9, 0.9, (5, 6)).astype(np.float32)
    epsilon = np.array([0.1, 0.3, 0.6, 1.0, 2.0], np.float32)
    got = np.asarray(
        P.project_l0_linf(jnp.asarray(delta), jnp.asarray(epsilon), 2, jnp.asarray(x), (-1.0, 1.0))
    )
    assert ((got != 0).sum(axis=1) <= 2).all()
    for row in range(5):
        low = np.maximum(-epsilon[row], -1 - x[row])
        high = np.minimum(epsilon[row], 1 - x[row])
        best = min(
            np.square(delta[row] - np.where(np.isin(np.arange(6), pair), clipped, 0)).sum()
            for clipped in [np.clip(delta[row], low, high)]
            for pair in [(i, j) for i in range(6) for j in range(i)]
        )
        assert np.square(delta[row] - got[row]).sum() == pytest.approx(best, rel=1e-4)


def test_bounds_never_pull_a_clean_sample() -> None:
    x = jnp.asarray([[1.25, 0.5, -1.5, 0.99]])
    moved = P.clip_to_bounds(x + jnp.asarray([[0.1, 0.1, 0.1, 0.1]]), x, (-1.0, 1.0))
    np.testing.assert_allclose(moved, [[1.25, 0.6, -1.4, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(P.clip_to_bounds(x * 9, x, None), x * 9)


def keys(ids: list[int]) -> jax.Array:
    return row_keys(jax.random.key(0), jnp.asarray(ids, jnp.uint32))


@pytest.mark.parametrize("draw", [P.random_linf, P.random_l2])
def test_random_starts_belong_to_the_row(draw: object) -> None:
    like, epsilon = jnp.zeros((4, 50)), jnp.asarray([0.1, 0.2, 0.3, 0.4])
    a = draw(keys([3, 1, 4, 5]), epsilon, like)  # type: ignore[operator]
    b = draw(keys([9, 3, 8, 7]), jnp.asarray([0.3, 0.1, 0.2, 0.2]), like)  # type: ignore[operator]
    np.testing.assert_array_equal(a[0], b[1])
    assert not np.array_equal(a[1], b[0])


def test_random_linf_is_uniform_in_the_box() -> None:
    noise = np.asarray(
        P.random_linf(keys(list(range(500))), jnp.full(500, 0.2), jnp.zeros((500, 20)))
    )
    assert np.abs(noise).max() <= 0.2
    assert np.abs(noise).max() > 0.199
    counts, _ = np.histogram(noise, bins=10, range=(-0.2, 0.2))
    assert abs(counts / 1000 - 1).max() < 0.15


def test_random_l2_is_uniform_in_the_ball() -> None:
    noise = np.asarray(
        P.random_l2(keys(list(range(2000))), jnp.full(2000, 0.5), jnp.zeros((2000, 3)))
    )
    radius = np.linalg.norm(noise, axis=1) / 0.5
    assert radius.max() <= 1 + 1e-6
    # Of a uniform point of the ball, radius^n is uniform.
    counts, _ = np.histogram(radius**3, bins=10, range=(0, 1))
    assert abs(counts / 200 - 1).max() < 0.3
    assert abs(noise.mean(axis=0)).max() < 0.02


def test_project_l1_is_the_nearest_point_of_ball_and_bounds() -> None:
    """Against a search through all pieces of the piecewise linear sum, in double precision."""
    rng = np.random.default_rng(0)
    delta = rng.normal(0, 1, (7, 9)).astype(np.float32)
    x = rng.uniform(-0.9, 0.9, (7, 9)).astype(np.float32)
    epsilon = np.array([1e-3, 0.1, 0.5, 1, 2, 4, 100], np.float32)
    for bounds in (None, (-1.0, 1.0)):
        got = np.asarray(P.project_l1(jnp.asarray(delta), jnp.asarray(epsilon), x, bounds))
        for row in range(7):
            size = np.abs(delta[row]).astype(np.float64)
            room = np.inf if bounds is None else 1 - np.sign(delta[row]) * x[row]
            room = np.broadcast_to(room, 9).astype(np.float64)

            def total(shrink: float, size: Any = size, room: Any = room) -> float:
                return np.clip(size - shrink, 0, room).sum()

            ends = np.sort(np.concatenate([[0.0], size, size - room]))
            ends = ends[np.isfinite(ends) & (ends >= 0)]
            shrink = 0.0
            if total(0.0) > epsilon[row]:
                after = next(end for end in ends if total(end) <= epsilon[row])
                before = max(end for end in ends if total(end) > epsilon[row])
                share = (total(before) - epsilon[row]) / (total(before) - total(after))
                shrink = before + share * (after - before)
            expected = np.sign(delta[row]) * np.clip(size - shrink, 0, room)
            np.testing.assert_allclose(got[row], expected, atol=2e-7)


def test_random_l1_is_uniform_in_the_ball() -> None:
    keys = row_keys(jax.random.key(0), jnp.arange(2000, dtype=jnp.uint32))
    noise = np.asarray(jax.jit(P.random_l1)(keys, jnp.full(2000, 0.5), jnp.zeros((2000, 3))))
    radius = np.abs(noise).sum(axis=1) / 0.5
    assert radius.max() <= 1 + 1e-6
    # Of a uniform point of the ball, radius^n is uniform.
    counts, _ = np.histogram(radius**3, bins=10, range=(0, 1))
    assert abs(counts / 200 - 1).max() < 0.3
    assert abs(noise.mean(axis=0)).max() < 0.02
    again = P.random_l1(keys[7:9], jnp.full(2, 0.5), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(again, noise[7:9])
