"""AutoAttack: its members, and that the ensemble is no weaker than any of them."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.apgd import APGD
from jaxser.attacks.autoattack import AutoAttack
from jaxser.attacks.fab import FAB
from jaxser.attacks.square import Square
from jaxser.runtime.errors import UsageError

ONE_DEVICE = {"devices": jax.devices()[:1]}


def test_the_standard_members() -> None:
    apgd, towards, fab, square = AutoAttack(norm="l2", bounds=(-5.0, 7.0)).attacks(num_classes=7)
    assert isinstance(apgd, APGD)
    assert isinstance(towards, APGD)
    assert (apgd.loss, apgd.steps, apgd.restarts) == ("ce", 100, 1)
    assert (towards.loss, towards.steps, towards.target_classes) == ("targeted_dlr", 100, 6)
    assert isinstance(fab, FAB)
    assert (fab.target_classes, fab.steps, fab.restarts) == (6, 100, 1)
    assert isinstance(square, Square)
    assert (square.queries, square.rescale_schedule) == (5000, False)
    for member in (apgd, towards, fab, square):
        assert member.norm == "l2"
        assert member.bounds == (-5.0, 7.0)
        assert member.epsilon_norm == "l2"


@pytest.mark.parametrize(("classes", "tried"), [(2, 1), (10, 9), (50, 9)])
def test_at_most_nine_classes_are_tried(classes: int, tried: int) -> None:
    _, towards, fab, _ = AutoAttack().attacks(classes)
    assert towards.target_classes == fab.target_classes == tried


def test_the_random_members_average_over_the_noise() -> None:
    members = AutoAttack(variant="random").attacks(5)
    assert [(member.loss, member.samples) for member in members] == [("ce", 20), ("dlr", 20)]


def test_targeted_members() -> None:
    members = AutoAttack(targeted=True).attacks(5)
    assert [member.name for member in members] == ["apgd", "apgd", "square"]
    assert all(member.targeted for member in members)


@dataclasses.dataclass(frozen=True)
class ShortAutoAttack(AutoAttack):
    """AutoAttack with fewer steps and queries."""

    def attacks(self, num_classes: int) -> tuple[Any, ...]:
        apgd, towards, fab, square = super().attacks(num_classes)
        return (
            dataclasses.replace(apgd, steps=5),
            dataclasses.replace(towards, steps=5, target_classes=2),
            dataclasses.replace(fab, steps=3, target_classes=2),
            dataclasses.replace(square, queries=30),
        )


def test_the_ensemble_is_as_strong_as_its_strongest_member() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(16)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    epsilons = [0.005, 0.01]
    attack = ShortAutoAttack()
    whole = run_attack(victim, x, y, attack, epsilons, **ONE_DEVICE)
    assert whole.success.any()
    assert not whole.success.all()
    members = [
        run_attack(victim, x, y, member, epsilons, **ONE_DEVICE) for member in attack.attacks(5)
    ]
    np.testing.assert_array_equal(whole.success, np.any([each.success for each in members], axis=0))
    assert (whole.measures["linf"] <= np.array(epsilons)[:, None] * (1 + 1e-5)).all()
    # A row that the first member breaks costs no more than that.
    first = members[0].success
    np.testing.assert_array_equal(whole.queries[first], members[0].queries[first])
    assert (whole.queries[~first] > members[0].queries[~first]).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variant": "plus"}, "variant must be"),
        ({"norm": "l1"}, "norm must be"),
        ({"bounds": (1.0, 0.0)}, "bounds must be"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        AutoAttack(**settings)
