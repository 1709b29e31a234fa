"""What DeepFool, SparseFool and FAB owe the driver: rows of their own, bounds, any victim."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.base import NON_FINITE
from jaxser.attacks.deepfool import DeepFool
from jaxser.attacks.fab import FAB
from jaxser.attacks.sparsefool import SparseFool

DEVICES = jax.devices()
ANY_SIZE = [float("inf")]

ATTACKS = [
    DeepFool(),
    DeepFool(norm="linf", candidates=3),
    SparseFool(),
    SparseFool(variant="torchattacks", steps=3, deepfool_steps=4),
    FAB(norm="linf", steps=3, target_classes=2, restarts=2),
]


@pytest.mark.parametrize("kind", short_and_long(["spectrogram", "front_end"], ["front_end"]))
@pytest.mark.parametrize("attack", [DeepFool(), SparseFool(), FAB(norm="l2", steps=6)], ids=str)
def test_spectrograms_and_front_ends(attack: Any, kind: str) -> None:
    victim, x = small_victims.small_victim(kind), small_victims.inputs(kind, 16)
    result = run_attack(victim, x, None, attack, ANY_SIZE, devices=DEVICES[:1])
    assert result.success.mean() > 0.9
    np.testing.assert_array_equal(result.success, result.prediction != result.labels)
    low, high = victim.bounds
    assert result.x_adv.min() >= low
    assert result.x_adv.max() <= high
    assert not result.flags.any()
    # Small beside the input itself; SparseFool moves few samples, as far as they can go.
    share = (
        result.measures["sparsity"][0]
        if attack.name == "sparsefool"
        else result.measures["l2"][0] / np.linalg.norm(x.reshape(16, -1), axis=1)
    )
    assert np.median(share) < 0.25


@pytest.mark.parametrize("classes", short_and_long([2, 50], [50]))
def test_two_classes_and_fifty(classes: int) -> None:
    victim = small_victims.small_victim("linear", classes=classes)
    x = small_victims.waveforms(8)
    for attack in (
        DeepFool(),
        SparseFool(),
        FAB(steps=3),
        FAB(steps=2, target_classes=3),
    ):
        result = run_attack(victim, x, None, attack, ANY_SIZE, devices=DEVICES[:1])
        assert result.success.all(), attack
        looked_at = getattr(attack, "candidates", classes) - 1
        looked_at = 1 if getattr(attack, "target_classes", None) else min(looked_at, classes - 1)
        np.testing.assert_array_equal(result.gradients, result.steps * looked_at)


@pytest.mark.parametrize(
    "attack",
    [DeepFool(norm="linf"), SparseFool(), FAB(steps=5)],
    ids=lambda attack: attack.name,
)
def test_logits_that_are_not_finite_end_a_row_and_harm_no_other(attack: Any) -> None:
    weights = small_victims.linear_weights()

    def broken(x: jax.Array) -> jax.Array:
        logits = small_victims.linear_apply(weights, x)
        return jnp.where(x[:, :1] > 0.9, jnp.nan, logits)

    x = small_victims.waveforms(4)
    x[:, 0] = [0.0, 0.1, 0.95, 0.2]
    y = np.asarray(broken(jnp.asarray(x))).argmax(axis=1)
    result = run_attack(broken, x, y, attack, ANY_SIZE, devices=DEVICES[:1])
    assert np.isfinite(result.x_adv).all()
    np.testing.assert_array_equal(result.success[0], [True, True, False, True])
    assert result.flags[0, 2] & NON_FINITE
    assert result.steps[0, 2] == 1
    others = np.array([0, 1, 3])
    assert not result.flags[0, others].any()


def test_norms_by_attack() -> None:
    assert [attack.epsilon_norm for attack in ATTACKS] == ["l2", "linf", "l0", "l0", "linf"]
    assert all(attack.minimal_norm and attack.finishes_early for attack in ATTACKS)
    assert all(attack.forward_rows == 1 for attack in ATTACKS)
