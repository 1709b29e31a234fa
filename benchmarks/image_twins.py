"""The image victims of Echim et al. in PyTorch, with the key names of the libraries they are from.

    twin = image_twin("torchvision_alexnet", jaxser.models.build("alexnet", 7))
    logits = twin(torch.zeros(8, 3, 224, 224))     # images in [0, 1] -> [8, 7]

The oracle of the model tests and the other side of the benchmarks. ``scripts/golden_images.py``
asserts that AlexNet and VGG16 are torchvision's and timm's, which the tests do without.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["Normalised", "image_twin"]


class Normalised(nn.Module):
    """A network of ImageNet's classes behind its normalisation, and the emotions' linear layer.

    Attributes of ``network`` are this module's, so that its keys are those of ``network``.
    """

    def __init__(self, network: nn.Module, module: Any) -> None:
        super().__init__()
        # A list is not searched for parameters: they are registered once, under their own names.
        self._network = [network]
        for name, child in network.named_children():
            self.add_module(name, child)
        for name, parameter in network.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.emotion_head = nn.Linear(module.imagenet_classes, module.num_classes)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(module, name), dtype=torch.float64)[:, None, None]
            self.register_buffer(f"_{name}", values, persistent=False)

    def train(self, mode: bool = True) -> "Normalised":
        """Also the network itself, which is no child."""
        self._network[0].train(mode)
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``[batch, 3, height, width]`` to logits ``[batch, classes]``."""
        x = (x - self._mean.to(x.dtype)) / self._std.to(x.dtype)
        logits = self._network[0](x)
        return self.emotion_head(getattr(logits, "logits", logits))


class _Features(nn.Module):
    """Convolutions in a ``Sequential``, then layers of one feature map."""

    def __init__(self, features: Iterable[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)


class _TorchvisionNetwork(_Features):
    """As torchvision's AlexNet and VGG; at 224 by 224 their adaptive pool changes nothing."""

    def __init__(self, features: Iterable[nn.Module], classifier: Iterable[nn.Module]) -> None:
        super().__init__(features)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def _alexnet(module: Any) -> nn.Module:
    a, b, c, d, e = module.channels
    features = [
        *(nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    inputs, hidden = e * module.grid**2, module.hidden
    classifier = [
        *(nn.Dropout(module.dropout), nn.Linear(inputs, hidden), nn.ReLU()),
        *(nn.Dropout(module.dropout), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, module.imagenet_classes),
    ]
    return _TorchvisionNetwork(features, classifier)


def _vgg_features(module: Any) -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for block in module.blocks:
        for features in block:
            layers += [nn.Conv2d(inputs, features, 3, padding=1), nn.ReLU()]
            inputs = features
        layers.append(nn.MaxPool2d(2, 2))
    return layers


def _vgg16(module: Any) -> nn.Module:
    inputs, hidden = module.blocks[-1][-1] * module.grid**2, module.hidden
    classifier = [
        *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(module.dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(module.dropout)),
        nn.Linear(hidden, module.imagenet_classes),
    ]
    return _TorchvisionNetwork(_vgg_features(module), classifier)


class _TimmVgg16(_Features):
    """As timm's VGG16, whose hidden layers are convolutions."""

    def __init__(self, module: Any) -> None:
        super().__init__(_vgg_features(module))
        hidden = module.hidden
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc1", nn.Conv2d(module.blocks[-1][-1], hidden, module.grid))
        self.pre_logits.add_module("act1", nn.ReLU())
        self.pre_logits.add_module("drop", nn.Dropout(module.dropout))
        self.pre_logits.add_module("fc2", nn.Conv2d(hidden, hidden, 1))
        self.pre_logits.add_module("act2", nn.ReLU())
        self.head = nn.Sequential()
        self.head.add_module("drop", nn.Dropout(module.dropout))
        self.head.add_module("fc", nn.Linear(hidden, module.imagenet_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pre_logits(self.features(x)).mean(dim=(2, 3)))


class _CnnLstm(nn.Module):
    """The CNN-LSTM of Echim et al.: the channels of the last feature map are the LSTM's steps."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        inputs = (3, *module.channels)
        self.f = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 2), nn.BatchNorm2d(b), nn.ELU(), nn.MaxPool2d(2))
                for a, b in zip(inputs, module.channels, strict=False)
            )
        )
        self.l = nn.LSTM(module.grid**2, module.units, batch_first=True)
        self.fc1 = nn.Linear(module.channels[-1] * module.units, module.hidden)
        self.dropout = nn.Dropout(module.dropout)
        self.fc2 = nn.Linear(module.hidden, module.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, _ = self.l(torch.flatten(self.f(x), 2))
        return self.fc2(self.dropout(self.fc1(torch.flatten(steps, 1))))


_NETWORKS: dict[str, Callable[[Any], nn.Module]] = {
    "torchvision_alexnet": _alexnet,
    "torchvision_vgg16": _vgg16,
    "timm_vgg16": _TimmVgg16,
}


def image_twin(source: str, module: Any) -> nn.Module:
    """The victim ``module`` in PyTorch, its keys those of ``source``.

    Args:
      source: ``echim_cnn_lstm``, ``torchvision_alexnet``, ``torchvision_vgg16`` or ``timm_vgg16``.
      module: the Linen module, whose sizes are taken.
    """
    if source == "echim_cnn_lstm":
        return _CnnLstm(module)
    return Normalised(_NETWORKS[source](module), module)
