"""Victims of a paper's table, trained where they are missing.

    for cell in cells(table, config): results = trained(cell)

A run that is there and finished is read; one that was interrupted goes on.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxser.config import TrainConfig, parse_command
from jaxser.config.evaluate import EvaluateConfig
from jaxser.config.train import TRAIN_FLAGS
from jaxser.papers.trained import TrainedTable
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.files import read_json
from jaxser.runtime.signals import Stopped
from jaxser.training.folder import check_same_settings
from jaxser.training.run import train_victim

__all__ = ["Cell", "cells", "corpora_of", "trained"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of a table.

    Attributes:
      kind: of images.
      victim: name of a line.
      corpus: registry name.
      seed: of the run.
      config: that trains it.
    """

    kind: str
    victim: str
    corpus: str
    seed: int
    config: TrainConfig


def corpora_of(table: TrainedTable, texts: Sequence[str]) -> dict[str, Path]:
    """``NAME=FOLDER``: folder of each corpus of the table that there is.

    Raises:
      UsageError: none, or one that the table has not.
    """
    if not texts:
        raise UsageError(
            f"{table.title} trains victims; say where speech lies, --corpus {table.corpora[0]}"
            "=FOLDER."
        )
    found = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (equals and folder):
            raise UsageError(f"--corpus {text!r} is not of the form NAME=FOLDER.")
        if name not in table.corpora:
            raise UsageError(
                f"{table.title} has no corpus {name!r}; {nearest_name(name, table.corpora)}"
            )
        found[name] = Path(folder)
    return found


def cells(table: TrainedTable, config: EvaluateConfig) -> Iterator[Cell]:
    """The runs of a table that the command asks for, seeds last.

    Raises:
      UsageError: what is not known or impossible.
    """
    roots = corpora_of(table, config.corpus)
    victims = _chosen("--lines", config.lines, list(table.victims))
    kinds = _chosen("--kinds", config.kinds, table.kinds)
    if config.seeds is not None and config.seeds < 1:
        raise UsageError(f"--seeds must be 1 or more, not {config.seeds}.")
    seeds = table.seeds if config.seeds is None else range(config.seeds)
    for corpus, root in roots.items():
        for kind in kinds:
            for victim in victims:
                for seed in seeds:
                    yield _cell(table, config, kind, victim, corpus, root, seed)


def _chosen(flag: str, names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    for name in names or ():
        if name not in known:
            raise UsageError(f"{flag}: the table has no {name!r}; {nearest_name(name, known)}")
    return names or known


def _cell(
    table: TrainedTable,
    config: EvaluateConfig,
    kind: str,
    victim: str,
    corpus: str,
    root: Path,
    seed: int,
) -> Cell:
    path = table.config_of(victim, corpus)
    name = f"{path.stem}_{kind}" + (f"_seed{seed}" if seed else "")
    flags = {
        "out": str(config.runs / name),
        "corpus.root": str(root),
        "features.kind": kind,
        "seed": str(seed),
    }
    limits = [text for text in config.limit if text.isdigit()]
    if limits:
        flags["corpus.limit"] = limits[-1]
    argv = [str(path)]
    for text in [*(f"{key}={value}" for key, value in flags.items()), *config.set]:
        key, equals, value = text.partition("=")
        if not (equals and value):
            raise UsageError(f"--set {text!r} is not of the form KEY=VALUE.")
        argv += [f"--{key}", *value.split()]
    return Cell(
        kind,
        victim,
        corpus,
        seed,
        parse_command(TrainConfig, "python -m jaxser.train", "", argv, TRAIN_FLAGS),
    )


def trained(cell: Cell) -> dict[str, Any]:
    """Figures of a cell's run, as in its ``results.json``; it is trained where it is missing.

    Raises:
      UsageError: its folder holds a run with other settings.
      Stopped: a signal stopped the training; the same command goes on.
    """
    results = cell.config.out / "results.json"
    if results.is_file():
        check_same_settings(cell.config)
        found: dict[str, Any] = read_json(
            results, "delete it, and the same command makes it again."
        )
        return found
    outcome = train_victim(cell.config)
    if not outcome.finished:
        raise Stopped(outcome.signal)
    return outcome.results
