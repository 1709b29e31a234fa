"""SparseFool: its solver and both variants against plain loops, brute force and torchattacks."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.base import ZERO_GRADIENT
from jaxser.attacks.sparsefool import SparseFool, solve_plane
from jaxser.runtime.errors import UsageError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "minimal_norm.npz"
ONE_DEVICE = {"devices": jax.devices()[:1]}
ANY_SIZE = [float("inf")]
PAST = 1e-3


def naive_plane(
    origin: np.ndarray, normal: np.ndarray, target: np.ndarray, bounds: tuple[Any, Any]
) -> np.ndarray:
    """The published linear solver, one coordinate after the other."""
    low, high = (np.broadcast_to(bound, origin.shape) for bound in bounds)
    unit = normal / np.linalg.norm(normal)
    moved, left = origin.copy(), unit.copy()
    side = np.sign(unit @ (origin - target))
    current = side
    while current == side and left.any():
        lacking = abs(unit @ (moved - target) + PAST * side)
        i = np.abs(left).argmax()
        moved[i] = np.clip(moved[i] + np.sign(unit[i]) * lacking / abs(unit[i]), low[i], high[i])
        left[i] = 0
        current = np.sign(unit @ (moved - target))
    return moved


def planes(seed: int, across: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origins inside (0, 1), normals with ties and zeros, and offsets across or not."""
    rng = np.random.default_rng(seed)
    shape = (60, 25)
    origin = np.clip(rng.uniform(-0.2, 1.2, shape), 0, 1)
    normal = rng.integers(-4, 5, shape).astype(np.float64)
    unit = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    offset = rng.normal(0, 0.03, shape)
    aside = offset - (offset * unit).sum(axis=1, keepdims=True) * unit
    along = rng.uniform(0.01, 1.5, (60, 1)) * (1 if across else -1)
    return origin, normal, aside + along * unit


@pytest.mark.parametrize("across", [True, False])
def test_the_solver_does_what_the_published_loop_does(across: bool) -> None:
    """Across the plane as the authors mean it, and away from it as torchattacks goes then."""
    origin, normal, offset = planes(0, across)
    solve = jax.jit(solve_plane, static_argnames="bounds")
    single = [jnp.asarray(each, jnp.float32) for each in (origin, normal, offset, origin)]
    beyond = jnp.ones(len(origin), bool)
    found = origin + np.asarray(solve(*single, bounds=(0.0, 1.0), beyond=beyond))
    naive = [
        naive_plane(*each, (0.0, 1.0)) for each in zip(origin, normal, origin + offset, strict=True)
    ]
    changed = (np.stack(naive) != origin).sum(axis=1)
    np.testing.assert_allclose(found, naive, atol=2e-5)
    assert changed.max() > 3
    if across:
        # Elsewhere than in the compatible rows nothing changes in this case.
        np.testing.assert_array_equal(origin + np.asarray(solve(*single, bounds=(0.0, 1.0))), found)
    else:
        # By default a plane behind the origin stands for one as far ahead: few samples move.
        ahead = origin + np.asarray(solve(*single, bounds=(0.0, 1.0)))
        assert (np.abs(ahead - origin) > 1e-6).sum(axis=1).mean() < changed.mean() / 2


@pytest.mark.long
def test_the_solver_in_a_box_of_each_sample() -> None:
    origin, normal, offset = planes(1, across=True)
    single = [jnp.asarray(each, jnp.float32) for each in (origin, normal, offset, origin)]
    low, high = np.maximum(origin - 0.2, 0), np.minimum(origin + 0.2, 1)
    found = origin + np.asarray(solve_plane(*single, (jnp.asarray(low), jnp.asarray(high))))
    naive = [
        naive_plane(*each[:3], (each[3], each[4]))
        for each in zip(origin, normal, origin + offset, low, high, strict=True)
    ]
    np.testing.assert_allclose(found, naive, atol=2e-5)
    assert (np.abs(np.abs(found - origin) - 0.2) < 1e-6).any(axis=1).mean() > 0.5


