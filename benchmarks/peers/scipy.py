"""SciPy's side of the benchmarks of attacks: differential evolution, as STAA-Net's baseline."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import differential_evolution

from benchmarks.attack_cases import Work
from benchmarks.peers.victim import PeerAttack, PeerVictim

__all__ = ["ATTACKS"]


def one_pixel(
    victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
) -> np.ndarray:
    """One sample by differential evolution, one utterance and one candidate at a time.

    The settings are those of STAA-Net's baseline: best1bin, dither (0.5, 1), recombination 1,
    immediate updating, stopping at the first success. SciPy multiplies its ``popsize`` with the
    number of variables, position and value.
    """
    del size
    epsilon, length = work.epsilons[0], x.shape[1]
    done = []
    for row, label in zip(x, y, strict=True):

        def moved(z: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            candidate = row.copy()
            position = min(int(z[0]), length - 1)
            candidate[position] = np.clip(candidate[position] + z[1], -1.0, 1.0)
            return candidate

        def logits(candidate: np.ndarray) -> torch.Tensor:
            with torch.no_grad():
                return victim(torch.from_numpy(candidate[None]))[0]

        def confidence(z: np.ndarray, label: int = label, moved: Any = moved) -> float:
            return float(torch.softmax(logits(moved(z)), 0)[label])

        def fooled(
            z: np.ndarray, convergence: float = 0.0, label: int = label, moved: Any = moved
        ) -> bool:
            del convergence
            return int(logits(moved(z)).argmax()) != label

        found = differential_evolution(
            confidence,
            [(0, length), (-epsilon, epsilon)],
            strategy="best1bin",
            maxiter=work.steps,
            popsize=work.population // 2,
            mutation=(0.5, 1),
            recombination=1,
            atol=-1,
            callback=fooled,
            polish=False,
            rng=0,
        )
        done.append(moved(found.x))
    return np.stack(done)


ATTACKS: dict[str, PeerAttack] = {"onepixel": one_pixel}
