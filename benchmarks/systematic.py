"""The systematic evaluation's Table 5, cell by cell, beside ART on the same weights.

    python -m benchmarks.systematic --victim runs/cnn_lstm_emodb --root ~/corpora/emodb
    python -m benchmarks.systematic --attacks FGSM BIM JSMA --rows 32 --out table5.json

Facchinetti et al., 2024. Both sides change the same standardised log-mels of a trained CNN-LSTM,
with the configurations of configs/tables/systematic_table5.yaml that do what ART does, and attack
the label that the victim predicts; accuracy is against the truth. ART gets the parameters of the
same attack objects, its batches of 256 and PyTorch's twin of the victim. Each side's examples are
judged by its own model.

Two lines need a word. JSMA has no untargeted form in ART, which draws random targets: they are
drawn here, once, and both sides get the same. PixelAttack lowers what the model returns for the
label: ART's gets the softmax, as the authors' models end in one.

Where ART is slow both sides get fewer rows (the column "rows"; ``--most`` for all lines at once);
the total is given as it ran, and per utterance over all lines, where each line counts the same.
Compilation is not counted. On a machine that others use too, --threads 1 is the fairer comparison:
PyTorch's threads wait for each other, so that it loses more than its share.
"""

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import hold_to_threads, write_report
from jaxser.runtime.errors import UsageError, nearest_name, report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.papers.table import Attacked
    from jaxser.victims.victim import Victim

TABLE = Path("configs/tables/systematic_table5.yaml")

# The authors' batch.
_ART_BATCH = 256

# Accuracies of both sides of a cell may differ by so much.
_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Peer:
    """ART's side of a line, and how both are run.

    Attributes:
      name: ART's class.
      parameters: ART's arguments, from the attack here and ε.
      slots: rows at a time here.
      rows: at most, where ART is slow.
      by_chance: whether the outcome depends on random numbers, which are not the same ones.
    """

    name: str
    parameters: Callable[[Any, float], dict[str, Any]]
    slots: int = 16
    rows: int = 1_000_000
    by_chance: bool = False


def peers() -> dict[str, Peer]:
    """The lines that ART has, by their name in the table."""
    return {
        "FGSM": Peer("FastGradientMethod", lambda a, e: {"eps": e, "batch_size": _ART_BATCH}),
        "BIM": Peer(
            "BasicIterativeMethod",
            lambda a, e: {
                "eps": e,
                "eps_step": a.step_size,
                "max_iter": a.steps,
                "batch_size": _ART_BATCH,
            },
            # Five ε of eight rows, which all take as long.
            slots=40,
            rows=8,
        ),
        "DeepFool": Peer(
            "DeepFool",
            lambda a, e: {
                "max_iter": a.steps,
                "epsilon": a.overshoot,
                "nb_grads": a.candidates,
                "batch_size": _ART_BATCH,
            },
            rows=8,
        ),
        "JSMA": Peer(
            "SaliencyMapMethod",
            lambda a, e: {"theta": a.theta, "gamma": a.gamma, "batch_size": _ART_BATCH},
            # A row that is done makes room for the next.
            slots=2,
            rows=8,
        ),
        "C&W L2": Peer(
            "CarliniL2Method",
            lambda a, e: {
                "learning_rate": a.learning_rate,
                "max_iter": a.steps,
                "binary_search_steps": a.binary_search_steps,
                "initial_const": a.initial_const,
                "batch_size": _ART_BATCH,
            },
            rows=8,
        ),
        "C&W": Peer(
            "CarliniLInfMethod",
            lambda a, e: {
                "learning_rate": a.learning_rate,
                "max_iter": a.steps,
                "initial_const": a.initial_const,
                "largest_const": a.largest_const,
                "const_factor": a.const_factor,
                "decrease_factor": a.decrease_factor,
                "batch_size": _ART_BATCH,
            },
            rows=8,
        ),
        "PixelAttack": Peer(
            "PixelAttack",
            # ART's 1 is differential evolution.
            lambda a, e: {"th": a.count, "es": 1, "max_iter": a.generations},
            slots=2,
            rows=1,
            by_chance=True,
        ),
        "BoundaryAttack": Peer(
            "BoundaryAttack",
            lambda a, e: {
                "targeted": False,
                "delta": a.first_spherical_step,
                "epsilon": a.source_step,
                "step_adapt": 1 / a.step_adaptation,
                "max_iter": a.iterations,
                "num_trial": a.trials,
                "sample_size": a.samples,
                "init_size": a.start_tries,
                "batch_size": _ART_BATCH,
            },
            # A pass has ten samples of a row, and rows that are done wait for the others.
            slots=1,
            rows=4,
            by_chance=True,
        ),
    }


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


