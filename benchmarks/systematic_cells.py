"""The cells of the systematic evaluation's Table 5, each on both sides, and their totals."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.systematic_art import Peer
from benchmarks.turns import timed

if TYPE_CHECKING:
    import numpy as np

    from jaxser.papers.table import Attacked
    from jaxser.victims.victim import Victim

__all__ = ["HEADER", "Cell", "Table", "random_targets", "total_seconds", "totals"]

# Accuracies of both sides of a cell may differ by so much.
_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of one attack on both sides.

    Attributes:
      attack, setting: line of the table, and what of its grid.
      rows: utterances attacked.
      by_chance: see :class:`Peer`.
      accuracy, peer_accuracy: against the truth, after the attack.
      mean_abs, peer_mean_abs: mean |change| of a feature.
      agreement: share of rows where both sides end at the same prediction.
      queries: of a row on our side; a search that chance decides may end early.
      seconds, peer_seconds: of all rows.
      compile_seconds: before ours; not in ``seconds``.
      parameters, peer_parameters: of the attacks.
    """

    attack: str
    setting: str
    rows: int
    by_chance: bool
    accuracy: float
    peer_accuracy: float
    mean_abs: float
    peer_mean_abs: float
    agreement: float
    queries: float
    seconds: float
    peer_seconds: float
    compile_seconds: float
    parameters: dict[str, Any]
    peer_parameters: dict[str, Any]

    @property
    def tolerance(self) -> float:
        """How far the accuracies may be apart: by sampling too where chance decides."""
        if not self.by_chance:
            return _TOLERANCE
        spread = sum(p * (1 - p) for p in (self.accuracy, self.peer_accuracy)) / self.rows
        return max(_TOLERANCE, 1.96 * spread**0.5)

    @property
    def same(self) -> bool:
        return abs(self.accuracy - self.peer_accuracy) <= self.tolerance + 1e-9

    def line(self) -> str:
        """Its line of the printed table."""
        return (
            f"{self.attack:14} {self.setting:9} {self.rows:4}   {self.accuracy:.3f} "
            f"{self.peer_accuracy:.3f}  {self.agreement:6.1%}  {self.mean_abs:9.3g} "
            f"{self.peer_mean_abs:9.3g}  {self.seconds:8.2f} {self.peer_seconds:8.2f}  "
            f"{self.peer_seconds / self.seconds:6.1f}  {self.compile_seconds:6.1f}"
            + ("" if self.same else "  apart")
        )


HEADER = (
    f"{'attack':14} {'setting':9} rows  accuracy/ART   agree   mean |Δ|/ART            seconds/ART"
    "         ratio compile"
)


