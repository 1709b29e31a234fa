"""Gradient attacks against closed forms on a linear victim and against the peers' golden file."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import MARGIN_FALLBACK, NON_FINITE, ZERO_GRADIENT, row_keys
from jaxser.attacks.bim import BIM
from jaxser.attacks.eotpgd import EOTPGD
from jaxser.attacks.fgsm import FGSM
from jaxser.attacks.gradient import expected_gradient, loss_gradient
from jaxser.attacks.mifgsm import MIFGSM
from jaxser.attacks.pgd import PGD
from jaxser.attacks.randomised import RandomLogits, resample
from jaxser.corpora.table import numeric_id
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "attacks_conv.npz"
ONE_DEVICE = {"devices": jax.devices()[:1]}

# The settings that scripts/golden_attacks.py gave the peers.
STEPS, RELATIVE_STEP, DECAY = 10, 0.25, 0.9
EPSILONS = {"linf": [0.01, 0.03, 0.1], "l2": [0.05, 0.2, 0.6], "l1": [0.2, 0.5, 1.0]}
WALK = FGSM(minimal=True, step_size=1 / 512, max_epsilon=1 / 16)


def peer_settings(attack: str, targeted: bool) -> Any:
    if attack == "fgsm":
        return FGSM(targeted=targeted)
    if attack == "bim100":
        return BIM(steps=100, relative_step_size=1 / 3, targeted=targeted)
    settings = {"steps": STEPS, "relative_step_size": RELATIVE_STEP, "targeted": targeted}
    fixed = settings | {"random_start": False}
    return {
        "bim": lambda: BIM(**settings),
        "mifgsm": lambda: MIFGSM(decay=DECAY, **settings),
        "pgd": lambda: PGD(**fixed),
        "pgd_l2": lambda: PGD(norm="l2", **fixed),
        "pgd_l1": lambda: PGD(norm="l1", l1_share=6 / 64, **fixed),
        "eotpgd": lambda: EOTPGD(**fixed),
    }[attack]()


def golden_cases() -> list[str]:
    """oracle/attack/goal of every perturbation; those of the walk have their own test."""
    names = [name for name in np.load(GOLDEN).files if name.count("/") == 2]
    return [name for name in names if name.startswith(("torchattacks", "foolbox", "art/bim"))]


def finished(attack: Any, victim: Any, x: np.ndarray, y: Any, epsilon: float = np.inf) -> Any:
    """The attack's last state, without a driver; the rows' ids are their positions."""
    logits_fn = victim.logits if isinstance(victim, Victim) else victim
    keys = row_keys(jax.random.key(0), jnp.arange(len(x), dtype=jnp.uint32))
    budget, y = jnp.full(len(x), epsilon, jnp.float32), jnp.asarray(y, jnp.int32)
    state = jax.jit(lambda x: attack.init(logits_fn, keys, x, y, budget))(jnp.asarray(x))
    step = jax.jit(lambda state: attack.step(logits_fn, state))
    for _ in range(attack.max_steps):
        state = step(state)
    assert state.done.all()
    return state


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(np.load(GOLDEN))


def test_the_golden_file_is_complete() -> None:
    assert len(golden_cases()) == 21


def test_the_twins_agree(golden: dict[str, Any]) -> None:
    victim = small_victims.small_victim("conv")
    for name, value in victim.variables.items():
        np.testing.assert_allclose(golden[f"weights/{name}"], value, rtol=1e-6)
    np.testing.assert_allclose(victim.logits(golden["x"]), golden["logits"], atol=2e-5)


@pytest.mark.parametrize("name", golden_cases())
def test_same_perturbation_as_the_peers(name: str, golden: dict[str, Any]) -> None:
    _, attack, goal = name.split("/")
    result = run_attack(
        small_victims.small_victim("conv"),
        golden["x"],
        golden["y"],
        peer_settings(attack, goal == "targeted"),
        EPSILONS[attack[-2:] if attack[-2:] in EPSILONS else "linf"],
        **ONE_DEVICE,
    )
    apart = np.abs(result.x_adv - golden["x"][None] - golden[name])
    assert np.abs(golden[name]).max() > 0.05  # the peer did perturb
    # Where an entry of the gradient is zero but for rounding, its sign is anybody's.
    assert (apart > 1e-5).mean() < 0.001


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_the_walk_ends_where_arts_does(goal: str, golden: dict[str, Any]) -> None:
    targeted = goal == "targeted"
    attack = dataclasses.replace(WALK, targeted=targeted)
    victim, x, clean = small_victims.small_victim("conv"), golden["x"], golden["logits"].argmax(1)
    y = golden["y"] if targeted else clean
    state = finished(attack, victim, x, y)
    theirs = golden[f"art/walk/{goal}"][0]
    reached = np.asarray(state.x_adv != x).any(axis=1)
    # Rows that are there at once ART moves all the same, and rows that never get there.
    there = (clean == y) == targeted
    ended = np.abs(theirs).max(axis=1)
    np.testing.assert_array_equal(reached[there], False)
    np.testing.assert_allclose(ended[there], WALK.step_size, rtol=1e-5)
    np.testing.assert_allclose(ended[~there & ~reached], WALK.max_epsilon, rtol=1e-5)
    assert reached.sum() > 3
    apart = np.abs(np.asarray(state.x_adv) - x - theirs)[reached]
    assert (apart > 1e-5).mean() < 0.001


def two_class_victim(seed: int = 0) -> tuple[Victim, np.ndarray, np.ndarray]:
    """A linear victim, its weight difference w_0 - w_1, and inputs of class 0 by a margin."""
    victim = small_victims.small_victim("linear", classes=2, seed=seed)
    kernel = np.asarray(victim.variables["kernel"])
    return victim, kernel[:, 0] - kernel[:, 1], small_victims.waveforms(6)


def margins(victim: Victim, x: np.ndarray) -> np.ndarray:
    logits = np.asarray(victim.logits(jnp.asarray(x)), np.float64)
    return logits[..., 0] - logits[..., 1]


@pytest.mark.parametrize("attack", [FGSM(), BIM(steps=8), PGD(steps=12), MIFGSM()])
def test_linf_lowers_a_linear_margin_by_epsilon_times_l1(attack: Any) -> None:
    victim, difference, x = two_class_victim()
    epsilons = [0.01, 0.05]
    result = run_attack(victim, x, np.zeros(6, int), attack, epsilons, **ONE_DEVICE)
    for e, epsilon in enumerate(epsilons):
        drop = margins(victim, x) - margins(victim, result.x_adv[e])
        np.testing.assert_allclose(drop, epsilon * np.abs(difference).sum(), rtol=2e-4)


@pytest.mark.parametrize("random_start", [False, True])
def test_l2_lowers_a_linear_margin_by_epsilon_times_l2(random_start: bool) -> None:
    victim, difference, x = two_class_victim()
    attack = PGD(norm="l2", steps=60, random_start=random_start)
    result = run_attack(victim, x, np.zeros(6, int), attack, [0.1, 0.4], **ONE_DEVICE)
    for e, epsilon in enumerate([0.1, 0.4]):
        drop = margins(victim, x) - margins(victim, result.x_adv[e])
        np.testing.assert_allclose(drop, epsilon * np.linalg.norm(difference), rtol=1e-3)
        np.testing.assert_allclose(result.measures["l2"][e], epsilon, rtol=1e-5)


@pytest.mark.parametrize("bounds", [None, (-1.0, 1.0)])
def test_l1_spends_the_budget_where_the_weights_are_largest(bounds: Any) -> None:
    """The best L1 perturbation moves the samples in order of |w|, each as far as it can."""
    victim, difference, x = two_class_victim()
    epsilon = 2.0
    attack = PGD(norm="l1", steps=200, step_size=0.1, bounds=bounds, random_start=False)
    state = finished(attack, victim, x, np.zeros(6, int), epsilon)
    order = np.argsort(-np.abs(difference))
    for row, x_adv in zip(x, np.asarray(state.x_adv), strict=True):
        towards = -np.sign(difference[order])
        room = np.full(64, epsilon) if bounds is None else 1 - towards * row[order]
        spent = np.minimum(room, np.maximum(epsilon - np.cumsum(room) + room, 0))
        best = (np.abs(difference[order]) * spent).sum()
        drop = -(x_adv - row) @ difference
        assert np.abs(x_adv - row).sum() <= epsilon * (1 + 1e-5)
        assert 0.97 * best <= drop <= best * (1 + 1e-4)
        assert bounds is None or np.abs(x_adv).max() <= 1


def test_the_walk_takes_the_smallest_multiple_of_a_linear_victim() -> None:
    victim, difference, x = two_class_victim()
    y = margins(victim, x) < 0
    attack = FGSM(minimal=True, step_size=0.001, max_epsilon=0.2)
    state = finished(attack, victim, x, y)
    needed = np.abs(margins(victim, x)) / np.abs(difference).sum()
    multiple = np.ceil(needed / 0.001)
    assert (multiple <= 200).all()
    moved = np.abs(np.asarray(state.x_adv) - x)
    np.testing.assert_allclose(moved.max(axis=1), 0.001 * multiple, atol=1e-6)
    np.testing.assert_array_equal(state.gradients, 1)
    np.testing.assert_array_equal(state.steps, np.ceil(multiple / 8))
    np.testing.assert_array_equal(state.queries, 1 + 8 * state.steps)


def test_the_walk_on_a_curved_victim_by_brute_force() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(12)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    few = FGSM(minimal=True, step_size=0.001, max_epsilon=0.01, candidates=4)
    state = finished(few, victim, x, y)
    gradient = jax.jit(lambda x: loss_gradient(victim.logits, x, y, False).gradient)
    signs = np.sign(gradient(jnp.asarray(x)))
    tried = np.stack([np.clip(x + np.float32(i * 0.001) * signs, -1, 1) for i in range(11)])
    wrong = np.stack([np.asarray(victim.logits(each)).argmax(axis=1) != y for each in tried])
    assert wrong.any(axis=0).any()
    assert not wrong.any(axis=0).all()
    expected = tried[wrong.argmax(axis=0), np.arange(12)]  # the clean input where none is wrong
    np.testing.assert_allclose(state.x_adv, expected, atol=1e-6)
    many = finished(dataclasses.replace(few, candidates=16), victim, x, y)
    np.testing.assert_array_equal(many.x_adv, state.x_adv)


def test_the_walk_reaches_its_end_where_art_stops_short() -> None:
    """0.1 + 0.1 + 0.1 is above 0.3 in floats, so that ART's defaults never try 0.3."""
    weights = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)

    def between(x: jax.Array) -> jax.Array:
        return x @ weights - jnp.asarray([[0.25, 0.0]])

    x = np.array([[0.5, 0.0]], np.float32)
    state = finished(FGSM(minimal=True, step_size=0.1, max_epsilon=0.3), between, x, [0])
    np.testing.assert_allclose(state.x_adv, [[0.2, 0.0]], atol=1e-6)


