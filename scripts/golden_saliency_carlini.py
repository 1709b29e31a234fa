"""Make tests/golden/saliency_carlini.npz: what ART's JSMA and Carlini & Wagner attacks find.

    python scripts/golden_saliency_carlini.py

It needs the extra ``peers``. The victim is the small convolutional one, whose weights are in
tests/golden/attacks_conv.npz. The functions here are also the live oracles of
tests/peers/test_saliency_carlini_peers.py.
"""

from typing import Any

import foolbox
import golden_attacks
import numpy as np
import torch
from art.attacks.evasion import CarliniL2Method, CarliniLInfMethod, SaliencyMapMethod
from golden_victims import predictions, small_victims, twin, write_golden

ROWS = 10
THETAS = (0.3, -0.3)
L2 = {"steps": 10, "binary_search_steps": 6, "initial_const": 0.01}
LINF = {
    "steps": 10,
    "initial_const": 1e-3,
    "largest_const": 20.0,
    "const_factor": 5.0,
    "decrease_factor": 0.8,
}


def art_jsma(model: Any, x: np.ndarray, target: np.ndarray, theta: float) -> np.ndarray:
    """What ART's SaliencyMapMethod makes of ``x`` on the way to ``target``."""
    classifier = golden_attacks.art_classifier(model, x)
    attack = SaliencyMapMethod(classifier, theta=theta, gamma=1.0, verbose=False)
    return attack.generate(x, target.astype(np.int64))


def art_carlini(
    model: Any, x: np.ndarray, y: np.ndarray, norm: str, targeted: bool, confidence: float = 0.0
) -> np.ndarray:
    """What ART's Carlini & Wagner attack makes of ``x``, one row at a time."""
    classifier = golden_attacks.art_classifier(model, x)
    settings: dict[str, Any] = dict(L2 if norm == "l2" else LINF)
    settings |= {"max_iter": settings.pop("steps"), "targeted": targeted, "verbose": False}
    made = CarliniL2Method if norm == "l2" else CarliniLInfMethod
    attack = made(classifier, confidence=confidence, batch_size=1, **settings)
    return attack.generate(x, np.eye(model.bias.shape[0], dtype=np.float32)[y])


def foolbox_carlini_l2(
    model: Any, x: np.ndarray, y: np.ndarray, steps: int, searches: int
) -> np.ndarray:
    """What Foolbox's L2CarliniWagnerAttack makes of ``x``, at the published learning rate."""
    wrapped = foolbox.PyTorchModel(model, bounds=golden_attacks.BOUNDS, device="cpu")
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=searches, steps=steps)
    criterion = foolbox.criteria.Misclassification(torch.tensor(y.astype(np.int64)))
    inputs = torch.tensor(x, dtype=model.kernel.dtype)
    found, _, _ = attack(wrapped, inputs, criterion, epsilons=None)
    return found.detach().numpy()


def next_class(y: np.ndarray) -> np.ndarray:
    """A target for each row."""
    return (y + 1) % small_victims.CLASSES


def golden(kind: str) -> dict[str, Any]:
    """Everything the golden file holds for one victim."""
    x = small_victims.waveforms(ROWS, seed=21)
    model = twin(kind, small_victims.WEIGHTS[kind]())
    y = predictions(model, x)
    held: dict[str, Any] = {"x": x, "y": y.astype(np.int32)}
    for theta in THETAS:
        held[f"jsma/{theta}"] = art_jsma(model, x, next_class(y), theta)
    for norm in ("l2", "linf"):
        held[f"{norm}/untargeted"] = art_carlini(model, x, y, norm, targeted=False)
        held[f"{norm}/targeted"] = art_carlini(model, x, next_class(y), norm, targeted=True)
    return held


def main() -> None:
    """Write the file."""
    write_golden("saliency_carlini.npz", lambda: golden("conv"))


if __name__ == "__main__":
    main()
