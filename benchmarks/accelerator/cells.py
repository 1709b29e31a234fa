"""What is measured: victims by tasks by batch sizes, the most telling first.

    for cell in cells(["emo18"], [1, 32], kinds=("attack",)):
        cell.task, cell.line, cell.batch

The attacks and what the papers say that they took come from the tables in configs/tables.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jaxser import models
from jaxser.runtime.errors import UsageError

__all__ = ["BATCHES", "KINDS", "VICTIMS", "Cell", "Line", "Published", "cells", "lines_of"]

VICTIMS = (
    *("emo18", "wav2vec2-base", "cnn_lstm", "alexnet", "zhao19", "wavlm-base"),
    *("echim_cnn_lstm", "vgg16", "vit-b16", "cvt-21", "levit-256"),
)
BATCHES = (256, 32, 1, 1024)
KINDS = ("forward", "gradient", "attack", "generator")

# Lines of tables that others stand for: on probabilities, or the published algorithm.
_TWICE = (", softmax", ", published")

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# Kind of input -> tables of attacks on it.
_TABLES = {
    "waveform": ("staa_net_table4",),
    "spectrogram": ("systematic_table5",),
    "image": ("benchmark_table2a", "benchmark_table2b"),
}

# Threat models of STAA-Net's tables, which have seconds of their own.
_THREATS = {"emo18": "Emo18", "wav2vec2-base": "wav2vec 2.0"}


@dataclasses.dataclass(frozen=True)
class Published:
    """What a paper says that an attack took.

    Attributes:
      paper: its table.
      seconds: at least and at most.
      unit: of what: "utterance" or "test set".
      hardware: "" where the paper names none.
    """

    paper: str
    seconds: tuple[float, float]
    unit: str
    hardware: str


@dataclasses.dataclass(frozen=True)
class Line:
    """An attack as a table has it.

    Attributes:
      name: of the line.
      attack: registry name.
      parameters: of the attack.
      epsilon: infinite where it looks for the smallest perturbation.
      published: what it took there, if that is said.
    """

    name: str
    attack: str
    parameters: Mapping[str, Any]
    epsilon: float
    published: Published | None = None

    def made(self, bounds: tuple[float, float] | None) -> Any:
        """The attack, within the bounds of a victim."""
        from jaxser.attacks.registry import attack_class

        made = attack_class(self.attack)(**self.parameters)
        return dataclasses.replace(made, bounds=bounds)


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One thing to measure.

    Attributes:
      victim: a model's name with options, as in ``benchmarks.compiled``; "" for the generator.
      kind: one of ``KINDS``.
      task: "forward", "gradient", "train" or the name of the line.
      batch: rows.
      line: of an attack.
    """

    victim: str
    kind: str
    task: str
    batch: int
    line: Line | None = None

    def __str__(self) -> str:
        return f"{self.victim or 'generator'} {self.task} @{self.batch}"


# The attack that all victims are compared by.
_PGD = {"waveform": 0.01, "spectrogram": 0.5, "image": 8 / 255}


@functools.lru_cache(maxsize=32)
def lines_of(model: str) -> tuple[Line, ...]:
    """PGD with 20 steps, then the attacks of the papers' tables that the model is a victim in."""
    kind = models.input_of(model)
    lines = [Line("PGD-20", "pgd", {"steps": 20}, _PGD[kind])]
    for name in _TABLES[kind]:
        table = yaml.safe_load((_CONFIGS / "tables" / f"{name}.yaml").read_text(encoding="utf-8"))
        known = {line.name for line in lines}
        lines += [line for line in _table_lines(table, model) if line.name not in known]
    return tuple(lines)


def _table_lines(table: Mapping[str, Any], model: str) -> Iterator[Line]:
    for each in table["attacks"]:
        name, attack = each["name"], each["attack"]
        # A generator is measured by itself.
        if attack == "staanet" or any(word in name for word in _TWICE):
            continue
        values: dict[str, Any] = {}
        if attack.endswith(".yaml"):
            text = (_CONFIGS.parent / attack).read_text(encoding="utf-8")
            values = yaml.safe_load(text)
            attack, values = values["name"], dict(values["parameters"])
        values |= each.get("parameters", {})
        # Of a grid the dearest: steps, cells, or the step of JSMA.
        values |= {key: max(of) for key, of in each.get("grid", {}).items()}
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        epsilon = float(each.get("epsilon", [float("inf")])[0])
        yield Line(name, attack, given, epsilon, _published(table, model, name))


def _published(table: Mapping[str, Any], model: str, name: str) -> Published | None:
    hardware = table.get("hardware", "")
    if name in table.get("published_seconds", {}):
        low, high = table["published_seconds"][name]
        return Published(table["title"], (low, high), "test set", hardware)
    if table.get("layout") == "transfer" and model in _THREATS:
        seconds = table["published"][_THREATS[model]][name]["seconds"]
        return Published(table["title"], (min(seconds), max(seconds)), "utterance", hardware)
    return None


def cells(
    victims: Sequence[str],
    batches: Sequence[int],
    kinds: Sequence[str] = KINDS,
    attacks: Sequence[str] | None = None,
) -> list[Cell]:
    """All of them, the most telling first: what time is left for is measured.

    Args:
      victims: as of ``Cell``.
      batches: sizes, by what they tell.
      kinds: of ``KINDS``.
      attacks: registry names; all by default.

    Raises:
      UsageError: no victim of that name.
    """
    found = []
    for victim in victims:
        name = victim.split("+")[0]
        if name not in models.names() or name == "waveunet":
            raise UsageError(f"{name!r} is no victim; the victims are {', '.join(VICTIMS)}.")
        lines = [line for line in lines_of(name) if attacks is None or line.attack in attacks]
        for batch in batches:
            tasks = [(kind, kind, None) for kind in ("forward", "gradient")]
            tasks += [("attack", line.name, line) for line in lines]  # type: ignore[misc]
            found += [Cell(victim, kind, task, batch, line) for kind, task, line in tasks]
    # A training step has no batch of one in any paper.
    found += [
        Cell("", "generator", task, batch)
        for batch in batches
        for task in ("forward", "train")
        if task == "forward" or batch > 1
    ]
    return sorted(
        (cell for cell in found if cell.kind in kinds),
        key=lambda cell: _turn(cell, list(victims), list(batches)),
    )


def _turn(cell: Cell, victims: list[str], batches: list[int]) -> tuple[int, int, int]:
    """When it is a cell's turn: PGD at all sizes but the last, the generator, every attack and pass
    at the first size, then the rest."""
    size = batches.index(cell.batch)
    victim = victims.index(cell.victim) if cell.victim else 0
    if cell.task == "PGD-20" and size < 3:
        return 0, size, victim
    if cell.kind == "generator" and size < 2:
        return 1, size, 0
    return 2 + size, victim, cell.kind == "attack"
