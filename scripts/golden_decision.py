"""Make tests/golden/decision.npz: what ART's and Foolbox' decision-based attacks find.

    python scripts/golden_decision.py

It needs the extra ``peers``. ART's BoundaryAttack is given the very random numbers that
``compat="art"`` draws, so that both walk the same way; of the others, the file holds distances
and forward passes spent. The functions here are also the live oracles of
tests/peers/test_decision_peers.py.
"""

from typing import Any
from unittest import mock

import foolbox
import golden_attacks
import jax
import jax.numpy as jnp
import numpy as np
import torch
from art.attacks.evasion import BoundaryAttack, HopSkipJump
from art.estimators.classification import PyTorchClassifier
from golden_victims import UnitRange, predictions, small_victims, twin, write_golden

from jaxser.attacks.base import row_keys, step_keys
from jaxser.attacks.boundary import Boundary
from jaxser.attacks.boundary_art import sample_noise
from jaxser.attacks.decision import noise_bits, uniform

ROWS, SEED = 20, 0
# Forward passes of Foolbox' walk: 51 for its start, 1.1 per step.
STEPS = 500
ITERATIONS = 5


def paired(targeted: bool) -> Boundary:
    """The walk that ART's is compared with.

    Walks on equal random numbers part after a while: ART keeps the closest of samples that are
    about as far as each other, the more so the shorter the step, and rounding may choose.
    """
    return Boundary(
        targeted=targeted, compat="art", iterations=20, spherical_step=0.1, start_tries=60
    )


class CountingTwin(torch.nn.Module):
    """A torch victim that counts its inputs, whatever their precision."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.inputs = model, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits in single precision."""
        self.inputs += len(x)
        return self.model(x.to(next(self.model.parameters()).dtype)).float()


