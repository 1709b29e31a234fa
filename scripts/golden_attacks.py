"""Make tests/golden/attacks_conv.npz: perturbations by torchattacks, Foolbox and ART.

    python scripts/golden_attacks.py

It needs the extra ``peers``. The weights of a small convolutional victim, the inputs and the
perturbations are stored, so that the tests that read them need no torch. The functions here are
also the live oracles of tests/peers/test_attack_peers.py.
"""

from typing import Any
from unittest import mock

import foolbox
import numpy as np
import torch
import torchattacks
from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod
from art.estimators.classification import PyTorchClassifier
from golden_victims import UnitRange, small_victims, twin, unit_image, write_golden

BOUNDS = (-1.0, 1.0)
STEPS = 10
# As shares of ε; torchattacks and Foolbox get the product.
RELATIVE_STEP = 0.25
EPSILONS_LINF = (0.01, 0.03, 0.1)
EPSILONS_L2 = (0.05, 0.2, 0.6)
# Small enough to keep clear of the bounds, which Foolbox projects on after the ball.
EPSILONS_L1 = (0.2, 0.5, 1.0)
ROWS = 12
DECAY = 0.9
# Positions that a step of the L1 attack moves; Foolbox gets the quantile that leaves as many.
L1_COUNT = 6
# ART's defaults, with ε as a parameter: steps of a third of ε, a hundred of them.
ART_STEPS, ART_RELATIVE_STEP = 100, 1 / 3
# Of the minimal FGSM: a power of two, so that ART's running sum of steps is exact.
WALK_STEP, WALK_END = 1 / 512, 1 / 16
# (steps, ε) of the automatic PGD by norm.
APGD_STEPS = 10
APGD_EPSILONS = {"linf": 0.03, "l2": 0.15}
APGD_LOSSES = ("ce", "dlr", "targeted_dlr")


def torchattacks_delta(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    attack: str,
    epsilon: float,
    targeted: bool,
) -> np.ndarray:
    """Perturbation by a gradient attack of torchattacks (fixed start), in units of (-1, 1)."""
    half = epsilon / 2
    wrapped = UnitRange(model).eval()
    settings: dict[str, Any] = {"eps": half, "alpha": half * RELATIVE_STEP, "steps": STEPS}
    made: Any = {
        "fgsm": lambda: torchattacks.FGSM(wrapped, eps=half),
        "bim": lambda: torchattacks.BIM(wrapped, **settings),
        "mifgsm": lambda: torchattacks.MIFGSM(wrapped, decay=DECAY, **settings),
        "pgd": lambda: torchattacks.PGD(wrapped, random_start=False, **settings),
        "eotpgd": lambda: torchattacks.EOTPGD(wrapped, random_start=False, **settings),
    }[attack]()
    if targeted:
        made.set_mode_targeted_by_label(quiet=True)
    unit = unit_image(x)
    labels = torch.tensor(y.astype(np.int64))
    return (2 * (made(unit, labels) - unit)).detach().numpy().reshape(x.shape)


class SparseL1Descent(foolbox.attacks.SparseL1DescentAttack):
    """Foolbox' sparse L1 descent with the projection mended.

    Its own takes one entry too many into the sum that the threshold comes from, so that the result
    lies outside the ball, by a few per cent here.
    """

    def project(self, x: Any, x0: Any, epsilon: float) -> Any:
        """Nearest point of each row's L1 ball, by sorting."""
        delta = (x - x0).raw
        size = delta.abs()
        largest = size.sort(dim=1, descending=True).values
        above = largest.cumsum(dim=1) - epsilon
        rank = torch.arange(1, size.shape[1] + 1)
        kept = (largest * rank > above).sum(dim=1, keepdim=True)
        threshold = (above.gather(1, kept - 1) / kept).clamp(min=0)
        return x0 + type(x0)(delta.sign() * (size - threshold).clamp(min=0))


def foolbox_delta(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    attack: str,
    epsilon: float,
    targeted: bool,
) -> np.ndarray:
    """Perturbation by Foolbox' FGSM, BIM or PGD (L∞, L2, sparse L1) with a fixed start."""
    wrapped = foolbox.PyTorchModel(model, bounds=BOUNDS, device="cpu")
    # Entries from the quantile on move: it lies between two of them.
    quantile = (x.shape[1] - L1_COUNT - 0.5) / (x.shape[1] - 1)
    settings: dict[str, Any] = {
        "rel_stepsize": RELATIVE_STEP,
        "steps": STEPS,
        "random_start": False,
    }
    made: Any = {
        "fgsm": lambda: foolbox.attacks.FGSM(random_start=False),
        "bim": lambda: foolbox.attacks.LinfBasicIterativeAttack(**settings),
        "pgd": lambda: foolbox.attacks.LinfPGD(**settings),
        "pgd_l2": lambda: foolbox.attacks.L2PGD(**settings),
        "pgd_l1": lambda: SparseL1Descent(quantile=quantile, **settings),
    }[attack]()
    criterion: Any = (
        foolbox.criteria.TargetedMisclassification
        if targeted
        else foolbox.criteria.Misclassification
    )
    inputs = torch.tensor(x, dtype=model.kernel.dtype)
    labels = torch.tensor(y.astype(np.int64))
    raw, _, _ = made(wrapped, inputs, criterion(labels), epsilons=epsilon)
    return (raw - inputs).detach().numpy()