def linear(weights: dict[str, np.ndarray]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: small_victims.linear_apply(weights, x)


@pytest.mark.parametrize(("lead", "samples"), [(0.8, {1}), (2.0, {2}), (3.5, {3})])
def test_brute_force_on_eight_inputs_in_a_box(lead: float, samples: set[int]) -> None:
    """No smaller set of samples can change a linear prediction, wherever in the box they go.

    The inputs are small beside the box, so that all samples have about the same room: then the
    published order by |w| is the best one, as it is for the L1 norm in any box.
    """
    weights = small_victims.linear_weights(classes=2, samples=8, seed=5)
    weights["bias"] = np.array([lead, 0.0], np.float32)
    x, bounds = 0.1 * small_victims.waveforms(20, samples=8), (-0.6, 0.6)
    logits = x @ weights["kernel"] + weights["bias"]
    attack = SparseFool(lam=1.0, bounds=bounds)
    result = run_attack(linear(weights), x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    difference = weights["kernel"][:, 1] - weights["kernel"][:, 0]
    smallest = np.full(len(x), 99)
    for row, y in enumerate(logits.argmax(axis=1)):
        w = difference if y == 0 else -difference
        gains = np.abs(w) * np.where(w > 0, bounds[1] - x[row], x[row] - bounds[0])
        margin = abs(float(logits[row, 1] - logits[row, 0]))
        for count in range(8, 0, -1):
            sets = itertools.combinations(range(8), count)
            if any(gains[list(each)].sum() > margin for each in sets):
                smallest[row] = count
    assert set(smallest) == samples
    np.testing.assert_array_equal(result.measures["l0"][0], smallest)


def test_closed_form_on_a_linear_victim() -> None:
    """The shortest prefix of the samples by |w| whose room covers λ times the margin."""
    weights = small_victims.linear_weights(classes=2)
    x, lam = small_victims.waveforms(20), 3.0
    logits = (x @ weights["kernel"] + weights["bias"]).astype(np.float64)
    y = logits.argmax(axis=1)
    result = run_attack(linear(weights), x, y, SparseFool(lam=lam), ANY_SIZE, **ONE_DEVICE)
    difference = weights["kernel"][:, 1] - weights["kernel"][:, 0]
    unit = difference / np.linalg.norm(difference)
    for row in range(len(x)):
        w = unit if y[row] == 0 else -unit
        margin = abs(logits[row, 1] - logits[row, 0]) / np.linalg.norm(difference)
        order = np.argsort(-np.abs(w), kind="stable")
        room = np.where(w > 0, 1 - x[row], x[row] + 1)[order]
        before = np.concatenate([[0], np.cumsum(np.abs(w)[order] * room)])
        last = np.flatnonzero(before[1:] >= lam * margin)[0]
        amount = np.where(np.arange(len(w)) < last, room, 0.0)
        amount[last] = min(room[last], (lam * margin - before[last] + PAST) / abs(w[order[last]]))
        delta = np.zeros_like(x[row])
        delta[order] = (np.sign(w)[order] * amount)[: len(order)]
        expected = np.clip(x[row] + 1.02 * delta, -1, 1)
        np.testing.assert_allclose(result.x_adv[0, row], expected, atol=2e-4)
    np.testing.assert_array_equal(result.steps, 2)
    np.testing.assert_array_equal(result.queries, 4)


def naive_sparsefool(
    logits_fn: Callable[[jax.Array], jax.Array], x: np.ndarray, label: int, rounds: int
) -> np.ndarray | None:
    """The authors' algorithm on one input, in plain loops; None where it finds nothing."""
    run = jax.jit(lambda x: logits_fn(x[None])[0])
    jacobian = jax.jit(jax.jacrev(lambda x: logits_fn(x[None])[0]))

    def logits(x: np.ndarray) -> np.ndarray:
        return np.asarray(run(jnp.asarray(x, jnp.float32)), np.float64)

    def gradients(x: np.ndarray) -> np.ndarray:
        return np.asarray(jacobian(jnp.asarray(x, jnp.float32)), np.float64)

    start = x.astype(np.float64)
    for _ in range(rounds):
        point, predicted = start.copy(), label
        for _ in range(50):
            margin = logits(point) - logits(point)[label]
            slope = gradients(point) - gradients(point)[label]
            steepness = np.linalg.norm(slope, axis=1)
            steepness[label] = np.nan
            k = np.nanargmin(np.abs(margin) / steepness)
            point = point + abs(margin[k]) * slope[k] / steepness[k] ** 2
            predicted = logits(start + 1.02 * (point - start)).argmax()
            if predicted != label:
                break
        normal = gradients(point)[predicted] - gradients(point)[label]
        start = naive_plane(start, normal, start + 3.0 * (point - start), (-1.0, 1.0))
        tried = np.clip(x + 1.02 * (start - x), -1, 1)
        if logits(tried).argmax() != label:
            return tried
    return None


@pytest.mark.parametrize("kind", short_and_long(["conv", "front_end"], ["conv"]))
def test_the_original_is_the_authors_algorithm(kind: str) -> None:
    victim, x = small_victims.small_victim(kind), small_victims.inputs(kind, 16, seed=21)
    rounds = 3
    result = run_attack(victim, x, None, SparseFool(steps=rounds), ANY_SIZE, **ONE_DEVICE)
    same = []
    for row in range(len(x)):
        expected = naive_sparsefool(victim.logits, x[row], int(result.labels[row]), rounds)
        if expected is None:
            same.append(not result.success[0, row])
        else:
            same.append(np.allclose(result.x_adv[0, row], expected, atol=1e-4))
    # A plane behind the origin is taken differently, and float32 may take another way from there.
    assert np.mean(same) >= 0.9
    assert result.success.mean() > 0.5


def test_lambda_trades_samples_for_rounds() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24)
    near, far = (
        run_attack(victim, x, None, SparseFool(lam=lam), ANY_SIZE, **ONE_DEVICE)
        for lam in (1.0, 8.0)
    )
    both = near.success[0] & far.success[0]
    assert both.mean() > 0.7
    assert near.measures["l0"][0, both].mean() < far.measures["l0"][0, both].mean()


def test_epsilon_is_a_number_of_samples() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24)
    result = run_attack(victim, x, None, SparseFool(), [1, 3, 64], **ONE_DEVICE)
    for e, epsilon in enumerate(result.epsilons):
        assert (result.measures["l0"][e] <= epsilon).all()
    rates = result.success.mean(axis=1)
    assert 0 < rates[0] < rates[1] <= rates[2]
    untouched = ~result.success[0]
    np.testing.assert_array_equal(result.x_adv[0, untouched], x[untouched])


