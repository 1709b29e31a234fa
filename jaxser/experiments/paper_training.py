"""Victims of a paper's table, trained where they are missing.

    for cell in cells(table, config): results = trained(cell.config)

A run that is there and finished is read; one that was interrupted goes on.
"""

import dataclasses
import types
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxser.config import TrainConfig, parse_command
from jaxser.config.command_line import as_flag
from jaxser.config.evaluate import EvaluateConfig
from jaxser.config.train import TRAIN_FLAGS
from jaxser.corpora import load
from jaxser.papers.defence import DefenceTable
from jaxser.papers.models import ModelTable
from jaxser.papers.trained import TrainedTable
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.files import read_json
from jaxser.runtime.signals import Stopped
from jaxser.training.defence import check_defence
from jaxser.training.folder import begun, check_same_settings
from jaxser.training.run import train_victim

__all__ = [
    "Cell",
    "cells",
    "check_runs",
    "chosen",
    "config_of",
    "configured",
    "corpora_of",
    "limit_of",
    "seeds_of",
    "trained",
    "trained_all",
    "training_config",
]

# What tells the cells of a table apart.
Key = TypeVar("Key", bound=Hashable)


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


def corpora_of(
    table: TrainedTable | DefenceTable | ModelTable,
    texts: Sequence[str],
) -> dict[str, Path]:
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
    victims = chosen("--lines", config.lines, list(table.victims))
    kinds = chosen("--kinds", config.kinds, table.kinds)
    seeds = seeds_of(table, config.seeds)
    limit = limit_of(config.limit)
    for corpus, root in roots.items():
        for kind in kinds:
            for victim in victims:
                for seed in seeds:
                    path = config_of(table.victims[victim], corpus)
                    flags = {} if limit is None else {"corpus.limit": str(limit)}
                    run = training_config(path, config, kind, root, seed, flags)
                    yield Cell(kind, victim, corpus, seed, run)


def seeds_of(table: TrainedTable | ModelTable, count: int | None) -> Sequence[int]:
    """The first so many seeds, or the table's own; UsageError for less than one."""
    if count is None:
        return table.seeds
    if count < 1:
        raise UsageError(f"--seeds must be 1 or more, not {count}.")
    return range(count)


def limit_of(texts: Sequence[str]) -> int | None:
    """``--limit N`` of a table that trains; UsageError for anything but one number."""
    if not texts:
        return None
    if len(texts) > 1 or not texts[0].isdigit() or int(texts[0]) < 1:
        raise UsageError(
            f"--limit {' '.join(texts)} must be one number of 1 or more where a table trains its "
            "victims, such as 64."
        )
    return int(texts[0])


def config_of(pattern: str, corpus: str) -> Path:
    """File that trains a victim on a corpus, whose name stands in the place of ``{corpus}``."""
    return Path(pattern.replace("{corpus}", corpus))


