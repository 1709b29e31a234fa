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
from short_and_long import short_and_long

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
    StaaNet,
)
from jaxser.attacks.generator import Generator
from jaxser.driver.result import AttackResult

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
    SparseFool(variant="torchattacks", steps=3, deepfool_steps=4),
    FAB(steps=6, restarts=2),
    FAB(steps=4, norm="l2", target_classes=2),
    JSMA(theta=0.2, gamma=0.5),
    CarliniL2(steps=10, binary_search_steps=4, initial_const=0.1),
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

FIRST_OF_EACH = list({type(case): case for case in reversed(CASES)}.values())

# Attacks that go on from decisions or comparisons: where two candidates are equal but for rounding,
# another shape may take the other one, and the row goes another way from there.
DECIDING = (OnePixel, FewPixel, Square, Pixle, Boundary, HopSkipJump, SparseFool, AutoAttack)


# Without the compiler's optimisations these two branch by rounding as well.
BRANCHING = (SparsePGD, CarliniLinf)


def exactness(attack: Any) -> tuple[float, float]:
    """Share of rows that have to be the same at equal shapes, and how closely.

    All, to the last bit, but for CMA-ES: the last bits of eigenvectors depend on where a matrix
    lies in memory.
    """
    return (0.8, 1e-4) if getattr(attack, "optimizer", None) == "cma_es" else (1.0, 0.0)


@functools.cache
def victim(kind: str, classes: int) -> Any:
    if classes == small_victims.CLASSES:
        return small_victims.small_victim(kind)
    return small_victims.small_victim(kind, classes=classes)


def raised_where_positive(variables: Any, x: Any, target: Any, epsilon: Any) -> Any:
    """A generator in one line: it makes crests higher."""
    return 50 * x, variables * x


# It takes one length of speech, so that it is in no test of other domains.
STAA_NET = StaaNet(
    generator=Generator(
        apply=raised_where_positive,
        variables=np.float32(3),
        num_samples=small_victims.inputs("conv", 1).shape[1],
        sample_rate=16_000,
        labels=("a", "b"),
        epsilon=(0.02, 0.1),
    )
)


@functools.cache
def labels(kind: str, classes: int) -> np.ndarray:
    """What the victim predicts, but for every third utterance."""
    y = np.asarray(victim(kind, classes).logits(small_victims.inputs(kind, 24))).argmax(axis=1)
    y[::3] = (y[::3] + 1) % classes
    return y


def attack_all(
    attack: Any,
    order: np.ndarray,
    kind: str = "conv",
    classes: int = small_victims.CLASSES,
    **options: Any,
) -> AttackResult:
    """Attack some of 24 utterances, a third of them misclassified, each under its own id."""
    epsilons = {"conv": (0.02, 0.1), "spectrogram": (2.0, 12.0), "front_end": (0.1, 0.5)}[kind]
    x, y = small_victims.inputs(kind, 24), labels(kind, classes)
    minimal = getattr(attack, "minimal_norm", False)
    return run_attack(
        victim(kind, classes),
        x[order],
        y[order],
        attack,
        [math.inf] if minimal else epsilons,
        seed=5,
        ids=[f"utterance {i}" for i in order],
        **options,
    )


def test_every_attack_is_covered() -> None:
    assert {type(case) for case in (*CASES, STAA_NET)} == set(ATTACKS.values())


# One of each attack on a spectrogram, where it takes one; of the long proofs, every case on a
# waveform and on a spectrogram, and one of each kind of attack through a front end, which is the
# victim's affair: by a gradient, planes, features, an optimiser, queries and decisions.
WAVEFORM_CASES = [(case, "conv", small_victims.CLASSES) for case in (*CASES, STAA_NET)]
SPECTROGRAM_CASES = [(case, "spectrogram", 2) for case in CASES]
FRONT_END_CASES = [
    (case, "front_end", 50)
    for case in FIRST_OF_EACH
    if isinstance(case, PGD | DeepFool | JSMA | CarliniL2 | Square | Boundary)
]
SHORT_CASES = [case for case in SPECTROGRAM_CASES if case[0] in FIRST_OF_EACH]
SHORT_CASES += [case for case in WAVEFORM_CASES if case[0].name == "staanet"]


