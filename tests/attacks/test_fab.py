"""FAB against closed forms on a linear victim with and without a box, and torchattacks."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.base import ZERO_GRADIENT, row_keys
from jaxser.attacks.fab import FAB, FABState
from jaxser.runtime.errors import UsageError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "minimal_norm.npz"
ONE_DEVICE = {"devices": jax.devices()[:1]}
ANY_SIZE = [float("inf")]
NORMS = {"linf": np.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.mark.parametrize(
    ("norm", "target_classes"),
    short_and_long(
        itertools.product(NORMS, (None, 9)),
        [("linf", None), ("l2", None), ("l1", None), ("l2", 9)],
    ),
)
def test_the_nearest_boundary_of_a_linear_victim(norm: Any, target_classes: int | None) -> None:
    """Within a thousandth: FAB ends just past the boundary, and its last search is that close."""
    weights = small_victims.linear_weights()
    x = small_victims.waveforms(16)
    logits = (x @ weights["kernel"] + weights["bias"]).astype(np.float64)
    y = logits.argmax(axis=1)
    attack = FAB(norm=norm, steps=4, target_classes=target_classes, bounds=None)
    result = run_attack(
        lambda x: small_victims.linear_apply(weights, x), x, y, attack, ANY_SIZE, **ONE_DEVICE
    )
    assert result.success.all()
    for row in range(len(x)):
        others = np.delete(np.arange(5), y[row])
        differences = weights["kernel"][:, others] - weights["kernel"][:, [y[row]]]
        steepness = np.linalg.norm(differences, DUAL[norm], axis=0)
        best = ((logits[row, y[row]] - logits[row, others]) / steepness).min()
        found = np.linalg.norm(result.x_adv[0, row] - x[row], NORMS[norm])
        assert best * 0.9999 <= found <= best * 1.001


def smallest_in_box(w: np.ndarray, margin: float, x: np.ndarray, norm: str) -> float:
    """Smallest perturbation with ``w @ delta >= margin`` inside (-1, 1)."""
    room, weight = np.where(w > 0, 1 - x, x + 1), np.abs(w)
    if norm == "l1":
        left, spent = margin, 0.0
        for i in np.argsort(-weight):
            step = min(room[i], left / weight[i])
            left, spent = left - step * weight[i], spent + step
        return spent
    speed = weight if norm == "l2" else np.ones_like(weight)
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        covered = (weight * np.minimum(middle * speed, room)).sum() >= margin
        low, high = (low, middle) if covered else (middle, high)
    return float(np.linalg.norm(np.minimum(high * speed, room), NORMS[norm]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_nearest_point_where_the_box_is_in_the_way(norm: Any) -> None:
    """Full-scale inputs: half of the samples can go one way only."""
    weights = small_victims.linear_weights(classes=2)
    w = (weights["kernel"][:, 1] - weights["kernel"][:, 0]).astype(np.float64)
    x = np.sign(small_victims.waveforms(40)) * 0.9
    x[:, ::2] = x[:, ::2] / 0.9
    x = x.astype(np.float32)
    difference = x @ w + float(weights["bias"][1] - weights["bias"][0])
    y = (difference > 0).astype(int)
    free = np.abs(w).sum() * 0.4
    # On which side of the boundary an input is that lies on it already is up to rounding.
    used = (np.abs(difference) > 0.01) & (np.abs(difference) < free)
    x, y, difference = (each[used] for each in (x, y, difference))
    assert len(x) > 15
    result = run_attack(
        small_victims.small_victim("linear", classes=2),
        x,
        y,
        FAB(norm=norm, steps=40),
        ANY_SIZE,
        **ONE_DEVICE,
    )
    assert result.success.all()
    assert np.abs(result.x_adv).max() <= 1
    found = np.linalg.norm(result.x_adv[0] - x, NORMS[norm], axis=1)
    away = [w if label == 0 else -w for label in y]
    best = np.array(
        [smallest_in_box(*each, norm) for each in zip(away, np.abs(difference), x, strict=True)]
    )
    assert (found >= best * 0.9999).all()
    assert (found <= best * 1.01).all()
    without = np.abs(difference) / np.linalg.norm(w, DUAL[norm])
    assert (best > 1.02 * without).mean() > 0.5  # the box is in the way


@pytest.mark.parametrize("norm", short_and_long(NORMS, ["linf"]))
def test_as_near_as_torchattacks_and_nearer_after_the_search(norm: Any) -> None:
    golden = np.load(GOLDEN)
    victim, x, y = small_victims.small_victim("conv"), (golden["x"] + 1) / 2, golden["y"]

    def unit_range(z: jax.Array) -> jax.Array:
        return victim.logits(2 * z - 1)

    expected = golden[f"torchattacks/fab_{norm}"]
    theirs = np.linalg.norm(expected - x, NORMS[norm], axis=1)
    fooled = np.asarray(unit_range(expected)).argmax(axis=1) != y
    assert fooled.sum() >= 11
    settings = {"norm": norm, "steps": 20, "bounds": (0.0, 1.0)}
    same = run_attack(unit_range, x, y, FAB(search_steps=0, **settings), ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_allclose(same.x_adv[0, fooled], expected[fooled], atol=1e-5)
    searched = run_attack(unit_range, x, y, FAB(**settings), ANY_SIZE, **ONE_DEVICE)
    assert searched.success.all()
    ours = searched.measures[norm][0]
    assert (ours[fooled] <= theirs[fooled] * 1.0001).all()
    assert ours[fooled].mean() < 0.999 * theirs[fooled].mean()


def states(attack: FAB, count: int, seed: int = 0) -> list[FABState]:
    """The states of a run on the convolutional victim."""
    victim, x = small_victims.small_victim("conv"), jnp.asarray(small_victims.waveforms(count))
    y = jnp.argmax(victim.logits(x), axis=1)
    keys = row_keys(jax.random.key(seed), jnp.arange(count, dtype=jnp.uint32))
    state = attack.init(victim.logits, keys, x, y, jnp.full(count, jnp.inf))
    step = jax.jit(lambda state: attack.step(victim.logits, state))
    run = [state]
    while not run[-1].done.all():
        run.append(step(run[-1]))
    return run


@pytest.mark.parametrize("norm", short_and_long(NORMS, ["l1"]))
def test_restarts_start_within_half_the_distance(norm: Any) -> None:
    run = states(FAB(norm=norm, steps=5, restarts=3, search_steps=0), 8)
    assert len(run) == 16
    for start in (5, 10):
        state = run[start]
        away = np.linalg.norm(state.point - state.x, NORMS[norm], axis=1)
        found = np.isfinite(state.distance)
        assert found.any()
        np.testing.assert_allclose(away[found], 0.5 * state.distance[found], rtol=1e-4)
        assert (away[~found] > 0).all()
    distances = np.stack([np.asarray(state.distance) for state in run])
    assert (np.diff(distances[5:], axis=0)[np.isfinite(distances[5:-1])] <= 0).all()
    other = states(FAB(norm=norm, steps=5, restarts=3, search_steps=0), 8, seed=1)
    np.testing.assert_array_equal(run[4].point, other[4].point)
    assert not np.array_equal(run[5].point, other[5].point)


def test_targets_are_taken_in_turn_from_the_likeliest() -> None:
    run = states(FAB(steps=3, target_classes=2, restarts=2, search_steps=0), 6)
    assert len(run) == 13
    last = run[-1]
    logits = np.array(small_victims.small_victim("conv").logits(last.x))
    order = np.argsort(-logits, axis=1)
    np.testing.assert_array_equal(last.others, order[:, 1:3])
    np.testing.assert_array_equal(last.gradients, 12)
    # The first run of the second target starts at the clean input again, the others at random.
    np.testing.assert_array_equal(run[6].point, run[6].x)
    assert not np.array_equal(run[3].point, run[3].x)
    assert not np.array_equal(run[9].point, run[9].x)


def test_more_targets_than_classes_end_with_the_classes() -> None:
    attack = FAB(steps=2, target_classes=9, search_steps=0)
    run = states(attack, 4)
    assert attack.max_steps == 18
    np.testing.assert_array_equal(run[-1].steps, 8)


def test_the_search_at_the_end_only_shortens() -> None:
    """Three more forward passes, in the last step alone."""
    plain, searched = (states(FAB(steps=6, search_steps=n), 12)[-1] for n in (0, 3))
    found = np.isfinite(plain.distance)
    assert found.any()
    assert (searched.distance[found] <= plain.distance[found]).all()
    assert (searched.distance[found] < plain.distance[found]).mean() > 0.5
    np.testing.assert_array_equal(searched.queries - plain.queries, 3 * found)
    victim = small_victims.small_victim("conv")
    predicted = np.asarray(victim.logits(searched.x_adv)).argmax(axis=1)
    assert (predicted[found] != np.asarray(searched.y)[found]).all()


def test_a_flat_victim_is_flagged() -> None:
    def flat(x: jax.Array) -> jax.Array:
        return jnp.asarray([[1.0, 0.0]]) + 0 * x[:, :2]

    x = small_victims.waveforms(3)
    result = run_attack(flat, x, None, FAB(steps=3, restarts=2), ANY_SIZE, **ONE_DEVICE)
    assert (result.flags & ZERO_GRADIENT).all()
    assert not result.success.any()
    np.testing.assert_array_equal(result.x_adv[0], x)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "l0"}, "norm must be"),
        ({"steps": 0}, "steps must be positive"),
        ({"target_classes": 0}, "target_classes must be positive"),
        ({"restarts": 0}, "restarts must be positive"),
        ({"alpha_max": 1.5}, "alpha_max must be between 0 and 1"),
        ({"eta": 0.9}, "eta must be at least 1"),
        ({"beta": 1.0}, "beta must be between 0 and 1"),
        ({"search_steps": -1}, "search_steps must be at least 0"),
        ({"targeted": True}, "no targeted form"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FAB(**settings)