def test_same_adversarial_inputs_as_torchattacks() -> None:
    golden = np.load(GOLDEN)
    victim, x, y = small_victims.small_victim("conv"), (golden["x"] + 1) / 2, golden["y"]

    def unit_range(z: jax.Array) -> jax.Array:
        return victim.logits(2 * z - 1)

    expected = golden["torchattacks/sparsefool"]
    fooled = np.asarray(unit_range(expected)).argmax(axis=1) != y
    attack = SparseFool(variant="torchattacks", bounds=(0.0, 1.0))
    result = run_attack(unit_range, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_array_equal(result.success[0], fooled)
    assert 0.5 < fooled.mean() < 1
    np.testing.assert_allclose(result.x_adv[0, fooled], expected[fooled], atol=2e-5)
    np.testing.assert_array_equal(result.x_adv[0, ~fooled], x[~fooled])


def test_a_flat_victim_is_flagged() -> None:
    def flat(x: jax.Array) -> jax.Array:
        return jnp.asarray([[1.0, 0.0]]) + 0 * x[:, :2]

    x = small_victims.waveforms(3)
    for variant in ("original", "torchattacks"):
        result = run_attack(flat, x, None, SparseFool(variant=variant), ANY_SIZE, **ONE_DEVICE)
        assert (result.flags & ZERO_GRADIENT).all()
        assert not result.success.any()
        np.testing.assert_array_equal(result.x_adv[0], x)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lam": 0.5}, "lam must be at least 1"),
        ({"steps": 0}, "steps must be positive"),
        ({"deepfool_steps": 0}, "deepfool_steps must be positive"),
        ({"overshoot": float("nan")}, "overshoot must be at least 0"),
        ({"candidates": 1}, "candidates must be at least 2"),
        ({"variant": "fast"}, "variant must be"),
        ({"targeted": True}, "no targeted form"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SparseFool(**settings)


def test_rounds_by_variant() -> None:
    assert SparseFool().max_steps == 20 * 51
    assert SparseFool(variant="torchattacks").max_steps == 10 * 51
    assert SparseFool(steps=2, deepfool_steps=4).max_steps == 10
