"""A row's result is its own: batch mates, position, batch size, devices, loop and refilling do not
matter, for every attack; and every attack takes other domains and numbers of classes.
"""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import (
    APGD,
    ATTACKS,
    BIM,
    EOTPGD,
    FAB,
    FGSM,
    JSMA,
    MIFGSM,
    PGD,
    AutoAttack,
    Boundary,
    CarliniL0,
    CarliniL2,
    CarliniLinf,
    DeepFool,
    FewPixel,
    HopSkipJump,
    Noise,
    OnePixel,
    Pixle,
    SparseFool,
    SparsePGD,
    Square,
)
from jaxser.driver import AttackResult

DEVICES = jax.devices()
ROWS = 20

CASES = [
    FGSM(),
    FGSM(minimal=True, step_size=0.002, max_epsilon=0.1),
    BIM(steps=6, early_stop=True),
    MIFGSM(steps=6),
    PGD(steps=6),
    PGD(steps=6, norm="l2"),
    PGD(steps=6, norm="l1", l1_share=0.1),
    EOTPGD(steps=4),
    SparsePGD(steps=6, count=5, random_start=True),
    SparsePGD(steps=6, count=5, variant="strict", early_stop=True),
    APGD(steps=4, restarts=2),
    APGD(steps=4, norm="l2", loss="targeted_dlr", target_classes=2),
    AutoAttack(variant="random"),
    DeepFool(),
    DeepFool(norm="linf"),
    SparseFool(),
    FAB(steps=6, restarts=2),
    FAB(steps=4, norm="l2", target_classes=2),
    JSMA(theta=0.2, gamma=0.5),
    CarliniL2(steps=8, binary_search_steps=3),
    CarliniLinf(steps=6),
    CarliniL0(steps=6),
    OnePixel(population=16, generations=3),
    FewPixel(count=3, population=16, generations=3, optimizer="cma_es"),
    Square(queries=30),
    Square(queries=30, norm="l2"),
    Pixle(restarts=3, iterations=4),
    Boundary(queries=60),
    HopSkipJump(queries=150, initial_evaluations=10),
    Noise(kind="white"),
]

# Attacks that go on from decisions or comparisons: where two candidates are equal but for rounding,
# another shape may take the other one, and the row goes another way from there.
DECIDING = (OnePixel, FewPixel, Square, Pixle, Boundary, HopSkipJump, SparseFool, JSMA, APGD)
DECIDING += (CarliniL0, CarliniL2, CarliniLinf, AutoAttack)


def rounding(attack: Any) -> float:
    """0, but for CMA-ES: the last bits of its eigenvectors depend on where a matrix lies."""
    return 1e-5 if getattr(attack, "optimizer", None) == "cma_es" else 0.0


@functools.cache
def victim(kind: str, classes: int) -> Any:
    if classes == small_victims.CLASSES:
        return small_victims.small_victim(kind)
    return small_victims.small_victim(kind, classes=classes)


def attack_all(
    attack: Any,
    order: np.ndarray,
    kind: str = "conv",
    classes: int = small_victims.CLASSES,
    **options: Any,
) -> AttackResult:
    """Attack some utterances of a fixed set, each under its own id."""
    x, y = small_victims.inputs(kind, 24), small_victims.labels(24, classes=classes)
    minimal = getattr(attack, "minimal_norm", False)
    return run_attack(
        victim(kind, classes),
        x[order],
        y[order],
        attack,
        [math.inf] if minimal else [0.02, 0.1],
        seed=5,
        ids=[f"utterance {i}" for i in order],
        **options,
    )


def test_every_attack_is_covered() -> None:
    assert {type(case) for case in CASES} == set(ATTACKS.values())


@pytest.mark.parametrize("attack", CASES, ids=str)
def test_rows_do_not_depend_on_where_they_sit(attack: Any) -> None:
    straight = np.arange(ROWS)
    base = attack_all(attack, straight, batch_size=7, devices=DEVICES[:1])
    x = small_victims.inputs("conv", 24)[:ROWS]
    assert np.abs(base.x_adv - x[None]).max() > 0

    # Other mates, other positions, two devices: bit for bit at equal shapes.
    shuffled = np.random.default_rng(0).permutation(24)
    where = np.argsort(shuffled)[straight]
    other = attack_all(attack, shuffled, batch_size=7, devices=DEVICES[:1])
    for name in ("x_adv", "prediction", "queries", "gradients", "flags"):
        found = getattr(other, name)[:, where]
        np.testing.assert_allclose(found, getattr(base, name), atol=rounding(attack), rtol=0)
    two = attack_all(attack, straight, batch_size=14, devices=DEVICES[:2])
    np.testing.assert_allclose(two.x_adv, base.x_adv, atol=rounding(attack), rtol=0)

    # Another batch size: float reordering alone.
    for batch_size in (1, 64):
        other = attack_all(attack, straight, batch_size=batch_size, devices=DEVICES[:1])
        same = np.isclose(other.x_adv, base.x_adv, atol=1e-4).all(axis=2)
        assert same.mean() >= (0.8 if isinstance(attack, DECIDING) else 1.0), batch_size
        np.testing.assert_array_equal(other.success[same], base.success[same])


@pytest.mark.parametrize("attack", CASES, ids=str)
def test_neither_loop_nor_refilling_changes_a_row(attack: Any) -> None:
    order = np.arange(ROWS)
    base = attack_all(attack, order, batch_size=7, devices=DEVICES[:1])
    without = attack_all(attack, order, batch_size=7, refill=False, devices=DEVICES[:1])
    np.testing.assert_allclose(without.x_adv, base.x_adv, atol=rounding(attack), rtol=0)
    np.testing.assert_array_equal(without.queries, base.queries)
    inside = attack_all(attack, order, batch_size=7, loop="device", devices=DEVICES[:1])
    same = np.isclose(inside.x_adv, base.x_adv, atol=1e-4).all(axis=2)
    assert same.mean() >= (0.8 if isinstance(attack, DECIDING) else 1.0)


@pytest.mark.parametrize(("kind", "classes"), [("spectrogram", 2), ("front_end", 50)])
@pytest.mark.parametrize("attack", CASES, ids=str)
def test_every_domain_and_number_of_classes(attack: Any, kind: str, classes: int) -> None:
    """Inside the bounds, inside ε in the attack's norm, and what succeeded is adversarial."""
    order = np.arange(8)
    result = attack_all(attack, order, kind, classes, batch_size=8, devices=DEVICES[:1])
    x = small_victims.inputs(kind, 24)[order]
    low, high = victim(kind, classes).bounds
    assert np.isfinite(result.x_adv).all()
    assert result.x_adv.min() >= low - 1e-6
    assert result.x_adv.max() <= high + 1e-6
    logits = np.stack([np.asarray(victim(kind, classes).logits(each)) for each in result.x_adv])
    y = small_victims.labels(24, classes=classes)[order]
    np.testing.assert_array_equal(logits.argmax(axis=2) != y[None], result.success)
    minimal = getattr(attack, "minimal_norm", False)
    if minimal:
        # What was not fooled is left as it was.
        np.testing.assert_array_equal(result.x_adv[~result.success], x[None][~result.success])
    elif getattr(attack, "epsilon_norm", "linf") == "linf":
        limit = np.array(result.epsilons)[:, None] * (1 + 1e-4) + 1e-6
        assert (result.measures["linf"] <= limit).all()
