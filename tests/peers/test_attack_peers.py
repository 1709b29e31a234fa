"""Gradient attacks against torchattacks, Foolbox and ART, live, on the same weights."""

import dataclasses
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

from jaxser import run_attack
from jaxser.attacks.apgd import APGD
from jaxser.attacks.base import row_keys
from jaxser.attacks.bim import BIM
from jaxser.attacks.eotpgd import EOTPGD
from jaxser.attacks.fgsm import FGSM
from jaxser.attacks.losses import is_successful
from jaxser.attacks.mifgsm import MIFGSM
from jaxser.attacks.pgd import PGD

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    return load_script("golden_attacks")


def same_attack(oracle: ModuleType, name: str, targeted: bool) -> Any:
    if name == "fgsm":
        return FGSM(targeted=targeted)
    if name == "bim100":
        share = oracle.ART_RELATIVE_STEP
        return BIM(steps=oracle.ART_STEPS, relative_step_size=share, targeted=targeted)
    settings = {
        "steps": oracle.STEPS,
        "relative_step_size": oracle.RELATIVE_STEP,
        "targeted": targeted,
    }
    fixed = settings | {"random_start": False}
    return {
        "bim": lambda: BIM(**settings),
        "mifgsm": lambda: MIFGSM(decay=oracle.DECAY, **settings),
        "pgd": lambda: PGD(**fixed),
        "pgd_l2": lambda: PGD(norm="l2", **fixed),
        "pgd_l1": lambda: PGD(norm="l1", l1_share=oracle.L1_COUNT / small_victims.SAMPLES, **fixed),
        "eotpgd": lambda: EOTPGD(**fixed),
    }[name]()


def finished(attack: Any, victim: Any, x: Any, y: Any, epsilon: float, start: Any = None) -> Any:
    """The attack's last state, without a driver; ``start`` replaces APGD's random one."""
    keys = row_keys(jax.random.key(0), jnp.arange(len(x), dtype=jnp.uint32))
    budget, y = jnp.full(len(x), epsilon, jnp.float32), jnp.asarray(y, jnp.int32)
    state = jax.jit(lambda x: attack.init(victim.logits, keys, x, y, budget))(jnp.asarray(x))
    if start is not None:
        state = dataclasses.replace(state, now=jnp.asarray(start))
    step = jax.jit(lambda state: attack.step(victim.logits, state))
    for _ in range(attack.max_steps):
        state = step(state)
    return state


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_every_case_agrees(oracle: ModuleType, kind: str) -> None:
    victim = small_victims.small_victim(kind)
    model = oracle.twin(kind, small_victims.WEIGHTS[kind]())
    x, y = small_victims.waveforms(20, seed=11), small_victims.labels(20, seed=12)
    for peer, name, targeted in oracle.cases():
        if name == "walk":
            continue
        epsilons = oracle.epsilons(name)
        attack = same_attack(oracle, name, targeted)
        ours = run_attack(victim, x, y, attack, epsilons, devices=jax.devices()[:1])
        theirs = [oracle.ORACLES[peer](model, x, y, name, e, targeted) for e in epsilons]
        apart = np.abs(ours.x_adv - x[None] - np.stack(theirs))
        assert np.abs(theirs).max() > 0.05, (peer, name)
        # Where an entry of the gradient is zero but for rounding, its sign is anybody's.
        assert (apart > 1e-5).mean() < 0.001, (peer, name, targeted, apart.max())


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_walk_ends_where_arts_does(oracle: ModuleType, kind: str, targeted: bool) -> None:
    victim = small_victims.small_victim(kind)
    model = oracle.twin(kind, small_victims.WEIGHTS[kind]())
    x = small_victims.waveforms(20, seed=11)
    clean = np.asarray(victim.logits(x)).argmax(axis=1)
    y = (clean + 1) % 5 if targeted else clean
    attack = FGSM(
        minimal=True, step_size=oracle.WALK_STEP, max_epsilon=oracle.WALK_END, targeted=targeted
    )
    ours = np.asarray(finished(attack, victim, x, y, np.inf).x_adv)
    theirs = oracle.art_delta(model, x, y, "walk", oracle.WALK_END, targeted)
    found = (ours != x).any(axis=1)
    assert found.sum() > 3
    predicted = np.asarray(victim.logits(x + theirs)).argmax(axis=1)
    np.testing.assert_array_equal(found, is_successful(predicted, y, targeted))
    assert (np.abs(ours - x - theirs)[found] > 1e-5).mean() < 0.001


def test_arts_walk_never_tries_its_last_step(oracle: ModuleType) -> None:
    """0.1 + 0.1 + 0.1 is above 0.3 in floats; the exact multiple is not."""
    kernel, bias = np.array([[1, 0], [0, 0]], np.float32), np.array([-0.25, 0], np.float32)
    x, y = np.array([[0.5, 0.0]], np.float32), np.zeros(1, int)
    classifier = oracle.art_classifier(oracle.twin("linear", {"kernel": kernel, "bias": bias}), x)
    made = oracle.FastGradientMethod(classifier, minimal=True)  # steps of 0.1 up to 0.3
    np.testing.assert_allclose(made.generate(x, y), [[0.3, 0.0]], atol=1e-6)
    attack = FGSM(minimal=True, step_size=0.1, max_epsilon=0.3)
    victim = SimpleNamespace(logits=lambda x: x @ kernel + bias[None])
    np.testing.assert_allclose(finished(attack, victim, x, y, np.inf).x_adv, [[0.2, 0]], atol=1e-6)