def total_seconds(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Seconds of both sides: as they ran, and per utterance, where every cell counts the same.

    Args:
      cells: fields of :class:`Cell`, as they are written.
    """
    seconds = [(cell["rows"], cell["seconds"], cell["peer_seconds"]) for cell in cells]
    return {
        "as it ran": (sum(own for _, own, _ in seconds), sum(peer for _, _, peer in seconds)),
        "per utterance": (
            sum(own / rows for rows, own, _ in seconds),
            sum(peer / rows for rows, _, peer in seconds),
        ),
    }


def totals(cells: Sequence[Cell]) -> str:
    """The two last lines of the printed table."""
    return "\n".join(
        f"{'total, ' + name:76} {ours:8.2f} {theirs:8.2f}  {theirs / ours:6.1f}"
        for name, (ours, theirs) in total_seconds([vars(cell) for cell in cells]).items()
    )


@dataclasses.dataclass(frozen=True)
class Table:
    """Both sides of one run.

    Attributes:
      victim: reads features.
      twin: the same in PyTorch.
      x: features.
      labels: the truth.
      seed: of the targets of JSMA and of all random numbers.
    """

    victim: "Victim"
    twin: Any
    x: "np.ndarray"
    labels: "np.ndarray"
    seed: int = 0

    def warm_up(self) -> None:
        """ART is slow to import and in its first call."""
        self._art("FastGradientMethod", {"eps": 0.1}, self.x[:2], None)

    def line(self, entry: "Attacked", peer: Peer, most: int) -> Iterator[Cell]:
        """All settings of one attack, on at most so many rows."""
        from jaxser.corpora.selection import spread_rows
        from jaxser.driver.run import predict
        from jaxser.papers.table import settings

        rows = spread_rows(len(self.x), most)
        x, truth = self.x[rows], self.labels[rows]
        y = predict(self.victim, x)
        for setting in settings(entry):
            attack = self._attack(entry, setting)
            attacked = y
            if attack.name == "jsma":
                attack = dataclasses.replace(attack, targeted=True)
                attacked = random_targets(y, len(self.victim.labels), self.seed)
            yield from self._cells(entry, setting, peer, attack, (x, attacked, truth))

    def _attack(self, entry: "Attacked", setting: Mapping[str, Any]) -> Any:
        from jaxser.attacks import from_parameters
        from jaxser.config import load_yaml

        content = load_yaml(Path(entry.attack))
        parameters = {**content["parameters"], **entry.parameters, **setting}
        attack: Any = from_parameters(content["name"], parameters)
        return dataclasses.replace(attack, bounds=self.victim.bounds)

    def _cells(
        self,
        entry: "Attacked",
        setting: Mapping[str, Any],
        peer: Peer,
        attack: Any,
        data: tuple["np.ndarray", "np.ndarray", "np.ndarray"],
    ) -> Iterator[Cell]:
        """A cell per ε; all ε are one run here, whose time they share."""
        import numpy as np

        from jaxser import run_attack
        from jaxser.attacks import parameters

        x, attacked, truth = data
        epsilons = (float("inf"),) if attack.minimal_norm else entry.epsilon
        seconds, result = timed(
            lambda: run_attack(
                self.victim,
                x,
                attacked,
                attack,
                epsilons,
                seed=self.seed,
                batch_size=min(len(x) * len(epsilons), peer.slots),
            )
        )
        compile_seconds = result.throughput.compile_seconds
        seconds -= compile_seconds
        for index, epsilon in enumerate(epsilons):
            arguments = peer.parameters(attack, epsilon)
            targets = attacked if attack.targeted else None
            peer_seconds, x_adv = timed(
                functools.partial(self._art, peer.name, arguments, x, targets)
            )
            predicted = self._twin_predictions(x_adv)
            values = dict(setting) | ({"ε": epsilon} if len(epsilons) > 1 else {})
            yield Cell(
                attack=entry.title,
                setting=" ".join(f"{name} {value}" for name, value in values.items()),
                rows=len(x),
                by_chance=peer.by_chance,
                accuracy=float((result.prediction[index] == truth).mean()),
                peer_accuracy=float((predicted == truth).mean()),
                mean_abs=float(np.abs(result.x_adv[index] - x).mean(dtype=float)),
                peer_mean_abs=float(np.abs(x_adv - x).mean(dtype=float)),
                agreement=float((result.prediction[index] == predicted).mean()),
                queries=float(result.queries[index].mean(dtype=float)),
                seconds=seconds / len(epsilons),
                peer_seconds=peer_seconds,
                compile_seconds=compile_seconds / len(epsilons),
                parameters=parameters(attack),
                peer_parameters=arguments,
            )

    def _art(
        self,
        name: str,
        arguments: Mapping[str, Any],
        x: "np.ndarray",
        targets: "np.ndarray | None",
    ) -> "np.ndarray":
        import numpy as np
        import torch

        from benchmarks.peers.art import ImageShape, art_attack, art_classifier, as_images
        from benchmarks.peers.victim import PeerVictim

        # ART draws from NumPy's global generator.
        np.random.seed(self.seed)  # noqa: NPY002
        classes, bounds = len(self.victim.labels), self.victim.bounds
        assert bounds is not None
        model, inputs = PeerVictim(self.twin), x
        if name == "PixelAttack":
            probabilities = torch.nn.Sequential(model, torch.nn.Softmax(dim=1))
            model, inputs = ImageShape(probabilities, x.shape[1:]), as_images(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier = art_classifier(model, inputs.shape[1:], classes, bounds)
            attack = art_attack(name, classifier, **arguments)
            one_hot = None if targets is None else np.eye(classes, dtype=np.float32)[targets]
            x_adv = attack.generate(inputs, one_hot)
        return np.asarray(x_adv, np.float32).reshape(x.shape)

    def _twin_predictions(self, x: "np.ndarray") -> "np.ndarray":
        import numpy as np
        import torch

        with torch.no_grad():
            parts = [self.twin(part) for part in torch.from_numpy(x).split(32)]
        return np.concatenate([part.numpy() for part in parts]).argmax(axis=1)


def random_targets(y: "np.ndarray", classes: int, seed: int) -> "np.ndarray":
    """Another class than ``y`` for each row, as ART draws them."""
    import numpy as np

    steps = np.random.default_rng(seed).integers(1, classes, len(y))
    return ((y + steps) % classes).astype(y.dtype)
