"""What the score-based attacks have in common: any input, any classes, any way to run them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.few_pixel import FewPixel
from jaxser.attacks.one_pixel import OnePixel
from jaxser.attacks.pixle import Pixle
from jaxser.attacks.score import shared_out
from jaxser.attacks.square import Square
from jaxser.driver.result import AttackResult

DEVICES = jax.devices()

# Cheap settings, and budgets at which some rows succeed and some do not.
CASES: list[tuple[Any, tuple[float, ...]]] = [
    (OnePixel(population=24, generations=3, candidates=8), (0.3, 0.6)),
    (FewPixel(count=2, optimizer="cma_es", population=10, generations=4), (0.3, 0.6)),
    (Square(queries=25), (0.01, 0.02)),
    (Square(norm="l2", queries=25, restarts=2), (0.05, 0.15)),
    (Pixle(restarts=3, x_dimensions=(1, 4), y_dimensions=(1, 2)), (1000.0,)),
]
NAMES = ["onepixel", "fewpixel-cma", "square", "square-l2", "pixle"]


def attack_all(
    attack: Any,
    epsilons: tuple[float, ...],
    order: np.ndarray,
    kind: str = "conv",
    **options: Any,
) -> AttackResult:
    """Attack the clean predictions of some of a fixed set of inputs, each under its own id."""
    x = small_victims.inputs(kind, 24)[order]
    options = {"batch_size": 8, "devices": DEVICES[:1]} | options
    victim = small_victims.small_victim(kind)
    return run_attack(
        victim, x, None, attack, epsilons, seed=5, ids=[f"row {i}" for i in order], **options
    )


@pytest.mark.parametrize(
    ("case", "kind"),
    short_and_long(
        [
            ("onepixel", "spectrogram"),
            ("onepixel", "front_end"),
            ("square", "spectrogram"),
            ("square", "front_end"),
            ("square-l2", "spectrogram"),
            ("pixle", "spectrogram"),
            ("pixle", "front_end"),
        ],
        [("onepixel", "front_end"), ("square", "front_end"), ("pixle", "spectrogram")],
    ),
)
def test_spectrograms_and_front_ends(case: str, kind: str) -> None:
    """On log-mels with bounds (-5, 7), and on waveforms through a front end."""
    attack, epsilons = CASES[NAMES.index(case)]
    victim = small_victims.small_victim(kind)
    assert victim.bounds is not None
    low, high = victim.bounds
    larger = tuple(4 * epsilon for epsilon in epsilons)
    result = attack_all(attack, larger, np.arange(16), kind)
    assert result.success.any()
    assert (result.x_adv >= low).all()
    assert (result.x_adv <= high).all()
    if attack.epsilon_norm != "l0":
        assert (result.measures[attack.epsilon_norm] <= np.array(larger)[:, None] * 1.00001).all()
    for x_adv, success in zip(result.x_adv, result.success, strict=True):
        predicted = np.argmax(victim.logits(jnp.asarray(x_adv)), axis=1)
        np.testing.assert_array_equal(predicted != result.labels, success)


@pytest.mark.parametrize(
    ("case", "classes", "targeted"),
    [
        pytest.param("onepixel", 2, False, marks=pytest.mark.long),
        ("onepixel", 50, True),
        pytest.param("square", 2, False, marks=pytest.mark.long),
        ("square", 50, True),
        ("pixle", 2, False),
        pytest.param("pixle", 50, True, marks=pytest.mark.long),
    ],
)
def test_targets_and_numbers_of_classes(case: str, classes: int, targeted: bool) -> None:
    attack, epsilons = CASES[NAMES.index(case)]
    x = small_victims.waveforms(16)
    victim = small_victims.small_victim("linear", classes=classes)
    order = np.argsort(victim.logits(jnp.asarray(x)), axis=1)
    labels = order[:, -2] if targeted else order[:, -1]
    result = run_attack(
        victim,
        x,
        labels,
        dataclasses.replace(attack, targeted=targeted),
        [4 * epsilons[-1]],
        batch_size=16,
        devices=DEVICES[:1],
    )
    assert result.success.any()
    reached = np.argmax(victim.logits(jnp.asarray(result.x_adv[0])), axis=1)
    np.testing.assert_array_equal((reached == labels) == targeted, result.success[0])


@pytest.mark.parametrize(
    ("candidates", "most", "passes", "each"), [(300, 20, 15, 20), (24, 7, 4, 6), (5, 9, 1, 5)]
)
def test_candidates_are_shared_out_evenly(
    candidates: int, most: int, passes: int, each: int
) -> None:
    assert shared_out(candidates, most) == (passes, each)
