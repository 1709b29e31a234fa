"""The other side of the benchmarks of attacks: those of torchattacks, ART, Foolbox and SciPy.

    victim = PeerVictim(twin)                       # counts forward and backward passes
    x_adv = PEERS["torchattacks"]["pgd"](victim, x, y, work, batch_size)

Every peer sees the waveform in the shape and range that it assumes, with the same δ: torchattacks
gets [batch, 1, 1, time] in [0, 1] and ε halved.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = [
    "PEERS",
    "ImageShape",
    "PeerVictim",
    "Work",
    "art_attack",
    "art_classifier",
    "as_images",
]


@dataclasses.dataclass(frozen=True)
class Work:
    """What both sides do, in the units of the waveform.

    Attributes:
      epsilons: amplitudes; one for most attacks.
      steps: iterations (of the outer loop).
      queries: forward passes per utterance, for black-box attacks.
      population: candidates per generation.
      binary_steps: rounds of the search for c.
      step: length of a step; None: the peer's own default.
    """

    epsilons: tuple[float, ...] = (0.01,)
    steps: int = 20
    queries: int = 1000
    population: int = 100
    binary_steps: int = 5
    step: float | None = None


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


class _UnitRange(nn.Module):
    """The victim for torchattacks: images in [0, 1] with the waveform row by row, padding after."""

    def __init__(self, victim: nn.Module, samples: int) -> None:
        super().__init__()
        self.victim = victim
        self.samples = samples

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return self.victim(2.0 * u.flatten(start_dim=1)[:, : self.samples] - 1.0)


def _batches(x: np.ndarray, y: np.ndarray, size: int) -> Any:
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


# --- torchattacks --------------------------------------------------------------------------------


def _torchattacks(
    make: Callable[[nn.Module, Work], Any], square: bool = False
) -> Callable[..., np.ndarray]:
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
        for part, labels in _batches(x, y, size):
            # Values a rounding error outside [0, 1] would be refused.
            u = torch.from_numpy((part[:, None, None, :] + 1.0) / 2.0).clamp(0, 1)
            if square:
                u = nn.functional.pad(u, (0, side**2 - samples), value=0.5)
                u = u.reshape(len(part), 1, side, side)
            adversarial = made(u, torch.from_numpy(labels).long()).detach().flatten(start_dim=1)
            done.append(2.0 * adversarial.numpy()[:, :samples] - 1.0)
        return np.concatenate(done)

    return attack


def _ta_pgd(model: nn.Module, work: Work) -> Any:
    import torchattacks

    epsilon = work.epsilons[0] / 2
    return torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps)


def _ta_mifgsm(model: nn.Module, work: Work) -> Any:
    import torchattacks

    epsilon = work.epsilons[0] / 2
    return torchattacks.MIFGSM(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps)


def _ta_eotpgd(model: nn.Module, work: Work) -> Any:
    import torchattacks

    epsilon = work.epsilons[0] / 2
    return torchattacks.EOTPGD(model, eps=epsilon, alpha=epsilon / 4, steps=work.steps, eot_iter=2)


def _ta_deepfool(model: nn.Module, work: Work) -> Any:
    import torchattacks

    return torchattacks.DeepFool(model, steps=work.steps, overshoot=0.02)


def _ta_sparsefool(model: nn.Module, work: Work) -> Any:
    import torchattacks

    return torchattacks.SparseFool(model, steps=work.steps, lam=3, overshoot=0.02)


def _ta_square(model: nn.Module, work: Work) -> Any:
    import torchattacks

    return torchattacks.Square(
        model, norm="Linf", eps=work.epsilons[0] / 2, n_queries=work.queries, p_init=0.8, seed=0
    )


def _ta_pixle(model: nn.Module, work: Work) -> Any:
    import torchattacks

    return torchattacks.Pixle(model, restarts=work.steps, max_iterations=work.population)


def torchattacks_fgsm_sweep(
    victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
) -> np.ndarray:
    """One call per ε, as its users do; [epsilons, batch, time]."""
    import torchattacks

    model = _UnitRange(victim, x.shape[1]).eval()
    done = []
    for epsilon in work.epsilons:
        made = torchattacks.FGSM(model, eps=epsilon / 2)
        parts = []
        for part, labels in _batches(x, y, size):
            u = torch.from_numpy((part[:, None, None, :] + 1.0) / 2.0).clamp(0, 1)
            parts.append(2.0 * made(u, torch.from_numpy(labels).long()).numpy()[:, 0, 0, :] - 1.0)
        done.append(np.concatenate(parts))
    return np.stack(done)


# --- ART -----------------------------------------------------------------------------------------


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


def _art(make: Callable[[Any, Work, int], Any]) -> Callable[..., np.ndarray]:
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


def _art_deepfool(classifier: Any, work: Work, size: int) -> Any:
    return art_attack("DeepFool", classifier, max_iter=work.steps, batch_size=size)


def _art_carlini_l2(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "CarliniL2Method",
        classifier,
        binary_search_steps=work.binary_steps,
        max_iter=work.steps,
        learning_rate=work.step or 0.01,
        initial_const=0.01,
        batch_size=size,
    )


def _art_carlini_linf(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "CarliniLInfMethod",
        classifier,
        max_iter=work.steps,
        learning_rate=work.step or 0.01,
        batch_size=size,
    )


class _ArtSaliency:
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


def art_one_pixel(
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


def _art_boundary(classifier: Any, work: Work, size: int) -> Any:
    return art_attack(
        "BoundaryAttack", classifier, targeted=False, max_iter=work.steps, batch_size=size
    )


# --- Foolbox -------------------------------------------------------------------------------------


def _foolbox(make: Callable[[Work], Any], fixed_epsilon: bool) -> Callable[..., np.ndarray]:
    def attack(
        victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
    ) -> np.ndarray:
        import foolbox

        model = foolbox.PyTorchModel(victim.eval(), bounds=(-1, 1), device="cpu")
        made = make(work)
        epsilons = work.epsilons[0] if fixed_epsilon else None
        done = []
        for part, labels in _batches(x, y, size):
            _, adversarial, _ = made(
                model, torch.from_numpy(part), torch.from_numpy(labels).long(), epsilons=epsilons
            )
            done.append(adversarial.detach().numpy())
        return np.concatenate(done)

    return attack


def _foolbox_pgd(work: Work) -> Any:
    import foolbox

    return foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=work.steps)


def _foolbox_boundary(work: Work) -> Any:
    import foolbox

    return foolbox.attacks.BoundaryAttack(steps=work.steps)


def _foolbox_hopskipjump(work: Work) -> Any:
    import foolbox

    return foolbox.attacks.HopSkipJumpAttack(steps=work.steps)


def _foolbox_carlini(work: Work) -> Any:
    import foolbox

    return foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=work.binary_steps, steps=work.steps, stepsize=work.step or 0.01
    )


# --- SciPy ---------------------------------------------------------------------------------------


def scipy_one_pixel(
    victim: PeerVictim, x: np.ndarray, y: np.ndarray, work: Work, size: int
) -> np.ndarray:
    """One sample by differential evolution, one utterance and one candidate at a time.

    The settings are those of STAA-Net's baseline: best1bin, dither (0.5, 1), recombination 1,
    immediate updating, stopping at the first success. SciPy multiplies its ``popsize`` with the
    number of variables, position and value.
    """
    del size
    from scipy.optimize import differential_evolution

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


PEERS: dict[str, dict[str, Callable[..., np.ndarray]]] = {
    "torchattacks": {
        "pgd": _torchattacks(_ta_pgd),
        "mifgsm": _torchattacks(_ta_mifgsm),
        "eotpgd": _torchattacks(_ta_eotpgd),
        "fgsm": torchattacks_fgsm_sweep,
        "deepfool": _torchattacks(_ta_deepfool),
        "deepfool_trainable": _torchattacks(_ta_deepfool),
        "sparsefool": _torchattacks(_ta_sparsefool),
        "square": _torchattacks(_ta_square),
        "pixle": _torchattacks(_ta_pixle, square=True),
    },
    "art": {
        "deepfool": _art(_art_deepfool),
        "jsma": _art(_ArtSaliency),
        "carlinil2": _art(_art_carlini_l2),
        "carlinilinf": _art(_art_carlini_linf),
        "boundary": _art(_art_boundary),
        "onepixel": art_one_pixel,
    },
    "foolbox": {
        "pgd": _foolbox(_foolbox_pgd, fixed_epsilon=True),
        "boundary": _foolbox(_foolbox_boundary, fixed_epsilon=False),
        "hopskipjump": _foolbox(_foolbox_hopskipjump, fixed_epsilon=False),
        "carlinil2": _foolbox(_foolbox_carlini, fixed_epsilon=False),
    },
    "scipy": {"onepixel": scipy_one_pixel},
}
