"""torchattacks' side of the benchmarks of attacks.

torchattacks attacks images in [0, 1]. It gets waveforms as [batch, 1, 1, time] in that range, with
ε halved, so that δ is the same.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchattacks
from torch import nn

from benchmarks.attack_cases import Work
from benchmarks.peers.victim import PeerAttack, PeerVictim, in_batches

__all__ = ["ATTACKS", "fgsm_sweep"]


class _UnitRange(nn.Module):
    """The victim for torchattacks: images in [0, 1] with the waveform row by row, padding after."""

    def __init__(self, victim: nn.Module, samples: int) -> None:
        super().__init__()
        self.victim = victim
        self.samples = samples
        with torch.no_grad():
            self.classes = victim(torch.zeros(1, samples)).shape[1]

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return self.victim(2.0 * u.flatten(start_dim=1)[:, : self.samples] - 1.0)


def _attack_on_images(make: Callable[[nn.Module, Work], Any], square: bool = False) -> PeerAttack:
    # Pixle mixes up the sides of images that are not square.
    def attack(
        victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
    ) -> np.ndarray:
        samples = x.shape[1]
        side = math.isqrt(samples - 1) + 1
        model = _UnitRange(victim, samples)
        model.eval()
        made = make(model, work)
        done = []
        for part, labels in in_batches(x, y, size):
            # Values a rounding error outside [0, 1] would be refused.
            u = torch.from_numpy((part[:, None, None, :] + 1.0) / 2.0).clamp(0, 1)
            if square:
                u = nn.functional.pad(u, (0, side**2 - samples), value=0.5)
                u = u.reshape(len(part), 1, side, side)
            adversarial = made(u, torch.from_numpy(labels).long()).detach().flatten(start_dim=1)
            done.append(2.0 * adversarial.numpy()[:, :samples] - 1.0)
        return np.concatenate(done)

    return attack


def _pgd(model: nn.Module, work: Work) -> Any:
    epsilon = work.epsilons[0] / 2
    return torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps)


def _mifgsm(model: nn.Module, work: Work) -> Any:
    epsilon = work.epsilons[0] / 2
    return torchattacks.MIFGSM(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps)


def _eotpgd(model: nn.Module, work: Work) -> Any:
    epsilon = work.epsilons[0] / 2
    return torchattacks.EOTPGD(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps, eot_iter=2)


def _deepfool(model: nn.Module, work: Work) -> Any:
    return torchattacks.DeepFool(model, steps=work.steps, overshoot=0.02)


def _sparsefool(model: nn.Module, work: Work) -> Any:
    return torchattacks.SparseFool(model, steps=work.steps, lam=3, overshoot=0.02)


def _square(model: nn.Module, work: Work) -> Any:
    return torchattacks.Square(
        model, norm="Linf", eps=work.epsilons[0] / 2, n_queries=work.queries, p_init=0.8, seed=0
    )


def _pixle(model: nn.Module, work: Work) -> Any:
    return torchattacks.Pixle(model, restarts=work.steps, max_iterations=work.population)


def _autoattack(model: nn.Module, work: Work) -> Any:
    # Its own ensemble gives its members their default of 10 steps; Croce & Hein's have 100.
    epsilon, classes = work.epsilons[0] / 2, model.classes
    of_all = {"eps": epsilon, "norm": "Linf", "n_restarts": 1, "seed": 0}
    return torchattacks.MultiAttack(
        [
            torchattacks.APGD(model, steps=work.steps, loss="ce", **of_all),
            torchattacks.APGDT(model, steps=work.steps, n_classes=classes, **of_all),
            torchattacks.FAB(
                model, steps=work.steps, multi_targeted=True, n_classes=classes, **of_all
            ),
            torchattacks.Square(model, n_queries=work.queries, **of_all),
        ]
    )


def fgsm_sweep(
    victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
) -> np.ndarray:
    """One call per ε, as its users do; [epsilons, batch, time]."""
    model = _UnitRange(victim, x.shape[1]).eval()
    done = []
    for epsilon in work.epsilons:
        made = torchattacks.FGSM(model, eps=epsilon / 2)
        parts = []
        for part, labels in in_batches(x, y, size):
            u = torch.from_numpy((part[:, None, None, :] + 1.0) / 2.0).clamp(0, 1)
            parts.append(2.0 * made(u, torch.from_numpy(labels).long()).numpy()[:, 0, 0, :] - 1.0)
        done.append(np.concatenate(parts))
    return np.stack(done)


ATTACKS: dict[str, PeerAttack] = {
    "pgd": _attack_on_images(_pgd),
    "mifgsm": _attack_on_images(_mifgsm),
    "eotpgd": _attack_on_images(_eotpgd),
    "fgsm": fgsm_sweep,
    "deepfool": _attack_on_images(_deepfool),
    "deepfool_trainable": _attack_on_images(_deepfool),
    "sparsefool": _attack_on_images(_sparsefool),
    "square": _attack_on_images(_square),
    "pixle": _attack_on_images(_pixle, square=True),
    "autoattack": _attack_on_images(_autoattack),
}