_HEADER = (
    f"{'attack':14} {'setting':9} rows  accuracy/ART   agree   mean |Δ|/ART            seconds/ART"
    "         ratio compile"
)


def totals(cells: Sequence[Cell]) -> str:
    """Two lines: all seconds as they ran, and per utterance, where every cell counts the same."""
    lines = []
    for name, weights in (
        ("as it ran", [1.0] * len(cells)),
        ("per utterance", [1 / cell.rows for cell in cells]),
    ):
        ours = sum(w * cell.seconds for w, cell in zip(weights, cells, strict=True))
        theirs = sum(w * cell.peer_seconds for w, cell in zip(weights, cells, strict=True))
        lines.append(f"{'total, ' + name:76} {ours:8.2f} {theirs:8.2f}  {theirs / ours:6.1f}")
    return "\n".join(lines)


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
        from jaxser.driver.run import predict
        from jaxser.driver.speech import spread_rows
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
        start = time.perf_counter()
        result = run_attack(
            self.victim,
            x,
            attacked,
            attack,
            epsilons,
            seed=self.seed,
            batch_size=min(len(x) * len(epsilons), peer.slots),
        )
        compile_seconds = result.throughput.compile_seconds
        seconds = time.perf_counter() - start - compile_seconds
        for index, epsilon in enumerate(epsilons):
            arguments = peer.parameters(attack, epsilon)
            targets = attacked if attack.targeted else None
            start = time.perf_counter()
            x_adv = self._art(peer.name, arguments, x, targets)
            peer_seconds = time.perf_counter() - start
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

        from benchmarks.attack_peers import (
            ImageShape,
            PeerVictim,
            art_attack,
            art_classifier,
            as_images,
        )

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


def load_victim_and_features(
    folder: Path, root: Path | None, rows: int
) -> tuple["Victim", "np.ndarray", "np.ndarray"]:
    """The victim of features, features spread over the test part, and their classes."""
    from jaxser.config import AttackCommandConfig, AttackedCorpusConfig
    from jaxser.experiments.speech import load_speech

    corpus = AttackedCorpusConfig(root=root)
    speech = load_speech(
        AttackCommandConfig(victim=folder, domain="features", limit=rows, corpus=corpus)
    )
    if speech.victim.bounds is None:
        raise UsageError(f"{folder} was trained without features.bounds, which ART needs.")
    return speech.victim, speech.inputs, speech.labels


def main(argv: list[str] | None = None) -> int:
    """Parse, run both sides line by line, print; returns the exit status."""
    names = list(peers())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.systematic", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--victim", type=Path, default=Path("runs/cnn_lstm_emodb"), metavar="RUN")
    parser.add_argument("--root", type=Path, help="folder of the corpus, where it has moved")
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rows", type=int, default=64, help="utterances at most")
    parser.add_argument("--most", type=int, help="utterances of every line, not the line's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    for name in args.attacks or ():
        if name not in names:
            raise UsageError(f"there is no line {name!r}; {nearest_name(name, names)}")

    busy = hold_to_threads(args.threads)
    from benchmarks.torch_twins import twin_of
    from jaxser.papers.table import load_table
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    victim, x, labels = load_victim_and_features(args.victim, args.root, args.rows)
    table = Table(victim, twin_of(victim.name, victim.variables), x, labels, args.seed)
    table.warm_up()
    cells: list[Cell] = []
    print(_HEADER, flush=True)
    for entry in load_table(TABLE).attacks:
        if entry.title not in (args.attacks or names):
            continue
        peer = peers()[entry.title]
        for cell in table.line(entry, peer, args.most or peer.rows):
            print(cell.line(), flush=True)
            cells.append(cell)
        if args.out is not None:  # line by line: it takes long, and may be stopped
            write_report(
                args.out,
                busy,
                args.threads,
                victim=args.victim.name,
                seed=args.seed,
                cells=[{**dataclasses.asdict(cell), "same": cell.same} for cell in cells],
            )
    print(totals(cells))
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
