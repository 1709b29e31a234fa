"""FGSM, BIM and fixed-start PGD against torchattacks and Foolbox, live, on the same weights."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks import BIM, FGSM, PGD

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "golden_attacks.py"


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_attacks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_attack(oracle: ModuleType, name: str, targeted: bool) -> Any:
    if name == "fgsm":
        return FGSM(targeted=targeted)
    settings = {
        "steps": oracle.STEPS,
        "relative_step_size": oracle.RELATIVE_STEP,
        "targeted": targeted,
    }
    if name == "bim":
        return BIM(**settings)
    norm = "l2" if name == "pgd_l2" else "linf"
    return PGD(norm=norm, random_start=False, **settings)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_every_case_agrees(oracle: ModuleType, kind: str) -> None:
    victim = small_victims.small_victim(kind)
    model = oracle.twin(kind, small_victims.WEIGHTS[kind]())
    x, y = small_victims.waveforms(20, seed=11), small_victims.labels(20, seed=12)
    for peer, name, targeted in oracle.cases():
        epsilons = oracle.epsilons(name)
        attack = same_attack(oracle, name, targeted)
        ours = run_attack(victim, x, y, attack, epsilons, devices=jax.devices()[:1])
        theirs = [oracle.ORACLES[peer](model, x, y, name, e, targeted) for e in epsilons]
        apart = np.abs(ours.x_adv - x[None] - np.stack(theirs))
        assert np.abs(theirs).max() > 0.05, (peer, name)
        # Where an entry of the gradient is zero but for rounding, its sign is anybody's.
        assert (apart > 1e-5).mean() < 0.001, (peer, name, targeted, apart.max())


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