class SinglePrecision(torch.nn.Module):
    """A double victim for ART, which passes single precision alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.double())


def art_classifier(model: Any, x: np.ndarray, bounds: tuple[float, float] = BOUNDS) -> Any:
    """The victim as ART wants it."""
    return PyTorchClassifier(
        model=SinglePrecision(model),
        loss=torch.nn.CrossEntropyLoss(reduction="sum"),
        input_shape=x.shape[1:],
        nb_classes=model.bias.shape[0],
        clip_values=bounds,
        device_type="cpu",
    )


def art_delta(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    attack: str,
    epsilon: float,
    targeted: bool,
) -> np.ndarray:
    """Perturbation by ART's BIM with its defaults, or by its minimal FGSM up to ε."""
    classifier = art_classifier(model, x)
    made: Any = {
        "bim100": lambda: BasicIterativeMethod(
            classifier,
            eps=epsilon,
            eps_step=epsilon * ART_RELATIVE_STEP,
            max_iter=ART_STEPS,
            targeted=targeted,
            verbose=False,
        ),
        "walk": lambda: FastGradientMethod(
            classifier, eps=epsilon, eps_step=WALK_STEP, minimal=True, targeted=targeted
        ),
    }[attack]()
    return made.generate(x, y.astype(np.int64)) - x


ORACLES = {"torchattacks": torchattacks_delta, "foolbox": foolbox_delta, "art": art_delta}


def cases() -> list[tuple[str, str, bool]]:
    """(oracle, attack, targeted) of every comparison; Foolbox has no targeted FGSM."""
    both = (False, True)
    listed = [
        ("torchattacks", a, t) for a in ("fgsm", "bim", "mifgsm", "pgd", "eotpgd") for t in both
    ]
    listed += [("foolbox", "fgsm", False)]
    listed += [("foolbox", a, t) for a in ("bim", "pgd", "pgd_l2", "pgd_l1") for t in both]
    listed += [("art", a, t) for a in ("bim100", "walk") for t in both]
    return listed


def epsilons(attack: str) -> tuple[float, ...]:
    """Budgets that the attack is compared at."""
    if attack == "walk":
        return (WALK_END,)
    return {"l2": EPSILONS_L2, "l1": EPSILONS_L1}.get(attack[-2:], EPSILONS_LINF)


def attacked_labels(attack: str, targeted: bool, y: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """``y``, but the prediction for the untargeted walk, which else is over where it begins."""
    return logits.argmax(axis=1) if attack == "walk" and not targeted else y


def torchattacks_apgd(
    model: Any, x: np.ndarray, y: np.ndarray, start: np.ndarray, norm: str, loss: str
) -> tuple[np.ndarray, np.ndarray]:
    """Point of highest loss and that loss of one run of torchattacks' APGD or APGDT.

    Args:
      start: where the run starts, on the sphere of the ball and inside the bounds. It is put in
        place of the numbers that torchattacks draws.
    """
    epsilon = APGD_EPSILONS[norm] / 2
    settings: dict[str, Any] = {
        "norm": {"linf": "Linf", "l2": "L2"}[norm],
        "eps": epsilon,
        "steps": APGD_STEPS,
    }
    wrapped = UnitRange(model).eval()
    made: Any
    if loss == "targeted_dlr":
        made = torchattacks.APGDT(wrapped, n_classes=model.bias.shape[0], rho=0.75, **settings)
        made.target_class = 2
    else:
        made = torchattacks.APGD(wrapped, loss=loss, **settings)
    unit = unit_image(x)
    direction = (unit_image(start) - unit) / epsilon
    best, losses = [], []
    # Row by row, since APGDT takes the first row's L2 step for all.
    for row in range(len(x)):
        one, label = unit[row : row + 1], torch.tensor(y[row : row + 1].astype(np.int64))
        drawn = direction[row : row + 1]
        with (
            mock.patch.object(torch, "rand", return_value=(drawn + 1) / 2),
            mock.patch.object(torch, "randn", return_value=drawn),
        ):
            point, _, value, _ = made.attack_single_run(one, label)
        best.append((2 * point - 1).detach().numpy().reshape(-1))
        losses.append(value.item())
    return np.stack(best), np.array(losses)


def apgd_start(x: np.ndarray, norm: str) -> np.ndarray:
    """A point on the sphere of each row's ball."""
    noise = np.random.default_rng(7).normal(size=x.shape)
    noise /= (
        np.abs(noise).max(axis=1, keepdims=True)
        if norm == "linf"
        else np.linalg.norm(noise, axis=1, keepdims=True)
    )
    return (x + APGD_EPSILONS[norm] * noise).astype(np.float32)


def golden(kind: str) -> dict[str, Any]:
    """Everything a golden file holds for one victim."""
    weights = small_victims.WEIGHTS[kind]()
    x, y = small_victims.waveforms(ROWS), small_victims.labels(ROWS)
    model = twin(kind, weights)
    with torch.no_grad():
        logits = model(torch.tensor(x.astype(np.float64))).numpy()
    held: dict[str, Any] = {"x": x, "y": y, "logits": logits.astype(np.float32)}
    held |= {f"weights/{name}": value for name, value in weights.items()}
    for oracle, attack, targeted in cases():
        name = f"{oracle}/{attack}/{'targeted' if targeted else 'untargeted'}"
        labels = attacked_labels(attack, targeted, y, logits)
        held[name] = np.stack(
            [ORACLES[oracle](model, x, labels, attack, e, targeted) for e in epsilons(attack)]
        ).astype(np.float32)
    for norm in APGD_EPSILONS:
        held[f"apgd/start/{norm}"] = start = apgd_start(x, norm)
        for loss in APGD_LOSSES:
            best, value = torchattacks_apgd(model, x, logits.argmax(axis=1), start, norm, loss)
            held[f"apgd/best/{norm}/{loss}"] = best.astype(np.float32)
            held[f"apgd/loss/{norm}/{loss}"] = value.astype(np.float32)
    return held


def main() -> None:
    """Write the file."""
    write_golden("attacks_conv.npz", lambda: golden("conv"))


if __name__ == "__main__":
    main()