def chosen(flag: str, names: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """What a flag names of a table, or all of it; UsageError for what it has not."""
    for name in names or ():
        if name not in known:
            raise UsageError(f"{flag}: the table has no {name!r}; {nearest_name(name, known)}")
    return list(dict.fromkeys(names)) if names else known


def training_config(
    path: Path,
    config: EvaluateConfig,
    kind: str,
    root: Path,
    seed: int,
    flags: Mapping[str, str] = types.MappingProxyType({}),
    suffix: str = "",
) -> TrainConfig:
    """The run that a config file describes, in a folder of the command's.

    Args:
      path: of the file.
      config: of the command.
      kind: of images.
      root: folder of the corpus.
      seed: of the run.
      flags: dotted names and values that take the place of what the file says.
      suffix: of the folder's name.

    Raises:
      UsageError: what is not known or impossible.
    """
    name = f"{path.stem}_{kind}" + (f"_seed{seed}" if seed else "") + suffix
    flags = {
        "out": str(config.runs / name),
        "corpus.root": str(root),
        "features.kind": kind,
        "seed": str(seed),
        **flags,
    }
    return configured(path, flags, config.set)


# What --set may not say of a run, and the flag that does; the other fixed flags tell runs apart.
_SAID_BY = {
    "out": "--runs",
    "seed": "--seeds or --seed",
    "corpus.name": "--corpus",
    "corpus.root": "--corpus",
    "corpus.limit": "--limit",
    "corpus.split_seed": "--seeds",
    "features.kind": "--kinds or the table",
}


def configured(
    path: Path,
    fixed: Mapping[str, str],
    changes: Sequence[str],
    settings: Mapping[str, str] = types.MappingProxyType({}),
) -> TrainConfig:
    """What a config file describes, with flags and ``KEY=VALUE`` each of ``--set``.

    Args:
      path: of the file.
      fixed: dotted names and values that ``--set`` may not change.
      changes: of the command.
      settings: dotted names and values that it may.

    Raises:
      UsageError: what is not known or impossible.
    """
    argv = [str(path)]
    for key, value in {**settings, **fixed}.items():
        argv += as_flag(TrainConfig, key, value)
    for text in changes:
        key, equals, value = text.partition("=")
        if not (equals and value):
            raise UsageError(f"--set {text!r} is not of the form KEY=VALUE.")
        if key in fixed or key == "corpus.name":
            said = f"{_SAID_BY[key]} says" if key in _SAID_BY else "the runs of the table differ in"
            raise UsageError(f"--set {text!r}: {said} that; leave it out of --set.")
        argv += as_flag(TrainConfig, key, value)
    return parse_command(TrainConfig, "python -m jaxser.train", "", argv, TRAIN_FLAGS)


def check_runs(configs: Sequence[TrainConfig]) -> None:
    """Refuse, before the first of some runs is trained, what would stop a later one.

    Raises:
      UsageError: two are of one folder, one is of an attack that cannot be trained against, or a
        folder holds a run with other settings.
      InputError: the speech of a run that is not finished is not where it is said to be.
    """
    places: dict[Path, TrainConfig] = {}
    to_hear: dict[tuple[str, Path | None, tuple[str, ...]], None] = {}
    for config in configs:
        if config.out in places:
            raise UsageError(
                f"two runs would share the folder {config.out}; give the lines of the table names "
                "that differ in more than case and signs."
            )
        places[config.out] = config
        check_defence(config)
        if begun(config.out):
            check_same_settings(config, "--runs")
        if not _results(config).is_file():
            to_hear[config.corpus.name, config.corpus.root, config.corpus.labels] = None
    for name, root, labels in to_hear:
        if root is not None:
            load(name, root, labels=labels or None)


def trained(config: TrainConfig) -> dict[str, Any]:
    """Figures of a run, as in its ``results.json``; it is trained where it is missing.

    Raises:
      UsageError: its folder holds a run with other settings.
      Stopped: a signal stopped the training; the same command goes on.
    """
    results = _results(config)
    if results.is_file():
        check_same_settings(config, "--runs")
        found: dict[str, Any] = read_json(
            results, "delete it, and the same command makes it again."
        )
        return found
    outcome = train_victim(config)
    if not outcome.finished:
        raise Stopped(outcome.signal)
    return outcome.results


def _results(config: TrainConfig) -> Path:
    """What a run that is finished has."""
    return config.out / "results.json"


def trained_all(
    planned: Sequence[tuple[Key, str, TrainConfig]], say: Callable[[str], object]
) -> tuple[dict[Key, list[dict[str, Any]]], list[str]]:
    """Figures of all runs of a table, of each cell in turn, and their notes, each once and with
    the corpus that it is of where there are several.

    Args:
      planned: the cell that a run is of, what it is called, and what trains it.
      say: is given a line before each run.

    Raises:
      UsageError: see :func:`check_runs`.
      Stopped: a signal stopped a training; the same command goes on.
    """
    check_runs([config for *_, config in planned])
    made: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    notes: dict[str, None] = {}
    several = len({config.corpus.name for *_, config in planned}) > 1
    for cell, name, config in planned:
        say(f"{config.out}: {name}")
        found = trained(config)
        made[cell].append(found)
        of = f"{config.corpus.name}: " if several else ""
        notes |= dict.fromkeys(f"{of}{note}" for note in found["notes"])
    return made, list(notes)
