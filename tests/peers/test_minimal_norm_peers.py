"""DeepFool, SparseFool and FAB against torchattacks and ART, live, on the same weights."""

from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

from jaxser import run_attack
from jaxser.attacks.deepfool import DeepFool
from jaxser.attacks.fab import FAB
from jaxser.attacks.losses import margin_loss
from jaxser.attacks.sparsefool import SparseFool
from jaxser.victims import with_probabilities

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

torch = pytest.importorskip("torch")

ONE_DEVICE = {"devices": jax.devices()[:1]}
ANY_SIZE = [float("inf")]
NORMS = {"linf": np.inf, "l2": 2, "l1": 1}
UNIT = (0.0, 1.0)
# Of the largest logit: what one program's margin may differ by from another's.
ROUNDING = 4e-6
ETA = 1.05


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    return load_script("golden_minimal_norm")


def victims(oracle: ModuleType, kind: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(torch twin, victim, inputs, their predictions)."""
    victim, x = small_victims.small_victim(kind), small_victims.waveforms(20, seed=11)
    model = oracle.golden_attacks.twin(kind, small_victims.WEIGHTS[kind]())
    return model, victim, x, oracle.predictions(model, x)


def relative_margin(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far past the boundary inputs over (0, 1) are, as a share of their largest logit."""
    with torch.no_grad():
        logits = model(torch.tensor(2 * x.astype(np.float64) - 1)).numpy()
    return np.asarray(margin_loss(logits, y)) / np.abs(logits).max(axis=1)


def both(
    oracle: ModuleType, kind: str, name: str, attack: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, torchattacks' inputs, ours, rows that torchattacks found), all over (0, 1)."""
    model, victim, x, y = victims(oracle, kind)
    theirs = oracle.torchattacks_adversarial(model, x, y, name)
    # An iterate is taken for adversarial in its program and may be on the other side in another.
    fooled = relative_margin(model, theirs, y) > -ROUNDING
    result = run_attack(
        lambda z: victim.logits(2 * z - 1), (x + 1) / 2, y, attack, ANY_SIZE, **ONE_DEVICE
    )
    success = result.success[0]
    assert success[fooled].all(), np.flatnonzero(fooled & ~success)
    # In float32 torchattacks' FAB may part from ours and walk past a row on one processor only.
    more = 1 if name.startswith("fab") else 0
    assert success[~fooled].sum() <= more, np.flatnonzero(success & ~fooled)
    return (x + 1) / 2, theirs, result.x_adv[0], fooled


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize(
    ("name", "attack", "apart"),
    [
        ("deepfool", DeepFool(compat="torchattacks", bounds=UNIT), 1e-6),
        ("sparsefool", SparseFool(variant="torchattacks", bounds=UNIT), 2e-5),
    ],
)
def test_same_adversarial_inputs(
    oracle: ModuleType, kind: str, name: str, attack: Any, apart: float
) -> None:
    _, theirs, ours, fooled = both(oracle, kind, name, attack)
    assert fooled.mean() > 0.7
    np.testing.assert_allclose(ours[fooled], theirs[fooled], atol=apart)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("norm", list(NORMS))
def test_fab_is_the_same_and_no_farther(oracle: ModuleType, kind: str, norm: Any) -> None:
    settings = {"norm": norm, "steps": oracle.STEPS["fab"], "bounds": UNIT, "eta": ETA}
    x, theirs, ours, fooled = both(oracle, kind, f"fab_{norm}", FAB(search_steps=0, **settings))
    assert fooled.mean() > 0.7
    # The way is long enough for float32 to part the ways of a row now and then.
    apart = np.abs(ours[fooled] - theirs[fooled]).max(axis=1)
    assert np.median(apart) < 1e-5
    lengths = [
        np.linalg.norm(each[fooled] - x[fooled], NORMS[norm], axis=1) for each in (ours, theirs)
    ]
    # Theirs also takes an iterate that is adversarial by rounding alone; ours the one before it,
    # which may be an overshoot farther out.
    model, _, _, y = victims(oracle, kind)
    beyond = (relative_margin(model, theirs, y) > ROUNDING)[fooled]
    assert beyond.mean() > 0.7
    farther = np.abs(lengths[0] / lengths[1] - 1)
    assert (farther[beyond] < 2e-3).mean() > 0.9, farther
    assert farther.max() < ETA - 1, farther
    _, _, searched, _ = both(oracle, kind, f"fab_{norm}", FAB(**settings))
    shorter = np.linalg.norm(searched[fooled] - x[fooled], NORMS[norm], axis=1)
    assert shorter.mean() < lengths[1].mean()
    np.testing.assert_array_less(shorter, 1.001 * lengths[1])


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("candidates", [10, 3])
def test_deepfool_of_art(oracle: ModuleType, kind: str, candidates: int) -> None:
    model, victim, x, y = victims(oracle, kind)
    theirs = oracle.art_adversarial(model, x, candidates)
    attack = DeepFool(compat="art", candidates=candidates)
    ours = run_attack(victim, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    fooled = oracle.predictions(model, theirs) != y
    assert fooled.all()
    np.testing.assert_array_equal(ours.success[0], fooled)
    np.testing.assert_allclose(ours.x_adv[0], theirs, atol=5e-6)
    # Its steps are too long by the width of the bounds: the default finds less.
    default = run_attack(victim, x, y, DeepFool(), ANY_SIZE, **ONE_DEVICE)
    assert default.measures["l2"].mean() < 0.6 * ours.measures["l2"].mean()


def test_deepfool_of_art_on_probabilities(oracle: ModuleType) -> None:
    """A model that ends in a softmax and is confident, as those that ART was given in the paper."""
    model, victim, x, y = victims(oracle, "conv")
    saturated = torch.nn.Sequential(model, torch.nn.Softmax(dim=1))
    saturated.bias = model.bias  # by which the oracle counts classes
    theirs = oracle.art_adversarial(saturated, x, 10)
    attack = DeepFool(compat="art")
    ours = run_attack(with_probabilities(victim), x, y, attack, ANY_SIZE, **ONE_DEVICE)
    same = np.abs(ours.x_adv[0] - theirs).max(axis=1) < 1e-3
    assert same.mean() >= 0.9, same
    sizes = [np.abs(each - x).mean() for each in (theirs, ours.x_adv[0])]
    np.testing.assert_allclose(*sizes, rtol=0.02)
    # What the saturation does: the same victim's logits need less.
    logits = run_attack(victim, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    assert sizes[1] > 1.5 * np.abs(logits.x_adv[0] - x).mean()
