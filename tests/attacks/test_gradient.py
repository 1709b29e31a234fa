"""FGSM, BIM and PGD against closed forms on a linear victim and against torchattacks, Foolbox."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import BIM, FGSM, PGD
from jaxser.attacks.base import MARGIN_FALLBACK, NON_FINITE, ZERO_GRADIENT, row_keys
from jaxser.corpora.table import numeric_id
from jaxser.errors import UsageError
from jaxser.victim import Victim

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "attacks_conv.npz"
ONE_DEVICE = {"devices": jax.devices()[:1]}

# The settings that scripts/golden_attacks.py gave the peers.
STEPS, RELATIVE_STEP = 10, 0.25
EPSILONS = {"linf": [0.01, 0.03, 0.1], "l2": [0.05, 0.2, 0.6]}


def peer_settings(attack: str, targeted: bool) -> Any:
    if attack == "fgsm":
        return FGSM(targeted=targeted)
    settings = {"steps": STEPS, "relative_step_size": RELATIVE_STEP, "targeted": targeted}
    if attack == "bim":
        return BIM(**settings)
    norm = "l2" if attack == "pgd_l2" else "linf"
    return PGD(norm=norm, random_start=False, **settings)


def golden_cases() -> list[str]:
    return [name for name in np.load(GOLDEN).files if name.count("/") == 2]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(np.load(GOLDEN))


def test_the_golden_file_is_complete() -> None:
    assert len(golden_cases()) == 13


def test_the_twins_agree(golden: dict[str, Any]) -> None:
    victim = small_victims.small_victim("conv")
    for name, value in victim.variables.items():
        np.testing.assert_array_equal(golden[f"weights/{name}"], value)
    np.testing.assert_allclose(victim.logits(golden["x"]), golden["logits"], atol=2e-5)


@pytest.mark.parametrize("name", golden_cases())
def test_same_perturbation_as_the_peers(name: str, golden: dict[str, Any]) -> None:
    _, attack, goal = name.split("/")
    result = run_attack(
        small_victims.small_victim("conv"),
        golden["x"],
        golden["y"],
        peer_settings(attack, goal == "targeted"),
        EPSILONS["l2" if attack == "pgd_l2" else "linf"],
        **ONE_DEVICE,
    )
    apart = np.abs(result.x_adv - golden["x"][None] - golden[name])
    assert np.abs(golden[name]).max() > 0.05  # the peer did perturb
    # Where an entry of the gradient is zero but for rounding, its sign is anybody's.
    assert (apart > 1e-5).mean() < 0.001


def two_class_victim(seed: int = 0) -> tuple[Victim, np.ndarray, np.ndarray]:
    """A linear victim, its weight difference w_0 - w_1, and inputs of class 0 by a margin."""
    victim = small_victims.small_victim("linear", classes=2, seed=seed)
    kernel = np.asarray(victim.variables["kernel"])
    return victim, kernel[:, 0] - kernel[:, 1], small_victims.waveforms(6)


def margins(victim: Victim, x: np.ndarray) -> np.ndarray:
    logits = np.asarray(victim.logits(jnp.asarray(x)), np.float64)
    return logits[..., 0] - logits[..., 1]


@pytest.mark.parametrize("attack", [FGSM(), BIM(steps=8), PGD(steps=12)])
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


@pytest.mark.parametrize("attack", [PGD(random_start=True), PGD(norm="l2", random_start=True)])
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
    norm = np.abs(a).max(1) if attack.norm == "linf" else np.linalg.norm(a, axis=1)
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


@pytest.mark.parametrize("name", ["linf", "l2"])
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
        (lambda: PGD(norm="l1"), "norm must be"),
        (lambda: PGD(step_size=-1.0), "step_size must be positive"),
        (lambda: BIM(relative_step_size=float("nan")), "relative_step_size must be positive"),
        (lambda: FGSM(bounds=(1.0, -1.0)), "bounds must be"),
    ],
)
def test_hyper_parameters_are_checked(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
