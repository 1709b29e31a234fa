"""Keys of AlexNet, VGG16 and the image CNN-LSTM in PyTorch, one table for each source.

    table = torchvision_alexnet_table(module)                  # a victim of this project
    table = torchvision_alexnet_table(module, head=False)      # what torchvision publishes

The linear layer behind ImageNet's logits is this project's; its keys, ``emotion_head.weight`` and
``emotion_head.bias``, are in no published checkpoint. Of one, it stays as it is initialised.
"""

import numpy as np

from jaxser.models.alexnet import CONVOLUTIONS, AlexNet
from jaxser.models.echim_cnn_lstm import EchimCnnLstm
from jaxser.models.vgg16 import Vgg16
from jaxser.victims.key_tables.entries import Entry, batch_norm, conv2d, kept, linear, lstm

__all__ = [
    "emotion_head_entries",
    "image_cnn_lstm_table",
    "timm_vgg16_table",
    "torchvision_alexnet_table",
    "torchvision_vgg16_table",
]


def emotion_head_entries(head: bool = True) -> list[Entry]:
    """The linear layer from ImageNet's logits to the emotions; none where ``head`` is false."""
    return linear(("params", "head"), "emotion_head") if head else []


def image_cnn_lstm_table(module: EchimCnnLstm) -> tuple[Entry, ...]:
    """Key table of a PyTorch CNN-LSTM (``echim_cnn_lstm``).

    There, ``f`` is a ``Sequential`` of modules, each a ``Sequential`` of Conv2d, BatchNorm2d, ELU
    and MaxPool2d, ``l`` an ``LSTM``, ``fc1`` and ``fc2`` are ``Linear``.
    """
    entries = []
    for block in range(len(module.channels)):
        here, there = ("params", f"block_{block}"), f"f.{block}"
        entries += conv2d(here, f"{there}.0")
        entries += batch_norm(here[1:], f"{there}.1", prefix="norm_")
    return (
        *entries,
        *lstm(("params", "lstm"), "l", "l0"),
        *linear(("params", "fc"), "fc1"),
        *linear(("params", "head"), "fc2"),
    )


def torchvision_alexnet_table(module: AlexNet, head: bool = True) -> tuple[Entry, ...]:
    """Key table of torchvision's ``alexnet``."""
    entries, place = [], 0
    for index, (*_, pooled) in enumerate(CONVOLUTIONS):
        entries += conv2d(("params", f"conv_{index}"), f"features.{place}")
        place += 3 if pooled else 2
    return (
        *entries,
        *_first_linear(("params", "fc_0"), "classifier.1", module.grid, module.channels[-1]),
        *linear(("params", "fc_1"), "classifier.4"),
        *linear(("params", "classifier"), "classifier.6"),
        *emotion_head_entries(head),
    )


def torchvision_vgg16_table(module: Vgg16, head: bool = True) -> tuple[Entry, ...]:
    """Key table of torchvision's ``vgg16``, without batch norm."""
    return (
        *_vgg_convolutions(module),
        *_first_linear(("params", "fc_0"), "classifier.0", module.grid, module.blocks[-1][-1]),
        *linear(("params", "fc_1"), "classifier.3"),
        *linear(("params", "classifier"), "classifier.6"),
        *emotion_head_entries(head),
    )


def timm_vgg16_table(module: Vgg16, head: bool = True) -> tuple[Entry, ...]:
    """Key table of timm's ``vgg16``, whose hidden layers are convolutions."""
    return (
        *_vgg_convolutions(module),
        *_convolution_of_all(("params", "fc_0"), "pre_logits.fc1", module.grid),
        *_convolution_of_all(("params", "fc_1"), "pre_logits.fc2", 1),
        *linear(("params", "classifier"), "head.fc"),
        *emotion_head_entries(head),
    )


def _vgg_convolutions(module: Vgg16) -> list[Entry]:
    entries, index, place = [], 0, 0
    for block in module.blocks:
        for _ in block:
            entries += conv2d(("params", f"conv_{index}"), f"features.{place}")
            index, place = index + 1, place + 2
        place += 1
    return entries


def _first_linear(target: tuple[str, ...], source: str, grid: int, channels: int) -> list[Entry]:
    """The layer that reads a feature map: flattened with the channels first there, last here."""

    def convert(weight: np.ndarray) -> np.ndarray:
        weight = weight.reshape(len(weight), channels, grid, grid)
        return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))

    def restore(kernel: np.ndarray) -> tuple[np.ndarray]:
        kernel = kernel.reshape(grid, grid, channels, -1).transpose(3, 2, 0, 1)
        return (kernel.reshape(len(kernel), -1),)

    return [
        Entry((*target, "kernel"), (f"{source}.weight",), convert, restore),
        kept((*target, "bias"), f"{source}.bias"),
    ]


def _convolution_of_all(target: tuple[str, ...], source: str, size: int) -> list[Entry]:
    """A convolution whose one window is the whole feature map, of ``size`` by ``size``."""

    def convert(weight: np.ndarray) -> np.ndarray:
        outputs, inputs = weight.shape[:2]
        weight = weight.reshape(outputs, inputs, size, size)
        return weight.transpose(2, 3, 1, 0).reshape(-1, outputs)

    def restore(kernel: np.ndarray) -> tuple[np.ndarray]:
        return (kernel.reshape(size, size, -1, kernel.shape[1]).transpose(3, 2, 0, 1),)

    return [
        Entry((*target, "kernel"), (f"{source}.weight",), convert, restore),
        kept((*target, "bias"), f"{source}.bias"),
    ]