def test_the_walk_leaves_what_is_wrong_or_flat() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(6)
    wrong = (np.asarray(victim.logits(x)).argmax(axis=1) + 1) % 5
    state = finished(WALK, victim, x, wrong)
    np.testing.assert_array_equal(state.x_adv, x)
    np.testing.assert_array_equal(state.queries, 1)
    state = finished(WALK, lambda x: 0 * x[:, :2] + jnp.asarray([[1.0, 0.0]]), x, np.zeros(6))
    np.testing.assert_array_equal(state.x_adv, x)
    assert (state.flags & ZERO_GRADIENT).all()
    assert (state.steps == 0).all()


def test_the_walk_is_run_as_a_minimal_norm_attack() -> None:
    """One walk per utterance, which no ε of the list enters."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(12)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    attack = FGSM(minimal=True, step_size=0.001, max_epsilon=0.05)
    result = run_attack(victim, x, y, attack, [0.004, 0.03], **ONE_DEVICE)
    state = finished(attack, victim, x, y)
    size = np.abs(np.asarray(state.x_adv) - x).max(axis=1)
    found = size > 0
    for i, epsilon in enumerate([0.004, 0.03]):
        success = result.success[i]
        np.testing.assert_array_equal(success, found & (size <= epsilon * (1 + 1e-6)))
        np.testing.assert_allclose(result.measures["linf"][i, success], size[success], atol=1e-6)
    assert result.success[0].sum() < result.success[1].sum()


def test_no_momentum_is_bim() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(8)
    y = small_victims.labels(8)
    settings = {"steps": 6, "relative_step_size": 0.25}
    bim = finished(BIM(**settings), victim, x, y, 0.03)
    forgetful = finished(MIFGSM(decay=0.0, **settings), victim, x, y, 0.03)
    np.testing.assert_array_equal(forgetful.x_adv, bim.x_adv)
    lasting = finished(MIFGSM(**settings), victim, x, y, 0.03)
    assert not np.array_equal(lasting.x_adv, bim.x_adv)


def test_momentum_survives_tiny_gradients() -> None:
    """A gradient of 1e-40 has no usable mean in float32, but it has signs."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(8)
    y = np.asarray(victim.logits(x)).argmax(axis=1)

    def faint(x: jax.Array) -> jax.Array:
        return 1e-30 * small_victims.linear_apply(victim.variables, x)

    state = finished(MIFGSM(), faint, x, y, 0.2)
    assert (np.asarray(victim.logits(state.x_adv)).argmax(axis=1) != y).all()