class Classifier(PyTorchClassifier):
    """ART's wrapper; its decision-based attacks hand over float64 from NumPy 2 on."""

    def predict(self, x: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
        """Logits of ``x``, whatever its precision."""
        return super().predict(x.astype(np.float32), *arguments, **options)


class _SameNumbers:
    """Stands in for ``np.random`` within ART: row after row, the numbers of ``compat="art"``."""

    def __init__(self, attack: Boundary, x: np.ndarray, rows: list[int]) -> None:
        keys = row_keys(jax.random.key(SEED), jnp.arange(len(x), dtype=jnp.uint32))
        self.attack, self.x, self.keys = attack, jnp.asarray(x), keys
        self.rows, self.row = rows, -1

    def start_row(self) -> "_SameNumbers":
        """ART makes a ``RandomState`` whenever a row begins."""
        self.row += 1
        self.tries = self.drawn = 0
        return self

    def _now(self, count: int) -> Any:
        one = self.rows[self.row]
        return step_keys(self.keys[one : one + 1], jnp.array([count]))

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        """The next start."""
        bits = noise_bits(self._now(self.tries), self.x[:1])
        self.tries += 1
        return np.asarray((low + high) / 2 + (high - low) / 2 * uniform(bits))[0].reshape(size)

    def randn(self, *shape: int) -> np.ndarray:
        """The next sample of the current round."""
        rounds, sample = divmod(self.drawn, self.attack.samples)
        if sample == 0:
            like = jnp.zeros((1, self.attack.samples, *shape))
            self.noise = np.asarray(
                sample_noise(self._now(self.attack.start_tries + rounds), like)
            )[0]
        self.drawn += 1
        return self.noise[sample]


def _classifier(model: Any, x: np.ndarray) -> Classifier:
    return Classifier(
        CountingTwin(model),
        torch.nn.CrossEntropyLoss(),
        x.shape[1:],
        small_victims.CLASSES,
        clip_values=golden_attacks.BOUNDS,
        channels_first=False,
    )


def _spent(classifier: Classifier, rows: int) -> int:
    counting: Any = classifier.model
    return int(counting.inputs) // rows


def art_boundary(model: Any, x: np.ndarray, y: np.ndarray, targeted: bool) -> np.ndarray:
    """ART's adversarial inputs, by the random numbers of :func:`paired`."""
    attack = paired(targeted)
    classifier = _classifier(model, x)
    made = BoundaryAttack(
        classifier,
        targeted=targeted,
        delta=attack.first_spherical_step,
        epsilon=attack.source_step,
        step_adapt=1 / attack.step_adaptation,
        max_iter=attack.iterations,
        num_trial=attack.trials,
        sample_size=attack.samples,
        init_size=attack.start_tries,
        verbose=False,
    )
    # A row that is at its target already draws nothing.
    clean = classifier.predict(x).argmax(axis=1)
    rows = [i for i in range(len(x)) if not (targeted and clean[i] == y[i])]
    numbers = _SameNumbers(attack, x, rows)
    with (
        mock.patch.object(np.random, "RandomState", numbers.start_row),
        mock.patch.object(np.random, "randn", numbers.randn),
    ):
        return made.generate(x, y.astype(np.int64))


def art_hopskipjump(
    model: Any, x: np.ndarray, y: np.ndarray, norm: str, iterations: int
) -> tuple[np.ndarray, int]:
    """ART's adversarial inputs and the forward passes of a row."""
    classifier = _classifier(model, x)
    made = HopSkipJump(
        classifier, norm=2 if norm == "l2" else "inf", max_iter=iterations, verbose=False
    )
    np.random.seed(SEED)  # noqa: NPY002  ART draws from the global state
    # Its starts come from an unseeded one.
    starts = np.random.RandomState(SEED)
    with mock.patch.object(np.random, "RandomState", return_value=starts):
        x_adv = made.generate(x, y.astype(np.int64))
    return x_adv, _spent(classifier, len(x))


def foolbox_decision(
    model: Any, x: np.ndarray, y: np.ndarray, norm: str, steps: int, walk: bool
) -> tuple[np.ndarray, int]:
    """Foolbox' adversarial inputs and the forward passes of a row.

    Args:
      model: the torch victim.
      x: the clean inputs.
      y: labels to leave.
      norm: "l2" or "linf".
      steps: of either attack.
      walk: BoundaryAttack, else HopSkipJumpAttack, which only knows the range (0, 1).
    """
    torch.manual_seed(SEED)
    counting = CountingTwin(UnitRange(model))
    wrapped = foolbox.PyTorchModel(counting.eval(), bounds=(0, 1), device="cpu")
    made: Any = (
        foolbox.attacks.BoundaryAttack(steps=steps)
        if walk
        else foolbox.attacks.HopSkipJumpAttack(steps=steps, constraint=norm)
    )
    criterion = foolbox.criteria.Misclassification(torch.tensor(y.astype(np.int64)))
    found = made.run(wrapped, (torch.tensor(x) + 1) / 2, criterion)
    return 2 * found.numpy() - 1, counting.inputs // len(x)


def cases() -> list[tuple[str, str, str]]:
    """(oracle, attack, norm) of every comparison of distances."""
    return [
        ("foolbox", "boundary", "l2"),
        ("foolbox", "hopskipjump", "l2"),
        ("foolbox", "hopskipjump", "linf"),
        ("art", "hopskipjump", "l2"),
        ("art", "hopskipjump", "linf"),
    ]


def found_by(
    peer: str, attack: str, norm: str, model: Any, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, int]:
    """Distances that a peer reaches, and the forward passes of a row."""
    if peer == "art":
        x_adv, queries = art_hopskipjump(model, x, y, norm, ITERATIONS)
    else:
        walk = attack == "boundary"
        x_adv, queries = foolbox_decision(model, x, y, norm, STEPS if walk else ITERATIONS, walk)
    order = 2 if norm == "l2" else np.inf
    return np.linalg.norm((x_adv - x).reshape(len(x), -1), ord=order, axis=1), queries


def inputs_and_predictions(kind: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The torch victim, inputs of it, and what it says about them."""
    model = twin(kind, small_victims.WEIGHTS[kind]())
    x = small_victims.waveforms(ROWS)
    return model, x, predictions(model, x).astype(np.int32)


def golden(kind: str) -> dict[str, Any]:
    """Everything the golden file holds."""
    model, x, predicted = inputs_and_predictions(kind)
    targets = ((predicted + 1) % small_victims.CLASSES).astype(np.int32)
    held: dict[str, Any] = {"x": x, "predicted": predicted, "targets": targets}
    held["art/boundary/untargeted"] = art_boundary(model, x, predicted, False)
    held["art/boundary/targeted"] = art_boundary(model, x, targets, True)
    for peer, attack, norm in cases():
        distances, queries = found_by(peer, attack, norm, model, x, predicted)
        held[f"{peer}/{attack}/{norm}/distances"] = distances.astype(np.float32)
        held[f"{peer}/{attack}/{norm}/queries"] = queries
    return held


def main() -> None:
    """Write the file."""
    write_golden("decision.npz", lambda: golden("conv"))


if __name__ == "__main__":
    main()