def test_foolbox_leaves_the_l1_ball(oracle: ModuleType) -> None:
    """Why its projection is mended in the oracle; the attack here stays inside."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(1)
    model = oracle.twin("conv", small_victims.conv_weights())
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    made = oracle.foolbox.attacks.SparseL1DescentAttack(quantile=0.9, steps=20)
    wrapped = oracle.foolbox.PyTorchModel(model, bounds=(-1, 1), device="cpu")
    labels = oracle.torch.tensor(y.astype(np.int64))
    criterion = oracle.foolbox.criteria.Misclassification(labels)
    inputs = oracle.torch.tensor(x).double()
    raw, _, _ = made(wrapped, inputs, criterion, epsilons=0.5)
    assert np.abs(raw.numpy() - x).sum() > 0.5 * 1.005
    state = finished(PGD(norm="l1", l1_share=0.1), victim, x, y, 0.5)
    assert np.abs(np.asarray(state.x_adv) - x).sum() <= 0.5 * (1 + 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "targeted_dlr"])
def test_apgd_is_torchattacks_from_the_same_start(oracle: ModuleType, norm: str, loss: str) -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24, seed=11)
    model = oracle.twin("conv", small_victims.conv_weights())
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    attack = APGD(
        steps=oracle.APGD_STEPS,
        norm=norm,
        loss=loss,
        target_classes=1,
        early_stop=False,
        compat="torchattacks",
    )
    start = oracle.apgd_start(x, norm)
    best, highest = oracle.torchattacks_apgd(model, x, y, start, norm, loss)
    state = finished(attack, victim, x, y, oracle.APGD_EPSILONS[norm], start)
    # On the ratio's plateau at 1 rounding decides whether a loss has risen.
    below = (highest < 0.999) | (loss != "dlr")
    assert below.sum() > 8
    losses = np.asarray(state.best_loss)
    np.testing.assert_allclose(losses[below], highest[below], rtol=1e-3, atol=1e-4)
    assert (losses[~below] > 0.999).all()
    apart = np.abs(np.asarray(state.best) - best).max(axis=1)
    assert (apart[below] < 2e-4).mean() >= 0.85


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_is_as_strong_as_torchattacks(oracle: ModuleType, norm: str) -> None:
    """From each one's own starts: robust accuracy no higher, mean loss no lower."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(64, seed=31)
    model = oracle.twin("conv", small_victims.conv_weights())
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    epsilon, labels = oracle.APGD_EPSILONS[norm] / 3, oracle.torch.tensor(y.astype(np.int64))
    settings = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": epsilon / 2, "steps": 30}
    wrapped, unit = oracle.UnitRange(model).eval(), oracle.unit_image(x)
    for loss in ("ce", "dlr"):
        made = oracle.torchattacks.APGD(wrapped, loss=loss, **settings)
        correct, _ = made.perturb(unit, labels)
        oracle.torch.manual_seed(0)
        _, _, highest, _ = made.attack_single_run(unit, labels)
        attack = APGD(steps=30, norm=norm, loss=loss, early_stop=False)
        state = finished(attack, victim, x, y, epsilon)
        robust = (np.asarray(state.score) <= 0).mean()
        assert 0.1 < robust < 0.9
        assert robust <= correct.double().mean().item()
        # Past its plateau at 1 the ratio has no bound, and the row has long been fooled.
        top = 1.0 if loss == "dlr" else np.inf
        theirs = np.minimum(highest.numpy(), top).mean()
        assert np.minimum(state.best_loss, top).mean() >= theirs - 0.005


def test_the_peers_stand_still_on_a_confident_victim(oracle: ModuleType) -> None:
    """Where float32 cross-entropy has no gradient they leave x as it is; the fallback does not."""
    weights = {name: 1e4 * value for name, value in small_victims.linear_weights().items()}
    model = oracle.twin("linear", weights).float()
    x = small_victims.waveforms(8)
    logits = x @ weights["kernel"] + weights["bias"]
    y = logits.argmax(axis=1)
    theirs = oracle.foolbox_delta(model, x, y, "fgsm", 0.1, False)
    assert (theirs == 0).all(axis=1).any()
    ours = run_attack(
        lambda x: x @ weights["kernel"] + weights["bias"][None],
        x,
        y,
        FGSM(),
        [0.1],
        devices=jax.devices()[:1],
    )
    assert (np.abs(ours.x_adv[0] - x).max(axis=1) > 0.09).all()
    np.testing.assert_array_equal(ours.flags[0] & 1, (theirs == 0).all(axis=1))