def noisy_logits(rows: int) -> RandomLogits:
    """The convolutional victim behind a random gain and noise at its input."""
    victim = small_victims.small_victim("conv")

    def apply(variables: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
        return small_victims.conv_apply(variables, x + 0.1 * noise)

    keys = row_keys(jax.random.key(9), jnp.arange(rows, dtype=jnp.uint32))
    return RandomLogits(apply, victim.variables, keys)


def test_the_expected_gradient_is_the_mean_over_draws() -> None:
    x, y = jnp.asarray(small_victims.waveforms(5)), jnp.asarray(small_victims.labels(5))
    noisy = noisy_logits(5)
    found = jax.jit(lambda x: expected_gradient(noisy, x, y, False, samples=3))(x)
    one_draw = jax.jit(lambda x, draw: loss_gradient(resample(noisy, draw), x, y, False))
    each = [one_draw(x, draw) for draw in range(3)]
    gradients = np.stack([one.gradient for one in each])
    assert np.abs(gradients[0] - gradients[1]).max() > 0.01
    np.testing.assert_allclose(found.gradient, gradients.mean(axis=0), rtol=1e-6, atol=1e-6)
    most = np.stack([one.reached for one in each]).mean(axis=0) > 0.5
    np.testing.assert_array_equal(found.reached, most)


def test_eotpgd_averages_over_a_randomised_victim_alone() -> None:
    x, y = small_victims.waveforms(5), small_victims.labels(5)
    victim = small_victims.small_victim("conv")
    plain = finished(PGD(steps=4), victim, x, y, 0.03)
    state = finished(EOTPGD(steps=4, samples=3), victim, x, y, 0.03)
    np.testing.assert_array_equal(state.x_adv, plain.x_adv)
    np.testing.assert_array_equal(state.gradients, 4)

    # Its random gradients partly cancel, and each step is along what is left.
    state = finished(EOTPGD(steps=1, samples=3, random_start=False), noisy_logits(5), x, y, 0.03)
    noisy = noisy_logits(5)
    found = jax.jit(lambda x: expected_gradient(noisy, x, y, False, samples=3))(jnp.asarray(x))
    moved = np.asarray(state.x_adv) - x
    np.testing.assert_allclose(moved, 0.25 * 0.03 * np.sign(found.gradient), atol=1e-6)
    np.testing.assert_array_equal(state.queries, 3)
    np.testing.assert_array_equal(state.gradients, 3)


def test_targeted_raises_a_linear_margin() -> None:
    victim, difference, x = two_class_victim()
    result = run_attack(victim, x, np.zeros(6, int), FGSM(targeted=True), [0.03], **ONE_DEVICE)
    rise = margins(victim, result.x_adv[0]) - margins(victim, x)
    np.testing.assert_allclose(rise, 0.03 * np.abs(difference).sum(), rtol=1e-3)
    np.testing.assert_array_equal(result.success[0], result.prediction[0] == 0)


def test_step_size_in_input_units() -> None:
    victim, _, x = two_class_victim()
    attack = BIM(steps=3, step_size=0.004)
    result = run_attack(victim, x, np.zeros(6, int), attack, [0.01, 0.5], **ONE_DEVICE)
    np.testing.assert_allclose(result.measures["linf"][0], 0.01, rtol=1e-4)
    np.testing.assert_allclose(result.measures["linf"][1], 0.012, rtol=1e-4)


@pytest.mark.parametrize("attack", [PGD(), PGD(norm="l2"), PGD(norm="l1")])
def test_random_starts_follow_seed_and_id(attack: Any) -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(4)

    def start(seed: int, ids: list[str]) -> np.ndarray:
        numbers = jnp.asarray([numeric_id(each) for each in ids], jnp.uint32)
        keys = row_keys(jax.random.key(seed), numbers)
        state = attack.init(victim.logits, keys, x, jnp.zeros(4, int), jnp.full(4, 0.1))
        return np.asarray(state.x_adv - x)

    a = start(0, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(a, start(0, ["a", "b", "c", "d"]))
    assert not np.array_equal(a, start(1, ["a", "b", "c", "d"]))
    assert not np.array_equal(a[0], start(0, ["z", "b", "c", "d"])[0])
    np.testing.assert_array_equal(a[1], start(0, ["z", "b", "c", "d"])[1])
    order = {"linf": np.inf, "l2": 2, "l1": 1}[attack.norm]
    norm = np.linalg.norm(a, ord=order, axis=1)
    assert (norm <= 0.1 + 1e-6).all()
    assert (norm > 0.05).all()


def test_early_stop_keeps_the_first_adversarial_iterate() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(16)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    attack = PGD(steps=12, random_start=False)
    keys = row_keys(jax.random.key(0), jnp.arange(16, dtype=jnp.uint32))
    state = attack.init(victim.logits, keys, jnp.asarray(x), jnp.asarray(y), jnp.full(16, 0.02))
    step = jax.jit(lambda state: attack.step(victim.logits, state))
    iterates = [np.asarray(state.x_adv)]
    while not state.done.all():
        state = step(state)
        iterates.append(np.asarray(state.x_adv))
    wrong = np.array([np.asarray(victim.logits(x)).argmax(axis=1) != y for x in iterates])

    stopping = PGD(steps=12, random_start=False, early_stop=True)
    early = run_attack(victim, x, y, stopping, [0.02], **ONE_DEVICE)
    seen = wrong[:12].any(axis=0)  # the last iterate is not looked at before it is scored
    assert seen.any()
    assert (~seen).any()
    expected = np.where(seen, wrong.argmax(axis=0), 12)
    for row, index in enumerate(expected):
        np.testing.assert_allclose(early.x_adv[0, row], iterates[index][row], atol=1e-6)
    np.testing.assert_array_equal(early.steps[0], np.minimum(expected + 1, 12))
    np.testing.assert_array_equal(early.queries, early.steps)
    np.testing.assert_array_equal(early.gradients, early.steps)
    np.testing.assert_array_equal(early.success[0], wrong.any(axis=0))


def test_a_row_that_is_wrong_already_stops_at_the_clean_input() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(8)
    clean = np.asarray(victim.logits(x)).argmax(axis=1)
    attack = PGD(early_stop=True, random_start=False)
    result = run_attack(victim, x, (clean + 1) % 5, attack, [0.05], **ONE_DEVICE)
    np.testing.assert_array_equal(result.x_adv[0], x)
    assert result.success.all()
    assert (result.steps == 1).all()
    assert np.isnan(result.measures["snr_peak"]).all()  # no perturbation has no SNR


def saturated_victim() -> Victim:
    """A linear victim so sure that float32 cross-entropy has no gradient."""
    victim = small_victims.small_victim("linear")
    scaled = jax.tree.map(lambda w: 1e4 * w, victim.variables)
    return Victim(
        apply=small_victims.linear_apply,
        variables=scaled,
        labels=victim.labels,
        input_shape=victim.input_shape,
    )


@pytest.mark.parametrize("attack", [FGSM(), BIM(), PGD(norm="l2", random_start=False)])
def test_a_confident_victim_is_attacked_through_the_margin(attack: Any) -> None:
    victim, x = saturated_victim(), small_victims.waveforms(8)
    epsilon = 4.0 if getattr(attack, "norm", "linf") == "l2" else 0.4
    naive = jax.grad(
        lambda x: (
            -jax.nn.log_softmax(victim.logits(x))[jnp.arange(8), victim.logits(x).argmax(-1)].sum()
        )
    )(jnp.asarray(x))
    assert (np.asarray(naive) == 0).all(axis=1).any()  # what other libraries step along
    result = run_attack(victim, x, None, attack, [epsilon], **ONE_DEVICE)
    assert result.success.all()
    assert (result.flags & MARGIN_FALLBACK).all()
    assert not (result.flags & ZERO_GRADIENT).any()


def test_an_ordinary_victim_needs_no_fallback() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(8)
    assert not run_attack(victim, x, None, FGSM(), [0.01], **ONE_DEVICE).flags.any()


def test_a_vanished_gradient_is_said() -> None:
    def constant(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray([[1.0, 0.0]]), (x.shape[0], 2)) + 0 * x[:, :2]

    result = run_attack(constant, small_victims.waveforms(3), None, PGD(), [0.1], **ONE_DEVICE)
    assert (result.flags & ZERO_GRADIENT).all()
    assert not result.success.any()


def test_non_finite_logits_are_never_a_success() -> None:
    def broken(x: jax.Array) -> jax.Array:
        logits = small_victims.linear_apply(small_victims.linear_weights(), x)
        return jnp.where(x[:, :1] > 0.8, jnp.nan, logits)

    x = small_victims.waveforms(4)
    x[:, 0] = [0.0, 0.1, 0.95, 0.2]
    result = run_attack(broken, x, np.zeros(4, int), PGD(), [0.1], **ONE_DEVICE)
    assert result.clean_prediction[2] == -1
    assert result.prediction[0, 2] == -1
    assert not result.success[0, 2]
    assert result.flags[0, 2] & NON_FINITE
    assert np.isfinite(result.x_adv).all()
    others = np.array([0, 1, 3])
    assert not (result.flags[0, others] & NON_FINITE).any()
    assert result.success[0, others].any()


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_the_budget_and_the_bounds_hold(name: str) -> None:
    victim = small_victims.small_victim("conv")
    x = np.clip(3 * small_victims.waveforms(10), -1, 1)  # many samples at full scale
    result = run_attack(
        victim, x, None, PGD(norm=name, random_start=True), [0.05, 0.2], **ONE_DEVICE
    )
    assert np.abs(result.x_adv).max() <= 1
    for e, epsilon in enumerate(result.epsilons):
        assert (result.measures[name][e] <= epsilon * (1 + 1e-5) + 1e-7).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PGD(steps=0), "steps must be positive"),
        (lambda: PGD(norm="l0"), "norm must be"),
        (lambda: PGD(l1_share=2.0), "l1_share must be at most 1"),
        (lambda: MIFGSM(decay=-0.1), "decay must be"),
        (lambda: EOTPGD(samples=0), "samples must be positive"),
        (lambda: FGSM(minimal=True, step_size=0.1, max_epsilon=0.05), "below the first step"),
        (lambda: FGSM(candidates=0), "candidates must be positive"),
        (lambda: PGD(step_size=-1.0), "step_size must be positive"),
        (lambda: BIM(relative_step_size=float("nan")), "relative_step_size must be positive"),
        (lambda: FGSM(bounds=(1.0, -1.0)), "bounds must be"),
    ],
)
def test_hyper_parameters_are_checked(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
