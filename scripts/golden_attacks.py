"""Make tests/golden/attacks_conv.npz: perturbations by torchattacks and Foolbox.

    python scripts/golden_attacks.py

It needs the extra ``peers``. The weights of a small convolutional victim, the inputs and the
perturbations are stored, so that the tests that read them need no torch. The functions here are
also the live oracles of tests/peers/test_attack_peers.py.
"""

import sys
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import torch
import torchattacks

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import small_victims  # type: ignore[import-not-found]  # noqa: E402

BOUNDS = (-1.0, 1.0)
STEPS = 10
# As shares of ε; torchattacks and Foolbox get the product.
RELATIVE_STEP = 0.25
EPSILONS_LINF = (0.01, 0.03, 0.1)
EPSILONS_L2 = (0.05, 0.2, 0.6)
ROWS = 12


class LinearTwin(torch.nn.Module):
    """The linear victim in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.tensor(weights["kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(weights["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.kernel + self.bias


class ConvTwin(torch.nn.Module):
    """The convolutional victim in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        # [kernel, in, out] -> [out, in, kernel]
        self.filters = torch.nn.Parameter(torch.tensor(weights["filters"].transpose(2, 1, 0)))
        self.shift = torch.nn.Parameter(torch.tensor(weights["shift"]))
        self.kernel = torch.nn.Parameter(torch.tensor(weights["kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(weights["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.conv1d(x[:, None, :], self.filters, self.shift)
        pooled = torch.tanh(hidden).square().mean(dim=2)
        return pooled @ self.kernel + self.bias


TWINS: dict[str, Any] = {"linear": LinearTwin, "conv": ConvTwin}


class UnitRange(torch.nn.Module):
    """A victim over (-1, 1) seen through inputs in (0, 1), all that torchattacks knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.model(2 * z - 1)


def twin(kind: str, weights: dict[str, np.ndarray]) -> Any:
    """The torch victim in evaluation mode and double precision.

    In single precision the peers' cross-entropy loses digits wherever the victim is sure; the
    oracle should not.
    """
    return TWINS[kind](weights).double().eval()


def torchattacks_delta(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    attack: str,
    epsilon: float,
    targeted: bool,
) -> np.ndarray:
    """Perturbation by torchattacks' FGSM, BIM or PGD (fixed start), in units of (-1, 1)."""
    half = epsilon / 2
    wrapped = UnitRange(model).eval()
    made: Any
    if attack == "fgsm":
        made = torchattacks.FGSM(wrapped, eps=half)
    elif attack == "bim":
        made = torchattacks.BIM(wrapped, eps=half, alpha=half * RELATIVE_STEP, steps=STEPS)
    else:
        made = torchattacks.PGD(
            wrapped, eps=half, alpha=half * RELATIVE_STEP, steps=STEPS, random_start=False
        )
    if targeted:
        made.set_mode_targeted_by_label(quiet=True)
    unit = (torch.tensor(x, dtype=model.kernel.dtype) + 1) / 2
    labels = torch.tensor(y.astype(np.int64))
    return (2 * (made(unit, labels) - unit)).detach().numpy()


def foolbox_delta(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    attack: str,
    epsilon: float,
    targeted: bool,
) -> np.ndarray:
    """Perturbation by Foolbox' FGSM, BIM, L∞ PGD or L2 PGD with a fixed start."""
    wrapped = foolbox.PyTorchModel(model, bounds=BOUNDS, device="cpu")
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
    }[attack]()
    labels = torch.tensor(y.astype(np.int64))
    criterion: Any = (
        foolbox.criteria.TargetedMisclassification
        if targeted
        else foolbox.criteria.Misclassification
    )(labels)
    inputs = torch.tensor(x, dtype=model.kernel.dtype)
    raw, _, _ = made(wrapped, inputs, criterion, epsilons=epsilon)
    return (raw - inputs).detach().numpy()


ORACLES = {"torchattacks": torchattacks_delta, "foolbox": foolbox_delta}


def cases() -> list[tuple[str, str, bool]]:
    """(oracle, attack, targeted) of every comparison; Foolbox has no targeted FGSM."""
    listed = [("torchattacks", a, t) for a in ("fgsm", "bim", "pgd") for t in (False, True)]
    listed += [("foolbox", "fgsm", False)]
    listed += [("foolbox", a, t) for a in ("bim", "pgd", "pgd_l2") for t in (False, True)]
    return listed


def epsilons(attack: str) -> tuple[float, ...]:
    """Budgets that the attack is compared at."""
    return EPSILONS_L2 if attack.endswith("l2") else EPSILONS_LINF


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
        held[name] = np.stack(
            [ORACLES[oracle](model, x, y, attack, e, targeted) for e in epsilons(attack)]
        ).astype(np.float32)
    return held


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    path = TESTS / "golden" / "attacks_conv.npz"
    np.savez_compressed(path, **golden("conv"))
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
