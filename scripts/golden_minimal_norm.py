"""Make tests/golden/minimal_norm.npz: what torchattacks and ART find as smallest perturbations.

    python scripts/golden_minimal_norm.py

It needs the extra ``peers``. The victim is the small convolutional one, whose weights are in
tests/golden/attacks_conv.npz. The functions here are also the live oracles of
tests/peers/test_minimal_norm_peers.py.
"""

from typing import Any

import golden_attacks
import numpy as np
import torch
import torchattacks
from art.attacks.evasion import DeepFool
from golden_victims import UnitRange, predictions, small_victims, twin, unit_image, write_golden

ROWS = 12
STEPS = {"deepfool": 50, "sparsefool": 10, "fab": 20}
LAM = 3.0
FAB_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
ART_STEPS, ART_CANDIDATES = 100, (10, 3)
# FAB's own threshold, beyond any perturbation.
ANY_SIZE = 1e6


def torchattacks_adversarial(model: Any, x: np.ndarray, y: np.ndarray, attack: str) -> np.ndarray:
    """What torchattacks makes of waveforms over (-1, 1), in the (0, 1) of its inputs.

    ``attack`` is "deepfool", "sparsefool" or "fab_linf", "fab_l2", "fab_l1". FAB works in single
    precision whatever it is given. Its L1 form fails after the attack is done, where it measures
    the result, so the attack itself is called.
    """
    labels = torch.tensor(y.astype(np.int64))
    unit = unit_image(x)
    if attack.startswith("fab"):
        wrapped = UnitRange(model.float()).eval()
        fab: Any = torchattacks.FAB(
            wrapped,
            norm=FAB_NORMS[attack.removeprefix("fab_")],
            eps=ANY_SIZE,
            steps=STEPS["fab"],
            n_classes=small_victims.CLASSES,
        )
        found = fab.attack_single_run(unit.float(), labels)
        model.double()
    else:
        wrapped = UnitRange(model).eval()
        made: Any = {
            "deepfool": lambda: torchattacks.DeepFool(wrapped, steps=STEPS["deepfool"]),
            "sparsefool": lambda: torchattacks.SparseFool(
                wrapped, steps=STEPS["sparsefool"], lam=LAM
            ),
        }[attack]()
        found = made(unit, labels)
    return found.detach().numpy().reshape(x.shape)


def art_adversarial(model: Any, x: np.ndarray, candidates: int) -> np.ndarray:
    """What ART's DeepFool, which leaves the predicted label, makes of waveforms over (-1, 1)."""
    classifier = golden_attacks.art_classifier(model, x)
    attack = DeepFool(classifier, max_iter=ART_STEPS, nb_grads=candidates, verbose=False)
    return attack.generate(x)


def golden(kind: str) -> dict[str, Any]:
    """Everything the golden file holds for one victim."""
    x = small_victims.waveforms(ROWS)
    model = twin(kind, small_victims.WEIGHTS[kind]())
    y = predictions(model, x)
    held: dict[str, Any] = {"x": x, "y": y.astype(np.int32)}
    for attack in ("deepfool", "sparsefool", *(f"fab_{norm}" for norm in FAB_NORMS)):
        found = torchattacks_adversarial(model, x, y, attack)
        held[f"torchattacks/{attack}"] = found.astype(np.float32)
    for candidates in ART_CANDIDATES:
        held[f"art/deepfool_{candidates}"] = art_adversarial(model, x, candidates)
    return held


def main() -> None:
    """Write the file."""
    write_golden("minimal_norm.npz", lambda: golden("conv"))


if __name__ == "__main__":
    main()
