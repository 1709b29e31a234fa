"""JSMA and Carlini & Wagner's attacks against ART and Foolbox, live, on the same weights."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

from jaxser import run_attack
from jaxser.attacks.carlini_l2 import CarliniL2
from jaxser.attacks.carlini_linf import CarliniLinf
from jaxser.attacks.jsma import JSMA
from jaxser.attacks.linearisation import safe_margin

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ONE_DEVICE = {"devices": jax.devices()[:1]}
ANY_SIZE = [float("inf")]
ROWS = 12
CLOSE = 1e-4


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    return load_script("golden_saliency_carlini")


def victims(oracle: ModuleType, kind: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(torch twin, victim, inputs, their predictions)."""
    victim, x = small_victims.small_victim(kind), small_victims.waveforms(ROWS, seed=31)
    model = oracle.golden_attacks.twin(kind, small_victims.WEIGHTS[kind]())
    return model, victim, x, oracle.predictions(model, x)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("theta", [0.2, 1.0, -0.5])
def test_jsma_agrees_with_art(oracle: ModuleType, kind: str, theta: float) -> None:
    model, victim, x, y = victims(oracle, kind)
    target = oracle.next_class(y)
    theirs = oracle.art_jsma(model, x, target, theta)
    attack = JSMA(theta=theta, compat="art", targeted=True)
    result = run_attack(victim, x, target, attack, ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_array_equal(result.success[0], oracle.predictions(model, theirs) == target)
    np.testing.assert_allclose(result.x_adv[0], theirs, atol=1e-5)


class Float32(torch.nn.Module):
    """A twin that rounds as the victim does."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.bias = model.float(), model.bias

    def forward(self, x: Any) -> Any:
        return self.model(x.float())


def art_within_rounding(
    oracle: ModuleType,
    kind: str,
    x: np.ndarray,
    y: np.ndarray,
    norm: str,
    targeted: bool,
    confidence: float,
) -> list[np.ndarray]:
    """What ART makes of one input where an iterate on the boundary falls on the other side.

    Whether such an iterate counts as a success hangs on its last bits, and with it the next c and
    all that follows. So ART runs once more in float32, and in float64 with confidences up to the
    margin that jaxser asks for so that rounding cannot take a success back.
    """
    single, double = (oracle.golden_attacks.twin(kind, small_victims.WEIGHTS[kind]()) for _ in "12")
    logits = double(torch.tensor(x.astype(np.float64))).detach().numpy()
    safe = float(safe_margin(jnp.asarray(logits, jnp.float32))[0])
    runs = [(Float32(single), confidence)]
    runs += [(double, confidence + share * safe) for share in (0.25, 0.5, 1.0, 1.5)]
    return [oracle.art_carlini(model, x, y, norm, targeted, asked)[0] for model, asked in runs]


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("norm", "confidence"), [("l2", 0.0), ("l2", 1.0), ("linf", 0.0)])
def test_carlini_agrees_with_art(
    oracle: ModuleType, kind: str, targeted: bool, norm: str, confidence: float
) -> None:
    model, victim, x, y = victims(oracle, kind)
    y = oracle.next_class(y) if targeted else y
    theirs = oracle.art_carlini(model, x, y, norm, targeted, confidence)
    settings: dict[str, Any] = {"targeted": targeted, "confidence": confidence, "compat": "art"}
    attack: Any = (
        CarliniL2(**oracle.L2, **settings)
        if norm == "l2"
        else CarliniLinf(**oracle.LINF, **settings)
    )
    result = run_attack(victim, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    assert (theirs != x).any(axis=1).mean() > 0.3
    found = result.x_adv[0]
    for row in np.flatnonzero(np.abs(found - theirs).max(axis=1) > CLOSE):
        one = slice(row, row + 1)
        theirs[row] = min(
            art_within_rounding(oracle, kind, x[one], y[one], norm, targeted, confidence),
            key=lambda other: np.abs(other - found[row]).max(),
        )
    apart = np.abs(found - theirs).max(axis=1)
    assert (apart < CLOSE).mean() > 0.9, apart
    sizes = [np.linalg.norm(adversarial - x, axis=1).mean() for adversarial in (theirs, found)]
    np.testing.assert_allclose(*sizes, rtol=0.02)


def test_the_default_l2_is_no_further_than_art_or_foolbox(oracle: ModuleType) -> None:
    model, victim, x, y = victims(oracle, "conv")
    attack = CarliniL2(steps=30)
    result = run_attack(victim, x, y, attack, ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    ours = result.measures["l2"][0]
    found = {
        "art": oracle.art_carlini(model, x, y, "l2", targeted=False),
        # Foolbox without its early abort, which looks at the whole batch, takes 270 gradients.
        "foolbox": oracle.foolbox_carlini_l2(model, x, y, steps=30, searches=9),
    }
    for name, theirs in found.items():
        size = np.linalg.norm(theirs - x, axis=1)
        fooled = oracle.predictions(model, theirs) != y
        assert fooled.any(), name
        assert ours[fooled].mean() < size[fooled].mean(), name
        assert np.median(ours[fooled] / size[fooled]) < 1.01, name


def test_the_default_linf_is_smaller_than_arts(oracle: ModuleType) -> None:
    """ART's gradient without c cannot weigh τ against the margin."""
    model, victim, x, y = victims(oracle, "conv")
    result = run_attack(victim, x, y, CarliniLinf(), ANY_SIZE, **ONE_DEVICE)
    assert result.success.all()
    size = np.abs(oracle.art_carlini(model, x, y, "linf", targeted=False) - x).max(axis=1)
    ratio = result.measures["linf"][0][size > 0] / size[size > 0]
    assert ratio.max() < 1
    assert np.median(ratio) < 0.7
