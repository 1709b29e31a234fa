"""The victim as PyTorch's attacks see it, and the form of an attack on it."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

__all__ = ["PeerAttack", "PeerVictim", "in_batches"]


class PeerVictim(nn.Module):
    """A torch victim that counts the rows it is asked about."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin
        self.forward_rows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the twin reads to logits; ART makes some of it in double precision."""
        self.forward_rows += len(x)
        return self.twin(x.float())


# From (victim, x, y, work, batch size) to adversarial examples like x, or [epsilons, *x.shape].
PeerAttack = Callable[..., np.ndarray]


def in_batches(x: np.ndarray, y: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and labels, ``size`` at a time; fewer in the last batch."""
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]
