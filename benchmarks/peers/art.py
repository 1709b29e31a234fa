"""ART's side of the benchmarks of attacks; it takes inputs of any shape and bounds."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.attack_cases import Work
from benchmarks.peers.victim import PeerAttack, PeerVictim

__all__ = ["ATTACKS", "ImageShape", "art_attack", "art_classifier", "as_images"]


def art_classifier(
    model: nn.Module, shape: tuple[int, ...], classes: int, bounds: tuple[float, float]
) -> Any:
    """ART's view of a torch model whose inputs have ``shape`` and lie within ``bounds``."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=classes,
        clip_values=bounds,
        device_type="cpu",
    )


def art_attack(name: str, classifier: Any, **parameters: Any) -> Any:
    """An attack of ``art.attacks.evasion`` by the name of its class, silent."""
    from art.attacks import evasion

    # FastGradientMethod has no progress to show.
    quiet = {} if name == "FastGradientMethod" else {"verbose": False}
    return getattr(evasion, name)(classifier, **quiet, **parameters)


def _attack_on_classifier(make: Callable[[Any, Work, int], Any]) -> PeerAttack:
    def attack(
        victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
    ) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classes = victim.twin.head.out_features
            classifier = art_classifier(victim, x.shape[1:], classes, (-1.0, 1.0))
            made = make(classifier, work, size)
            # The label that is not to be left: ART wants none for untargeted attacks but takes it.
            return made.generate(x, np.eye(classes, dtype=np.float32)[y])

    return attack


def _deepfool(classifier: Any, work: Work, size: int) -> Any:
    return art_attack("DeepFool", classifier, max_iter=work.steps, batch_size=size)


def _carlini_l2(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "CarliniL2Method",
        classifier,
        binary_search_steps=work.binary_steps,
        max_iter=work.steps,
        learning_rate=work.step or 0.01,
        initial_const=0.01,
        batch_size=size,
    )


def _carlini_linf(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "CarliniLInfMethod",
        classifier,
        max_iter=work.steps,
        learning_rate=work.step or 0.01,
        batch_size=size,
    )


class _Saliency:
    """ART's JSMA is targeted at the first given label, so it gets the next class."""

    def __init__(self, classifier: Any, work: Work, size: int) -> None:
        self._attack = art_attack(
            "SaliencyMapMethod",
            classifier,
            theta=work.epsilons[0],
            gamma=work.step,
            batch_size=size,
        )

    def generate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._attack.generate(x, np.roll(y, 1, axis=1))


class ImageShape(nn.Module):
    """A model for attacks on images: [batch, 1, height, width] to what ``model`` reads."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.shape = shape

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image.reshape(len(image), *self.shape))


def as_images(x: np.ndarray) -> np.ndarray:
    """Waveforms or spectrograms as images of one channel, [batch, 1, height, width]."""
    return x.reshape(len(x), 1, -1, x.shape[-1])


def one_pixel(
    victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
) -> np.ndarray:
    """PixelAttack by differential evolution; its population for one pixel is 399."""
    del size  # It asks about a generation at a time.
    images = as_images(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ImageShape(victim, x.shape[1:])
        classes = victim.twin.head.out_features
        classifier = art_classifier(model, images.shape[1:], classes, (-1.0, 1.0))
        attack = art_attack("PixelAttack", classifier, th=1, es=1, max_iter=work.steps)
        return attack.generate(images, y).reshape(x.shape)


def _boundary(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "BoundaryAttack", classifier, targeted=False, max_iter=work.steps, batch_size=size
    )


ATTACKS: dict[str, PeerAttack] = {
    "deepfool": _attack_on_classifier(_deepfool),
    "jsma": _attack_on_classifier(_Saliency),
    "carlinil2": _attack_on_classifier(_carlini_l2),
    "carlinilinf": _attack_on_classifier(_carlini_linf),
    "boundary": _attack_on_classifier(_boundary),
    "onepixel": one_pixel,
}
