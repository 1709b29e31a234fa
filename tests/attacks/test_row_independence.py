"""A row's result is its own: batch mates, position, batch size and devices do not matter."""

from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import ATTACKS, BIM, FGSM, PGD, SparsePGD
from jaxser.driver import AttackResult

DEVICES = jax.devices()

CASES = [
    FGSM(),
    BIM(steps=6, early_stop=True),
    PGD(steps=6),
    PGD(steps=6, norm="l2"),
    SparsePGD(steps=6, count=5, random_start=True),
    SparsePGD(steps=6, count=5, variant="strict", early_stop=True),
]


def attack_all(attack: Any, order: np.ndarray, **options: Any) -> AttackResult:
    """Attack some utterances of a fixed set, each under its own id."""
    x, y = small_victims.waveforms(24), small_victims.labels(24)
    return run_attack(
        small_victims.small_victim("conv"),
        x[order],
        y[order],
        attack,
        [0.02, 0.1],
        seed=5,
        ids=[f"utterance {i}" for i in order],
        **options,
    )


def test_every_attack_is_covered() -> None:
    assert {type(case) for case in CASES} == set(ATTACKS.values())


@pytest.mark.parametrize("attack", CASES, ids=str)
def test_rows_do_not_depend_on_where_they_sit(attack: Any) -> None:
    straight = np.arange(16)
    base = attack_all(attack, straight, batch_size=8, devices=DEVICES[:1])
    assert np.abs(base.x_adv).max() > 0

    # Other mates, other positions: bit for bit at equal shapes.
    shuffled = np.random.default_rng(0).permutation(24)
    other = attack_all(attack, shuffled, batch_size=8, devices=DEVICES[:1])
    where = np.argsort(shuffled)[straight]
    np.testing.assert_array_equal(other.x_adv[:, where], base.x_adv)
    np.testing.assert_array_equal(other.prediction[:, where], base.prediction)
    np.testing.assert_array_equal(other.queries[:, where], base.queries)

    # Two devices and another batch size: float reordering alone.
    other = attack_all(attack, straight, batch_size=10, devices=DEVICES[:2])
    np.testing.assert_allclose(other.x_adv, base.x_adv, atol=1e-5)
    np.testing.assert_array_equal(other.success, base.success)


def test_two_devices_give_the_very_same_rows_at_equal_shapes() -> None:
    attack, order = PGD(steps=6), np.arange(16)
    one = attack_all(attack, order, batch_size=8, devices=DEVICES[:1])
    two = attack_all(attack, order, batch_size=16, devices=DEVICES[:2])
    np.testing.assert_array_equal(two.x_adv, one.x_adv)
