"""Emo18 and Zhao19 in PyTorch, as their authors' framework would have them.

    twin = TorchVictim("emo18", num_classes=7)
    logits = twin(torch.zeros(8, 96_000))          # [8, 7]

The oracle of the model tests and the other side of the benchmarks. Written from the published
architecture (Tzirakis et al. 2018, Zhao et al. 2019, as described in arXiv 2402.01227).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from jaxser.params import conv_lstm_table

__all__ = ["TorchVictim", "twin_of"]

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


def twin_of(name: str, variables: Any) -> TorchVictim:
    """The twin with the weights of a trained victim, in evaluation mode.

    The LSTM's one bias goes to the first of PyTorch's two; the second is zero.
    """
    blocks = len(_BLOCKS[name][1])
    twin = TorchVictim(name, num_classes=variables["params"]["head"]["bias"].shape[0])
    state = twin.state_dict()
    for entry in conv_lstm_table(blocks):
        leaf = variables
        for part in entry.target:
            leaf = leaf[part]
        array = np.asarray(leaf)
        # Kernels are transposed on both ways, everything else is the same.
        shape = state[entry.sources[0]].shape
        value = array.T if array.ndim > 1 else array
        if value.shape != tuple(shape):
            raise ValueError(f"{entry.sources[0]} has shape {tuple(shape)}, not {value.shape}")
        state[entry.sources[0]] = torch.from_numpy(value.copy())
        for second in entry.sources[1:]:
            state[second] = torch.zeros_like(state[second])
    twin.load_state_dict(state)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin.eval()