@pytest.mark.parametrize(
    ("attack", "kind", "classes"),
    short_and_long([*WAVEFORM_CASES, *SPECTROGRAM_CASES, *FRONT_END_CASES], SHORT_CASES),
    ids=str,
)
def test_a_row_is_its_own(
    attack: Any, kind: str, classes: int, request: pytest.FixtureRequest
) -> None:
    """Whatever sits beside it, and wherever it sits; and it is what the attack promises."""
    if isinstance(attack, BRANCHING):
        request.getfixturevalue("optimised")
    straight, x = np.arange(ROWS), small_victims.inputs(kind, 24)[:ROWS]
    base = attack_all(attack, straight, kind, classes, batch_size=7, devices=DEVICES[:1])
    right = base.clean_prediction == base.labels
    assert right.sum() == 13
    change = np.abs(base.x_adv - x[None]).reshape(len(base.x_adv), ROWS, -1).max(axis=(0, 2))
    assert (change[right] > 0).sum() > 6

    if getattr(attack, "minimal_norm", False):
        # What is misclassified needs no change, and the first look shows it.
        np.testing.assert_array_equal(base.x_adv[:, ~right], x[None, ~right])
        assert (base.steps[:, ~right] <= 1).all()
    check_promises(attack, base, kind, classes)

    # Other mates and other positions: bit for bit at equal shapes.
    exact, atol = exactness(attack)
    order = np.random.default_rng(0).permutation(24)
    shuffled = attack_all(attack, order, kind, classes, batch_size=7, devices=DEVICES[:1])
    assert share_of_same(shuffled, base, atol, order) >= exact


def check_promises(attack: Any, result: AttackResult, kind: str, classes: int) -> None:
    """Inside the bounds, inside ε in the attack's norm, and what succeeded is adversarial."""
    x, y = small_victims.inputs(kind, 24)[:ROWS], labels(kind, classes)[:ROWS]
    low, high = victim(kind, classes).bounds
    assert np.isfinite(result.x_adv).all()
    assert result.x_adv.min() >= low - 1e-6
    assert result.x_adv.max() <= high + 1e-6
    logits = np.stack([np.asarray(victim(kind, classes).logits(each)) for each in result.x_adv])
    np.testing.assert_array_equal(logits.argmax(axis=2) != y[None], result.success)
    if kind != "conv":  # there ε is one at which rows differ, which is too small for noise
        assert (result.success[-1] & (result.clean_prediction == y)).any()
    if getattr(attack, "minimal_norm", False):
        # What was not fooled is left as it was.
        np.testing.assert_array_equal(result.x_adv[~result.success], x[None][~result.success])
    elif getattr(attack, "epsilon_norm", "linf") == "linf":
        limit = np.array(result.epsilons)[:, None] * (1 + 1e-4) + 1e-6
        assert (result.measures["linf"] <= limit).all()


@pytest.mark.long
@pytest.mark.parametrize("attack", [*CASES, STAA_NET], ids=str)
def test_a_row_is_its_own_in_every_batch(attack: Any, request: pytest.FixtureRequest) -> None:
    """On however many devices, refilled or not, looped on the host or on the device."""
    if isinstance(attack, BRANCHING):
        request.getfixturevalue("optimised")
    straight = np.arange(ROWS)
    base = attack_all(attack, straight, batch_size=7, devices=DEVICES[:1])

    # Two devices without refilling: bit for bit at equal shapes.
    exact, atol = exactness(attack)
    plain = attack_all(attack, straight, batch_size=14, refill=False, devices=DEVICES[:2])
    assert share_of_same(plain, base, atol) >= exact

    # One row at a time in a loop on the device: float reordering alone.
    if attack not in FIRST_OF_EACH and attack is not STAA_NET:
        return  # the loop is the driver's, whatever the attack's parameters
    close = 0.9 if isinstance(attack, DECIDING) else 1.0
    alone = attack_all(attack, straight, batch_size=1, loop="device", devices=DEVICES[:1])
    assert share_of_same(alone, base, atol=1e-4) >= close


def share_of_same(
    one: AttackResult, base: AttackResult, atol: float = 0.0, order: np.ndarray | None = None
) -> float:
    """Share of equal rows, all ε together.

    Row i of ``one`` is row ``order[i]`` of ``base``, for those that ``base`` has. With ``atol`` 0
    all that is reported of a row has to be equal, else the input alone; where that is equal,
    whether it is adversarial always has to be.
    """
    where = slice(None) if order is None else np.argsort(order)[:ROWS]
    close = np.isclose(one.x_adv[:, where], base.x_adv, rtol=0, atol=atol)
    same = close.all(axis=tuple(range(2, close.ndim)))
    np.testing.assert_array_equal(one.success[:, where][same], base.success[same])
    names = () if atol else ("prediction", "steps", "queries", "gradients", "flags")
    for name in names:
        same &= getattr(one, name)[:, where] == getattr(base, name)
    return float(same.mean())
