"""Sparse PGD in both variants: how many samples move, and which."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import SparsePGD
from jaxser.attacks.projections import project_l0_linf
from jaxser.runtime.errors import UsageError

ONE_DEVICE = {"devices": jax.devices()[:1]}
COUNT = 6


@pytest.mark.parametrize("variant", ["union", "strict"])
def test_a_linear_victim_loses_its_largest_weights(variant: str) -> None:
    """The best k positions for a linear margin are those with the largest |w_i - w_j|."""
    victim = small_victims.small_victim("linear", classes=2)
    kernel = np.asarray(victim.variables["kernel"])
    difference = kernel[:, 0] - kernel[:, 1]
    x = small_victims.waveforms(5)
    attack = SparsePGD(count=COUNT, variant=variant, steps=40)
    result = run_attack(victim, x, np.zeros(5, int), attack, [0.02], **ONE_DEVICE)
    delta = result.x_adv[0] - x
    best = np.sort(np.argsort(-np.abs(difference))[:COUNT])
    for row in delta:
        np.testing.assert_array_equal(np.flatnonzero(row), best)
        np.testing.assert_allclose(row[best], -0.02 * np.sign(difference[best]), rtol=1e-4)


@pytest.mark.parametrize("random_start", [True, False])
def test_the_union_grows_and_the_strict_ball_holds(random_start: bool) -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(40)
    few, many = (2, COUNT) if random_start else (COUNT, 12)
    steps, moved, rates = 15, {}, {}
    for variant, count in (("union", few), ("strict", many)):
        attack = SparsePGD(count=count, variant=variant, steps=steps, random_start=random_start)
        result = run_attack(victim, x, None, attack, [0.05, 0.2], **ONE_DEVICE)
        moved[variant], rates[variant] = result.measures["l0"], result.success.mean(axis=1)
        assert (result.measures["linf"][1] <= 0.2 + 1e-6).all()
    assert (moved["strict"] <= many).all()
    assert (moved["union"] > few).any()
    assert (moved["union"] <= few * (steps + 1)).all()
    for low, high in rates.values():
        assert high > 0
        assert low < high


def test_the_strict_variant_against_all_supports_of_eight_samples() -> None:
    """On a linear victim the attack finds the best three of eight samples."""
    epsilon, count = 0.4, 3
    victim = small_victims.small_victim("linear", classes=2, samples=8, seed=3)
    kernel = np.asarray(victim.variables["kernel"], np.float64)
    difference = kernel[:, 0] - kernel[:, 1]
    x = small_victims.waveforms(12, samples=8)
    attack = SparsePGD(count=count, variant="strict", steps=60)
    result = run_attack(victim, x, np.zeros(12, int), attack, [epsilon], **ONE_DEVICE)
    delta = (result.x_adv[0] - x).astype(np.float64)
    assert ((delta != 0).sum(axis=1) <= count).all()
    drops = {
        support: epsilon * np.abs(difference[list(support)]).sum()
        for support in itertools.combinations(range(8), count)
    }
    best = max(drops, key=lambda support: drops[support])
    for moved in delta:
        assert tuple(np.flatnonzero(moved)) == best
        assert -moved @ difference == pytest.approx(drops[best], rel=1e-4)


def test_the_strict_projection_against_all_supports_of_eight_samples() -> None:
    """The nearest point with three non-zeros, of all 56 supports, inside budget and bounds."""
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (20, 8)).astype(np.float32)
    delta = rng.normal(0, 0.5, (20, 8)).astype(np.float32)
    epsilon = rng.uniform(0.1, 0.8, 20).astype(np.float32)
    bounds = (-1.0, 1.0)
    got = np.asarray(project_l0_linf(delta, jnp.asarray(epsilon), 3, jnp.asarray(x), bounds))
    low = np.maximum(-epsilon[:, None], -1 - x)
    clipped = np.clip(delta, low, np.minimum(epsilon[:, None], 1 - x))
    for row in range(20):
        best = min(
            np.square(delta[row] - np.where(np.isin(np.arange(8), support), clipped[row], 0)).sum()
            for support in itertools.combinations(range(8), 3)
        )
        assert (got[row] != 0).sum() <= 3
        assert np.square(delta[row] - got[row]).sum() == pytest.approx(best, rel=1e-5)


def test_the_union_step_against_all_supports_of_eight_samples() -> None:
    """One step takes the support, of all 56, along which the loss rises most."""
    victim = small_victims.small_victim("linear", samples=8, seed=3)
    x, y = small_victims.waveforms(12, samples=8), small_victims.labels(12)
    attack = SparsePGD(count=3, steps=1, relative_step_size=1.0)
    result = run_attack(victim, x, y, attack, [1e-3], **ONE_DEVICE)
    logits = np.asarray(victim.logits(x), np.float64)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    kernel = np.asarray(victim.variables["kernel"], np.float64)
    gradient = (chances - np.eye(5)[y]) @ kernel.T
    for row in range(12):
        rises = {
            support: np.abs(gradient[row, list(support)]).sum()
            for support in itertools.combinations(range(8), 3)
        }
        support = tuple(np.flatnonzero(result.x_adv[0, row] != x[row]))
        assert support == max(rises, key=lambda each: rises[each])


def test_targeted_success_means_the_target_is_predicted() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(20)
    target = np.full(20, 3)
    attack = SparsePGD(share=0.5, targeted=True)
    result = run_attack(victim, x, target, attack, [0.05, 0.3], **ONE_DEVICE)
    np.testing.assert_array_equal(result.success, result.prediction == 3)
    assert result.success[1].sum() > result.success[0].sum() > 0
    assert not result.success[0].all()


def test_positions_by_count_or_share() -> None:
    assert SparsePGD(share=0.1).positions(1000) == 100
    assert SparsePGD(share=1e-6).positions(1000) == 1
    assert SparsePGD(count=7).positions(1000) == 7
    assert SparsePGD(count=7).positions(5) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"count": 0}, "count must be positive"),
        ({"share": 1.5}, "share must be at most 1"),
        ({"variant": "loose"}, "variant must be"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SparsePGD(**settings)
