"""The victims and STAA-Net's generator in PyTorch, as their authors' framework would have them.

    twin = TorchVictim("emo18", num_classes=7)
    logits = twin(torch.zeros(8, 96_000))          # [8, 7]

The oracle of the model tests and the other side of the benchmarks. Written from the published
architectures (Tzirakis et al. 2018, Zhao et al. 2019, as described in arXiv 2402.01227;
Facchinetti et al. 2024, section 2.3).
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from jaxser.victims.key_tables.cnn_lstm import cnn_lstm_table
from jaxser.victims.key_tables.conv_lstm import conv_lstm_table
from jaxser.victims.key_tables.entries import Entry

__all__ = ["TorchCnnLstm", "TorchVictim", "TorchWaveUNet", "fresh_twin", "table_of", "twin_of"]

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


class TorchCnnLstm(nn.Module):
    """Facchinetti et al.'s CNN-LSTM on standardised log-mels ``[batch, frames, mels]``.

    PyTorch's LSTM has two biases where Keras' has one; without its dropouts.
    """

    def __init__(
        self, num_classes: int, units: int = 256, bidirectional: bool = True, mels: int = 128
    ) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 5)
        self.norm = nn.BatchNorm2d(16, eps=1e-3, momentum=0.01)
        self.conv1 = nn.Conv2d(16, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.slice_frames = 29
        bands = self.convolutions(torch.zeros(1, 1, 29, mels)).shape[3]
        self.lstm = nn.LSTM(64 * bands, units, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(units * (2 if bidirectional else 1), num_classes)

    def convolutions(self, y: torch.Tensor) -> torch.Tensor:
        """Slices ``[n, 1, frames, mels]`` to ``[n, 64, 1, bands]``."""
        y = nn.functional.max_pool2d(self.norm(torch.relu(self.conv0(y))), 4, 2)
        y = nn.functional.max_pool2d(torch.relu(self.conv1(y)), 2, 2)
        return nn.functional.max_pool2d(torch.relu(self.conv2(y)), 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features to logits ``[batch, classes]``."""
        batch, frames, mels = x.shape
        slices = frames // self.slice_frames
        y = x[:, : slices * self.slice_frames]
        y = self.convolutions(y.reshape(batch * slices, 1, self.slice_frames, mels))
        _, (last, _) = self.lstm(y.permute(0, 2, 3, 1).reshape(batch, slices, -1))
        return self.head(torch.cat(list(last), dim=1))


