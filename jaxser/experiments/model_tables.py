"""Tables of models beside each other, trained where they are missing, as text.

print(make_model_table(Path("configs/tables/systematic_table2.yaml"), config, say=print))
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxser.config import TrainConfig
from jaxser.config.evaluate import EvaluateConfig
from jaxser.experiments.paper_training import (
    chosen,
    config_of,
    configured,
    corpora_of,
    limit_of,
    seeds_of,
    trained_all,
)
from jaxser.experiments.shown_table import shown_table
from jaxser.papers.models import ModelTable, load_model_table
from jaxser.reporting.paper_tables.models import best_models, model_cells
from jaxser.results.intervals import policy
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["make_model_table", "model_runs"]


@dataclasses.dataclass(frozen=True)
class ModelRun:
    """A run of a table: the line and the corpus that it is of, its seed, and what trains it."""

    model: str
    corpus: str
    seed: int
    config: TrainConfig


def make_model_table(path: Path, config: EvaluateConfig, say: Callable[[str], object]) -> str:
    """Train what is missing of a table, and show it beside the paper's; with --out in files, too.

    Args:
      path: of the table file.
      config: of the command.
      say: is given a line before each run.

    Raises:
      UsageError, InputError: see the message.
      Stopped: a signal stopped the training; the same command goes on.
    """
    table = load_model_table(path)
    planned = [
        ((run.model, run.corpus), f"{run.model}, {run.corpus}, seed {run.seed}", run.config)
        for run in model_runs(table, path.stem, config)
    ]
    made, notes = trained_all(planned, say)
    cells = model_cells(table, made, config.interval_over)
    told = [*best_models(table, made), *([table.remark] if table.remark else [])]
    told += [*(f"note: {note}" for note in notes), policy(config.interval_over)]
    return shown_table(path.stem, table.title, cells, told, config.out)


def model_runs(table: ModelTable, name: str, config: EvaluateConfig) -> Iterator[ModelRun]:
    """The runs of a table that the command asks for, seeds last.

    Args:
      table: of models.
      name: of its file, which run folders begin with.
      config: of the command.

    Raises:
      UsageError: what is not known or impossible.
    """
    roots = corpora_of(table, config.corpus)
    models = chosen("--lines", config.lines, list(table.models))
    seeds = seeds_of(table, config.seeds)
    limit = limit_of(config.limit)
    changes, settings = _changes(table, config.set), _as_flags(table.settings)
    for corpus, root in roots.items():
        for model in models:
            own = dict(table.models[model])
            path = config_of(str(own.pop("config", table.config)), corpus)
            for seed in seeds:
                flags = {
                    "out": str(config.runs / f"{name}_{_folder_name(model)}_{corpus}_{seed}"),
                    "corpus.root": str(root),
                    "seed": str(seed),
                    "corpus.split_seed": str(seed),
                    **({} if limit is None else {"corpus.limit": str(limit)}),
                    **_as_flags(own),
                }
                run = configured(path, flags, [*changes[""], *changes[model]], settings)
                if model in table.pretrained and run.model.checkpoint is None:
                    raise UsageError(
                        f"{model} goes on from a checkpoint: give --set '{model}:model.checkpoint="
                        "FOLDER', or the other lines alone with --lines."
                    )
                yield ModelRun(model, corpus, seed, run)


def _changes(table: ModelTable, texts: Sequence[str]) -> dict[str, list[str]]:
    """``[LINE:]KEY=VALUE``: changes by line, and under "" those of all."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        key, equals, value = text.partition("=")
        line, colon, key = key.rpartition(":")
        if colon and line not in table.models:
            raise UsageError(
                f"--set {text!r}: the table has no {line!r}; {nearest_name(line, table.models)}"
            )
        found[line].append(f"{key}{equals}{value}")
    return found


def _folder_name(model: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in model.lower())


def _as_flags(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _as_flag(value) for key, value in values.items()}


def _as_flag(value: Any) -> str:
    """A value of a table file as a flag takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
