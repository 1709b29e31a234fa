"""Foolbox' side of the benchmarks of attacks; it takes the waveform and its bounds as they are."""

from collections.abc import Callable
from typing import Any

import foolbox
import numpy as np
import torch

from benchmarks.attack_cases import Work
from benchmarks.peers.victim import PeerAttack, PeerVictim, in_batches

__all__ = ["ATTACKS"]


def _attack(make: Callable[[Work], Any], fixed_epsilon: bool) -> PeerAttack:
    def attack(
        victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
    ) -> np.ndarray:
        model = foolbox.PyTorchModel(victim.eval(), bounds=(-1, 1), device="cpu")
        made = make(work)
        epsilons = work.epsilons[0] if fixed_epsilon else None
        done = []
        for part, labels in in_batches(x, y, size):
            _, adversarial, _ = made(
                model, torch.from_numpy(part), torch.from_numpy(labels).long(), epsilons=epsilons
            )
            done.append(adversarial.detach().numpy())
        return np.concatenate(done)

    return attack


def _pgd(work: Work) -> Any:
    return foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=work.steps)


def _boundary(work: Work) -> Any:
    return foolbox.attacks.BoundaryAttack(steps=work.steps)


def _hopskipjump(work: Work) -> Any:
    return foolbox.attacks.HopSkipJumpAttack(steps=work.steps)


def _carlini(work: Work) -> Any:
    return foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=work.binary_steps, steps=work.steps, stepsize=work.step or 0.01
    )


ATTACKS: dict[str, PeerAttack] = {
    "pgd": _attack(_pgd, fixed_epsilon=True),
    "boundary": _attack(_boundary, fixed_epsilon=False),
    "hopskipjump": _attack(_hopskipjump, fixed_epsilon=False),
    "carlinil2": _attack(_carlini, fixed_epsilon=False),
}