class _ConvNorm(nn.Module):
    """Unpadded convolution, group norm, ReLU."""

    def __init__(self, filter: nn.Module, features: int, group_size: int) -> None:
        super().__init__()
        self.filter = filter
        self.norm = nn.GroupNorm(features // group_size, features)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.filter(y)))


class TorchWaveUNet(nn.Module):
    """STAA-Net's generator as published, with the keys of its public weights.

    ``target`` samples are wanted, ``inputs`` are read and ``outputs`` made, as the architecture
    has it: 96,000, 108,541 and 96,261 for 6 s.
    """

    def __init__(
        self,
        target: int,
        inputs: int,
        outputs: int,
        widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024),
        kernel_size: int = 5,
        stride: int = 4,
        group_size: int = 8,
    ) -> None:
        super().__init__()
        self.target, self.left = target, (inputs - outputs) // 2
        self.right = self.left + outputs - target

        def conv(channels: int, features: int, step: int = 1) -> nn.Module:
            filter = nn.Conv1d(channels, features, kernel_size, step)
            return _ConvNorm(filter, features, group_size)

        def up(features: int) -> nn.Module:
            filter = nn.ConvTranspose1d(
                features, features, kernel_size, stride, padding=kernel_size - 1
            )
            return _ConvNorm(filter, features, group_size)

        net = nn.Module()
        channels = [1, *widths[1:-1]]
        pairs = list(itertools.pairwise(widths))
        net.downsampling_blocks = nn.ModuleList()
        for before, (width, wider) in zip(channels, pairs, strict=True):
            block = nn.Module()
            block.pre_shortcut_convs = nn.ModuleList([conv(before, width)])
            block.post_shortcut_convs = nn.ModuleList([conv(width, wider)])
            block.downconv = conv(wider, wider, stride)
            net.downsampling_blocks.append(block)
        for suffix in ("", "2"):
            blocks = nn.ModuleList()
            for width, wider in reversed(pairs):
                block = nn.Module()
                block.upconv = up(wider)
                block.pre_shortcut_convs = nn.ModuleList([conv(wider, width)])
                block.post_shortcut_convs = nn.ModuleList([conv(2 * width, width)])
                blocks.append(block)
            net.add_module(f"bottlenecks{suffix}", nn.ModuleList([conv(widths[-1], widths[-1])]))
            net.add_module(f"upsampling_blocks{suffix}", blocks)
            net.add_module(f"output_conv{suffix}", nn.Conv1d(widths[0], 1, 1))
        self.waveunets = nn.ModuleDict({"ALL": net})

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms ``[batch, target]`` to locations and magnitudes before tanh, shaped alike."""
        net: Any = self.waveunets["ALL"]
        y = nn.functional.pad(x[:, None], (self.left, self.right), mode="reflect")
        shortcuts = []
        for block in net.downsampling_blocks:
            shortcuts.append(block.pre_shortcut_convs[0](y))
            y = block.downconv(block.post_shortcut_convs[0](shortcuts[-1]))
        first = self._decode(net.bottlenecks, net.upsampling_blocks, net.output_conv, y, shortcuts)
        second = self._decode(
            net.bottlenecks2, net.upsampling_blocks2, net.output_conv2, y, shortcuts
        )
        return first, second

    def _decode(
        self, bottlenecks: Any, blocks: Any, output: Any, y: torch.Tensor, shortcuts: list[Any]
    ) -> torch.Tensor:
        y = bottlenecks[0](y)
        for block, shortcut in zip(blocks, reversed(shortcuts), strict=True):
            y = block.pre_shortcut_convs[0](block.upconv(y))
            beyond = (shortcut.shape[2] - y.shape[2]) // 2
            shortcut = shortcut[:, :, beyond : beyond + y.shape[2]]
            y = block.post_shortcut_convs[0](torch.cat([shortcut, y], dim=1))
        return output(y)[:, 0, : self.target]


def table_of(name: str) -> tuple[Entry, ...]:
    """The key table between the twin of architecture ``name`` and its Linen module."""
    return cnn_lstm_table() if name == "cnn_lstm" else conv_lstm_table(len(_BLOCKS[name][1]))


def fresh_twin(name: str, num_classes: int) -> nn.Module:
    """The twin of architecture ``name`` with PyTorch's initial weights."""
    return TorchCnnLstm(num_classes) if name == "cnn_lstm" else TorchVictim(name, num_classes)


def twin_of(name: str, variables: Any) -> nn.Module:
    """The twin with the weights of a trained victim, in evaluation mode.

    The LSTM's one bias goes to the first of PyTorch's two; the second is zero. A victim with a
    front end gives the twin of its network, which reads features.
    """
    twin: nn.Module
    if name == "cnn_lstm":
        variables = {collection: tree["network"] for collection, tree in variables.items()}
        params = variables["params"]
        inputs, gates = params["forward"]["input_kernel"].shape
        twin = TorchCnnLstm(
            num_classes=params["Dense_0"]["bias"].shape[0],
            units=gates // 4,
            bidirectional="backward" in params,
            # The fewest that leave so many bands.
            mels=26 + 4 * (inputs // 64 - 1),
        )
        table = cnn_lstm_table("backward" in params)
    else:
        twin = fresh_twin(name, num_classes=variables["params"]["head"]["bias"].shape[0])
        table = table_of(name)
    state = twin.state_dict()
    for entry in table:
        leaf = variables
        for part in entry.target:
            leaf = leaf[part]
        array = np.asarray(leaf)
        # Kernels are transposed (images' channels first), everything else is the same.
        shape = state[entry.sources[0]].shape
        value = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if value.shape != tuple(shape):
            raise ValueError(f"{entry.sources[0]} has shape {tuple(shape)}, not {value.shape}")
        state[entry.sources[0]] = torch.from_numpy(value.copy())
        for second in entry.sources[1:]:
            state[second] = torch.zeros_like(state[second])
    twin.load_state_dict(state)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin.eval()
