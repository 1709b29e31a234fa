"""Emo18 and Zhao19 in PyTorch, as their authors' framework would have them.

    twin = TorchVictim("emo18", num_classes=7)
    logits = twin(torch.zeros(8, 96_000))          # [8, 7]

The oracle of the model tests and the other side of the benchmarks. Written from the published
architecture (Tzirakis et al. 2018, Zhao et al. 2019, as described in arXiv 2402.01227).
"""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["TorchVictim"]

# name: activation, then (channels, kernel, padding, pool) of every block
_BLOCKS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, int, int, int]]]] = {
    "emo18": (lambda: nn.LeakyReLU(0.01), [(64, 8, 3, 10), (128, 6, 2, 8), (256, 6, 2, 8)]),
    "zhao19": (nn.ELU, [(64, 3, 1, 4), (64, 3, 1, 4), (128, 3, 1, 4), (128, 3, 1, 4)]),
}


class TorchVictim(nn.Module):
    """Convolution blocks, two LSTM layers, a linear layer at every step, mean over time."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        activation, blocks = _BLOCKS[name]
        layers: list[nn.Module] = []
        channels = 1
        for features, kernel, padding, pool in blocks:
            layers += [
                nn.Conv1d(channels, features, kernel, padding=padding),
                nn.BatchNorm1d(features),
                activation(),
                nn.MaxPool1d(pool),
            ]
            channels = features
        self.features = nn.Sequential(*layers)
        self.lstm = nn.LSTM(channels, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Waveforms ``[batch, time]`` to logits ``[batch, classes]``."""
        x = (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True)
        features = self.features(x[:, None, :])
        hidden, _ = self.lstm(features.transpose(1, 2))
        return self.head(hidden).mean(dim=1)
