"""Sparse PGD in both variants: how many samples move, and which."""

from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import SparsePGD
from jaxser.errors import UsageError

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
