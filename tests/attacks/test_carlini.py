"""Carlini & Wagner's attacks against closed forms, and what the driver is owed."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.base import NON_FINITE, ZERO_GRADIENT
from jaxser.attacks.carlini_l0 import CarliniL0
from jaxser.attacks.carlini_l2 import CarliniL2
from jaxser.attacks.carlini_linf import CarliniLinf
from jaxser.attacks.tanh_space import in_box, offset_to
from jaxser.driver.result import AttackResult
from jaxser.runtime.errors import UsageError

DEVICES = jax.devices()
ONE_DEVICE = {"devices": DEVICES[:1]}
ANY_SIZE = [float("inf")]
GOLDEN = Path(__file__).parents[1] / "golden" / "saliency_carlini.npz"
ART_L2 = {"steps": 10, "binary_search_steps": 6, "initial_const": 0.01, "compat": "art"}
ART_LINF = {
    "steps": 10,
    "initial_const": 1e-3,
    "const_factor": 5.0,
    "decrease_factor": 0.8,
    "compat": "art",
}

# Short ones, for what does not depend on how good they are.
SHORT = [
    CarliniL2(steps=10, binary_search_steps=4, initial_const=0.1),
    CarliniLinf(steps=10, initial_const=1e-2, const_factor=5.0),
    CarliniL0(steps=10, rounds=25),
]
COMPATIBLE = [CarliniL2(**ART_L2 | {"steps": 4}), CarliniLinf(**ART_LINF | {"learning_rate": 0.05})]


def name_of(attack: Any) -> str:
    return attack.name


# --- closed forms --------------------------------------------------------------------------------


def two_classes(count: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """(victim, inputs, margins, what a unit of each sample takes off the margin)."""
    victim = small_victims.small_victim("linear", classes=2)
    kernel, bias = (np.asarray(victim.variables[name], float) for name in ("kernel", "bias"))
    x = small_victims.waveforms(count)
    margin = (x @ kernel + bias) @ [1.0, -1.0]
    gain = -np.sign(margin)[:, None] * (kernel[:, 0] - kernel[:, 1])[None]
    return victim, x, np.abs(margin), gain


def smallest(gain: np.ndarray, room: np.ndarray, margin: float, norm: str) -> float:
    """Norm of the smallest δ with 0 ≤ sign(gain) δ ≤ room that takes ``margin`` off.

    In L2 it is min(t |gain|, room), in L∞ min(t, room) for the t at which that is enough.
    """
    low, high = 0.0, 1e3
    slope = np.abs(gain) if norm == "l2" else 1.0
    for _ in range(200):
        t = (low + high) / 2
        enough = (np.abs(gain) * np.minimum(t * slope, room)).sum() >= margin
        low, high = (low, t) if enough else (t, high)
    delta = np.minimum(high * slope, room)
    return float(np.linalg.norm(delta) if norm == "l2" else delta.max())


@pytest.mark.parametrize("bounds", short_and_long(["far", "near", "none"], ["near", "none"]))
def test_l2_reaches_the_distance_to_a_hyperplane(bounds: str) -> None:
    """With bounds of the quadrants around x, a fifth of the samples cannot go where it pays."""
    victim, x, margin, gain = two_classes(12)
    box = {"far": (-1.0, 1.0), "near": (-0.5, 0.5), "none": None}[bounds]
    confidence = 8.0 if bounds == "near" else 0.0
    attack = CarliniL2(bounds=box, confidence=confidence, steps=300 if confidence else 100)
    result = run_attack(victim.logits, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    low, high = (-1e9, 1e9) if box is None else box
    room = np.where(gain > 0, high - x, x - low)
    best = [smallest(*row, "l2") for row in zip(gain, room, margin + confidence, strict=True)]
    ratio = result.measures["l2"][0] / best
    assert ratio.min() > 1 - 1e-3
    # Samples that end at their bound get there slowly in tanh space.
    assert ratio.max() < (1.03 if bounds == "near" else 1.02)
    assert np.median(ratio) < 1.01
    if bounds == "near":
        # The closed form without bounds is out of reach: they do act.
        assert (best > 1.05 * (margin + confidence) / np.linalg.norm(gain, axis=1)).any()
        assert np.abs(result.x_adv).max() <= 0.5


@pytest.mark.parametrize("bounds", short_and_long(["far", "near"], ["near"]))
def test_linf_reaches_the_distance_to_a_hyperplane(bounds: str) -> None:
    victim, x, margin, gain = two_classes(12)
    low, high = box = {"far": (-1.0, 1.0), "near": (-0.5, 0.5)}[bounds]
    confidence = 8.0 if bounds == "near" else 0.0
    attack = CarliniLinf(
        bounds=box,
        confidence=confidence,
        steps=100,
        decrease_factor=0.99,
        relative_rate=0.03,
        initial_const=1e-3,
    )
    result = run_attack(victim.logits, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    room = np.where(gain > 0, high - x, x - low)
    best = [smallest(*row, "linf") for row in zip(gain, room, margin + confidence, strict=True)]
    ratio = result.measures["linf"][0] / best
    assert ratio.min() > 1 - 1e-3
    assert ratio.max() < 1.04
    assert np.median(ratio) < 1.02
    if bounds == "near":
        assert (best > 1.05 * (margin + confidence) / np.abs(gain).sum(axis=1)).any()


@pytest.mark.parametrize("confidence", short_and_long([0.0, 25.0], [25.0]))
def test_l0_needs_hardly_more_than_the_shortest_prefix(confidence: float) -> None:
    """Samples in order of |gain| times room; the fewest whose sum passes the margin."""
    victim, x, margin, gain = two_classes(12)
    attack = CarliniL0(confidence=confidence)
    result = run_attack(victim, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    worth = np.abs(gain) * np.where(gain > 0, 1 - x, x + 1)
    taken = np.sort(worth, axis=1)[:, ::-1].cumsum(axis=1)
    fewest = (taken < (margin + confidence)[:, None]).sum(axis=1) + 1
    assert fewest.max() > (8 if confidence else 0)
    ratio = result.measures["l0"][0] / fewest
    assert ratio.min() >= 1
    assert ratio.max() < 1.3


def test_the_variable_is_the_published_one_and_exact_at_x() -> None:
    """x_adv = middle + half tanh(arctanh((x - middle) / half) + offset), and its derivative."""
    rng = np.random.default_rng(0)
    low, high = -5.0, 7.0
    x = rng.uniform(low, high, (4, 50))
    offset = rng.normal(0, 0.5, x.shape)
    x_adv, slope = in_box(jnp.asarray(x), jnp.asarray(offset), (low, high))
    expected = 1 + 6 * np.tanh(np.arctanh((x - 1) / 6) + offset)
    np.testing.assert_allclose(x_adv, expected, atol=2e-5)
    np.testing.assert_allclose(slope, 6 * (1 - ((expected - 1) / 6) ** 2), atol=2e-5)
    np.testing.assert_allclose(offset_to(x, x_adv, (low, high)), offset, atol=1e-3)
    # Samples at and beyond the bounds, too, stay put at a zero offset.
    edge = jnp.asarray([[low, high, low - 0.1, high + 0.1, 0.3, 1e-7]], jnp.float32)
    still, _ = in_box(edge, jnp.zeros_like(edge), (low, high))
    np.testing.assert_array_equal(still, edge)
    inside, _ = in_box(edge, jnp.full_like(edge, 20.0), (low, high))
    assert inside.max() <= high + 0.1 + 1e-6
    assert jnp.isfinite(inside).all()


def test_l2_is_no_further_than_the_published_search() -> None:
    """A constant rate of 0.01 per sample steps over near boundaries; the default does not."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(16, seed=21)
    default = run_attack(victim, x, None, CarliniL2(), ANY_SIZE, **ONE_DEVICE)
    attack = CarliniL2(relative_rate=None, scaling="sample")
    published = run_attack(victim, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert default.success.all()
    ratio = default.measures["l2"][0] / published.measures["l2"][0]
    assert ratio.max() < 1.03
    assert ratio.min() < 0.5


@pytest.mark.long
@pytest.mark.parametrize("attack", [CarliniL2(), CarliniL2(**ART_L2)], ids=["adam", "art"])
def test_no_example_is_so_close_that_rounding_takes_it_back(attack: CarliniL2) -> None:
    """Of many rows some end in reach of rounding where a sign of the margin is enough."""
    victim, x, _, _ = two_classes(1024)
    attack = dataclasses.replace(attack, bounds=(-1.0, 1.0))
    result = run_attack(victim.logits, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    kernel, bias = (np.asarray(victim.variables[name], float) for name in ("kernel", "bias"))
    exact = result.x_adv[0] @ kernel + bias
    past = exact @ [-1.0, 1.0] * np.sign((x @ kernel + bias) @ [1.0, -1.0])
    assert (past > 1e-6 * np.abs(exact).max(axis=1)).all()
    assert result.success.all()


# --- parity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("targeted", [False, True])
def test_rows_that_art_found_are_found_again(norm: str, targeted: bool) -> None:
    golden = np.load(GOLDEN)
    victim = small_victims.small_victim("conv")
    y = (golden["y"] + targeted) % small_victims.CLASSES
    attack: Any = (
        CarliniL2(**ART_L2, targeted=targeted)
        if norm == "l2"
        else CarliniLinf(**ART_LINF, targeted=targeted)
    )
    result = run_attack(victim, golden["x"], y, attack, ANY_SIZE, **ONE_DEVICE)
    theirs = golden[f"{norm}/{'targeted' if targeted else 'untargeted'}"]
    assert (theirs != golden["x"]).any(axis=1).mean() > 0.5
    # The line search compares losses that may differ by rounding alone: one row in ten.
    apart = np.abs(result.x_adv[0] - theirs).max(axis=1)
    assert (apart < 1e-4).mean() >= 0.9, apart
    assert apart.max() < 5e-3


def test_one_descent_per_tau_serves_every_const() -> None:
    """ART takes as many descents as there are values of c; the gradients do not grow with them."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(8)
    few, many = (
        run_attack(
            victim, x, None, CarliniLinf(**ART_LINF | {"const_factor": factor}), ANY_SIZE,
            **ONE_DEVICE,
        )
        for factor in (5.0, 1.2)
    )  # fmt: skip
    assert few.success.all()
    assert many.gradients.max() < 3 * few.gradients.max()


# --- the contract --------------------------------------------------------------------------------


def attack_all(attack: Any, order: np.ndarray, **options: Any) -> AttackResult:
    """Attack some of 24 utterances, a third of which is misclassified, under their own ids."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    y[::3] = (y[::3] + 1) % small_victims.CLASSES
    options = ONE_DEVICE | {"batch_size": 8} | options
    return run_attack(
        victim, x[order], y[order], attack, ANY_SIZE, seed=5, ids=order.tolist(), **options
    )


def assert_same(one: AttackResult, other: AttackResult, order: Any = slice(None)) -> None:
    for name in ("x_adv", "prediction", "steps", "queries", "gradients", "flags"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[:, order], name)


@pytest.mark.parametrize("attack", COMPATIBLE, ids=name_of)
def test_rows_do_not_depend_on_their_mates(attack: Any) -> None:
    base = attack_all(attack, np.arange(24))
    assert len(np.unique(base.steps)) > 1
    assert base.success.mean() > 0.9
    clean = base.clean_prediction != base.labels
    assert clean.sum() >= 8
    np.testing.assert_array_equal(base.steps[0, clean], 1)
    assert (base.measures["l0"][0, clean] == 0).all()
    shuffled = np.random.default_rng(0).permutation(24)
    assert_same(attack_all(attack, shuffled), base, shuffled)
    assert_same(attack_all(attack, np.arange(24), refill=False), base)


@pytest.mark.parametrize("attack", SHORT, ids=name_of)
@pytest.mark.parametrize("classes", short_and_long([2, 50], [50]))
def test_two_classes_and_fifty(attack: Any, classes: int) -> None:
    victim = small_victims.small_victim("linear", classes=classes)
    result = run_attack(victim, small_victims.waveforms(8), None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()


@pytest.mark.parametrize("kind", short_and_long(["spectrogram", "front_end"], ["front_end"]))
@pytest.mark.parametrize("attack", SHORT, ids=name_of)
def test_spectrograms_and_front_ends(attack: Any, kind: str) -> None:
    victim, x = small_victims.small_victim(kind), small_victims.inputs(kind, 16)
    result = run_attack(victim, x, None, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.mean() > 0.9
    np.testing.assert_array_equal(result.success, result.prediction != result.labels)
    low, high = victim.bounds
    assert result.x_adv.min() >= low
    assert result.x_adv.max() <= high
    assert not result.flags.any()
    size = x[0].size
    plenty = {
        "l2": 0.25 * np.linalg.norm(x.reshape(16, -1), axis=1),
        "linf": 0.1 * (high - low),
        "l0": 0.1 * size,
    }[attack.epsilon_norm]
    assert np.median(result.measures[attack.epsilon_norm][0] / plenty) < 1


@pytest.mark.parametrize("attack", SHORT, ids=name_of)
def test_targets_are_reached_with_confidence(attack: Any) -> None:
    victim, x = small_victims.small_victim("spectrogram"), small_victims.spectrograms(12)
    target = (np.asarray(victim.logits(x)).argmax(axis=1) + 1) % small_victims.CLASSES
    settings = {"steps": 30, "targeted": True, "confidence": 0.2}
    attack = type(attack)(**settings)
    result = run_attack(victim, x, target, attack, ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_array_equal(result.success, result.prediction == target[None])
    assert result.success.mean() > 0.8
    logits = np.asarray(victim.logits(result.x_adv[0]))
    others = np.where(np.arange(small_victims.CLASSES) == target[:, None], -np.inf, logits)
    margin = logits[np.arange(12), target] - others.max(axis=1)
    assert (margin[result.success[0]] > 0.2 - 1e-4).all()


@pytest.mark.parametrize("attack", SHORT + COMPATIBLE, ids=name_of)
def test_rows_without_a_gradient_or_with_logits_that_are_not_finite_end_at_once(
    attack: Any,
) -> None:
    weights = small_victims.linear_weights()

    def broken(x: jax.Array) -> jax.Array:
        logits = small_victims.linear_apply(weights, x)
        logits = jnp.where(x[:, :1] > 0.9, jnp.nan, logits)
        return jnp.where(x[:, :1] < -0.9, jnp.arange(5.0)[None], logits)

    x = small_victims.waveforms(4)
    x[:, 0] = [0.0, 0.95, -0.95, 0.1]
    y = np.asarray(small_victims.linear_apply(weights, x)).argmax(axis=1)
    y[2] = 4
    result = run_attack(broken, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    assert np.isfinite(result.x_adv).all()
    assert result.success[0].tolist() == [True, False, False, True]
    assert result.flags[0].tolist() == [0, NON_FINITE, ZERO_GRADIENT, 0]
    np.testing.assert_array_equal(result.steps[0, 1:3], 1)
    np.testing.assert_array_equal(result.x_adv[0, 1:3], x[1:3])


def test_the_first_of_many_budgets_that_suffices() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(8)
    free = run_attack(victim, x, None, SHORT[0], ANY_SIZE, **ONE_DEVICE)
    budgets = [0.02, 0.08]
    result = run_attack(victim, x, None, SHORT[0], budgets, **ONE_DEVICE)
    within = free.measures["l2"] <= np.array(budgets)[:, None]
    assert 0 < within.mean() < 1
    np.testing.assert_array_equal(result.success, within & free.success)


def test_what_the_driver_is_told() -> None:
    assert [attack.epsilon_norm for attack in SHORT] == ["l2", "linf", "l0"]
    for attack in SHORT + COMPATIBLE:
        assert attack.minimal_norm
        assert attack.finishes_early
        assert attack.forward_rows == 1
    assert CarliniL2(steps=7, binary_search_steps=3).max_steps == 21
    assert CarliniL0(steps=7, rounds=3).max_steps == 21
    # τ passes 1, 1/2, 1/4 on its way to 1/8; c is 1, 2, 4.
    attack = CarliniLinf(
        steps=7, decrease_factor=0.5, smallest_tau=1 / 8, initial_const=1.0, largest_const=8.0
    )
    assert attack.max_steps == (4 + 3) * 7


@pytest.mark.parametrize(
    ("attack", "settings", "words"),
    [
        (CarliniL2, {"learning_rate": 0}, "learning_rate must be positive"),
        (CarliniL2, {"confidence": -1.0}, "confidence must be zero or positive"),
        (CarliniL2, {"scaling": "column"}, "scaling must be"),
        (CarliniL2, {"compat": "foolbox"}, "compat must be"),
        (CarliniL2, {"compat": "art", "bounds": None}, "needs bounds"),
        (CarliniLinf, {"decrease_factor": 1.0}, "decrease_factor must be between"),
        (CarliniLinf, {"const_factor": 1.0}, "const_factor must be more than 1"),
        (CarliniLinf, {"largest_const": 1e-9}, "largest_const must be more than"),
        (CarliniL0, {"removal": 1.0}, "removal must be between"),
        (CarliniL0, {"rounds": 0}, "rounds must be positive"),
    ],
)
def test_hyper_parameters_are_checked(attack: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        attack(**settings)
