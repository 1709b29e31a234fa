"""Composite attacks: members on survivors, costs summed, the first success kept."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
import small_victims
from toy_attacks import Jump, Nearest

from jaxser import run_attack
from jaxser.attacks import BIM, FGSM, PGD
from jaxser.attacks.base import Attack, BaseAttack
from jaxser.attacks.losses import is_successful
from jaxser.attacks.projections import Bounds
from jaxser.driver.result import AttackResult
from jaxser.driver.run import attack_rows
from jaxser.driver.sequence import AttackSequence
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

ONE_DEVICE = jax.devices()[:1]
COUNT, EPSILONS = 20, [0.005, 0.03, 0.1]


@dataclasses.dataclass(frozen=True)
class Several:
    """Whatever members it is given."""

    name: ClassVar[str] = "several"

    parts: tuple[Any, ...] = ()
    targeted: bool = False
    bounds: Bounds = (-1.0, 1.0)

    def attacks(self, num_classes: int) -> tuple[Attack, ...]:
        assert num_classes == small_victims.CLASSES
        return self.parts


def attack_with(attack: Any, labels: Any = None, **options: Any) -> AttackResult:
    settings: dict[str, Any] = {"batch_size": 8, "devices": ONE_DEVICE, "seed": 2, **options}
    x = small_victims.waveforms(COUNT)
    return run_attack(small_victims.small_victim("conv"), x, labels, attack, EPSILONS, **settings)


PARTS = (FGSM(), PGD(steps=3, early_stop=True), BIM(steps=8))


@pytest.mark.parametrize("options", [{}, {"refill": False}, {"loop": "device"}])
def test_the_first_success_is_the_row(options: dict[str, Any]) -> None:
    both = attack_with(Several(PARTS), **options)
    alone = [attack_with(part) for part in PARTS]
    reached = np.stack([each.success for each in alone])
    first = np.where(reached.any(axis=0), reached.argmax(axis=0), -1)
    assert set(np.unique(first)) >= {-1, 0}
    assert len(np.unique(first)) > 2
    np.testing.assert_array_equal(both.stage, first)
    np.testing.assert_array_equal(both.success, reached.any(axis=0))
    ran = np.where(first < 0, len(PARTS) - 1, first)
    for name in ("x_adv", "prediction"):
        each = np.stack([getattr(one, name) for one in alone])
        chosen = np.take_along_axis(
            each, ran[None].reshape(1, *ran.shape, *[1] * (each.ndim - 3)), 0
        )
        np.testing.assert_allclose(getattr(both, name), chosen[0], atol=1e-6)
    for name in ("steps", "queries", "gradients"):
        spent = np.cumsum([getattr(one, name) for one in alone], axis=0)
        np.testing.assert_array_equal(
            getattr(both, name), np.take_along_axis(spent, ran[None], 0)[0]
        )
    assert both.throughput.rows == COUNT * len(EPSILONS)


def test_rows_that_are_wrong_already_cost_nothing() -> None:
    labels = small_victims.labels(COUNT)
    result = attack_with(Several(PARTS), labels)
    wrong = is_successful(result.clean_prediction, labels, targeted=False)
    assert 0 < wrong.sum() < COUNT
    x = small_victims.waveforms(COUNT)
    for e in range(len(EPSILONS)):
        assert result.success[e][wrong].all()
        assert (result.stage[e][wrong] == -1).all()
        assert (result.queries[e][wrong] == 0).all()
        np.testing.assert_array_equal(result.x_adv[e][wrong], x[wrong])
        assert np.isnan(result.measures["snr_peak"][e][wrong]).all()
        assert (result.queries[e][~wrong] > 0).all()


def test_nothing_runs_where_nothing_is_left() -> None:
    right = attack_with(FGSM()).clean_prediction
    result = attack_with(Several(PARTS), (right + 1) % small_victims.CLASSES)
    assert result.success.all()
    assert result.throughput.row_steps == 0
    assert np.isnan(result.throughput.rows_per_second)


def test_time_is_summed_and_every_row_comes_once() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(COUNT)
    seen, seconds = [], 0.0
    for block in attack_rows(
        victim,
        x,
        small_victims.labels(COUNT),
        Several(PARTS),
        EPSILONS,
        batch_size=8,
        devices=ONE_DEVICE,
    ):
        assert block.throughput.rows == len(seen) + len(block)
        seen += list(zip(block.utterance.tolist(), block.epsilon_index.tolist(), strict=True))
        seconds += block.seconds.sum()
    assert sorted(seen) == [(u, e) for u in range(COUNT) for e in range(len(EPSILONS))]
    assert seconds == pytest.approx(block.throughput.seconds)


def test_a_member_that_searches_is_thresholded_for_the_rows_that_are_left() -> None:
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(COUNT)
    options: dict[str, Any] = {"batch_size": 8, "devices": ONE_DEVICE}
    budgets = [0.05, 0.3, 2.0]
    alone = run_attack(victim, x, None, Nearest(bounds=None), budgets, **options)
    weak = PGD(steps=1, norm="l2", random_start=False, bounds=None)
    first = run_attack(victim, x, None, weak, budgets, **options)
    both = run_attack(
        victim, x, None, Several((weak, Nearest(bounds=None)), bounds=None), budgets, **options
    )
    np.testing.assert_array_equal(both.success, first.success | alone.success)
    np.testing.assert_array_equal(both.stage == 0, first.success)
    np.testing.assert_array_equal(both.stage == 1, alone.success & ~first.success)
    assert set(np.unique(both.stage)) == {-1, 0, 1}


def test_the_victims_bounds_reach_the_members() -> None:
    plain = small_victims.small_victim("conv")
    victim = Victim(
        apply=plain.apply,
        variables=plain.variables,
        labels=plain.labels,
        input_shape=plain.input_shape,
        bounds=(-0.5, 0.5),
    )
    x = small_victims.waveforms(6)
    options: dict[str, Any] = {"batch_size": 6, "devices": ONE_DEVICE}
    held = run_attack(victim, x, None, Several((FGSM(),)), [0.3], **options)
    assert np.abs(held.x_adv).max() <= 0.5
    free = run_attack(victim, x, None, Several((FGSM(),), bounds=None), [0.3], **options)
    assert np.abs(free.x_adv).max() > 0.5


def test_members_must_bound_one_norm() -> None:
    with pytest.raises(UsageError, match="its members bound different norms"):
        attack_with(Several((FGSM(), PGD(norm="l2"))))


def test_the_protocol_tells_sequences_from_attacks() -> None:
    assert isinstance(Several(), AttackSequence)
    assert not isinstance(FGSM(), AttackSequence)
    assert not isinstance(Several(), Attack)
    assert isinstance(Jump(), Attack)
    assert isinstance(Jump(), BaseAttack)
