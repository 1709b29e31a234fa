"""What attacks did to a victim, utterance by utterance, and the figures made of it.

    line = Line("BIM", "epsilon 0.25", outcomes_of(rows), ...)
    line.accuracy("female"); best_lines(lines); accuracy_at_snr(lines, 20.0)
    for group in same_utterances(lines): ...        # one set of rows per table

The damage of an attack is paired: of the same utterance before and after.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from jaxser.config import TrainConfig, to_mapping
from jaxser.corpora import Corpus, Utterance
from jaxser.driver.speech import Speech
from jaxser.papers.table import Table
from jaxser.reporting.grouping import grouped
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share
from jaxser.results.metrics import METRICS, confusion_matrix
from jaxser.results.units import Over, Units

__all__ = [
    "GROUPS",
    "Clean",
    "Evaluation",
    "Line",
    "Outcomes",
    "accuracy_at_snr",
    "best_lines",
    "outcomes_of",
    "same_utterances",
]

GROUPS = ("all", "female", "male")

# What is a run's own: section ("" for none) and field of its config.
_OF_A_RUN = (
    *(("", "out"), ("", "seed"), ("", "interval_over")),
    *(("corpus", "split_seed"), ("corpus", "root"), ("corpus", "cache_dir")),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """One setting of one attack; arrays have an entry per utterance, in the order of their ids.

    Attributes:
      utterances: ids.
      sources: ids of the whole utterances: of chunks what they were cut from.
      speakers, genders: of the utterances.
      before, after: whether the victim was right, and is after the attack.
      mean_abs: mean absolute change.
      snr: power signal-to-noise ratio in dB; NaN where nothing was changed.
    """

    utterances: np.ndarray
    sources: np.ndarray
    speakers: np.ndarray
    genders: np.ndarray
    before: Bool[np.ndarray, " utterances"]
    after: Bool[np.ndarray, " utterances"]
    mean_abs: Float[np.ndarray, " utterances"]
    snr: Float[np.ndarray, " utterances"]

    def only(self, group: str) -> "Outcomes":
        """Those of "all", "female" or "male" speakers."""
        if group == "all":
            return self
        mask = self.genders == group
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Outcomes(**{name: array[mask] for name, array in arrays.items()})

    def units(self, over: Over) -> Units:
        """What intervals are made of."""
        return Units.of(self.utterances, self.speakers, over, sources=self.sources)

    @property
    def damage(self) -> Float[np.ndarray, " utterances"]:
        """Accuracy lost: 1, 0, or -1 where the attack made the victim right."""
        return self.before.astype(float) - self.after.astype(float)


def outcomes_of(rows: pa.Table) -> Outcomes:
    """From the rows of one attack at one ε."""
    columns = {
        name: np.array(rows[name].to_pylist())
        for name in (
            *("utterance", "source", "speaker", "gender"),
            *("label", "clean_prediction", "prediction"),
        )
    }
    # Settings are compared entry by entry, in whatever order their rows came.
    order = np.argsort(columns["utterance"])
    columns = {name: values[order] for name, values in columns.items()}
    return Outcomes(
        utterances=columns["utterance"],
        sources=columns["source"],
        speakers=columns["speaker"],
        genders=columns["gender"],
        before=columns["clean_prediction"] == columns["label"],
        after=columns["prediction"] == columns["label"],
        mean_abs=rows["mean_abs"].to_numpy()[order],
        snr=rows["snr_power"].to_numpy()[order],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """One setting of one attack on one victim.

    Attributes:
      attack: title.
      setting: of the grid, and ε.
      outcomes: what it did.
      seconds: steady state, all rows.
      compile_seconds: before that.
      examples: utterances that the victim knows, one of each gender, and the files of their
        attacked versions.
    """

    attack: str
    setting: str
    outcomes: Outcomes
    seconds: float
    compile_seconds: float
    examples: tuple[tuple[Utterance, Path], ...]

    def accuracy(self, group: str = "all") -> float:
        """After the attack; NaN without such utterances."""
        return _mean(self.outcomes.only(group).after)

    def mean_abs(self, group: str = "all") -> float:
        """Mean absolute change."""
        return _mean(self.outcomes.only(group).mean_abs)

    def estimate(self, over: Over) -> Estimate:
        """The accuracy of all, with its interval."""
        return share(self.outcomes.after, self.outcomes.units(over))


@dataclasses.dataclass(frozen=True, eq=False)
class Clean:
    """Predictions on a whole part of the corpus, before any attack; class indices."""

    truth: np.ndarray
    predicted: np.ndarray
    speakers: np.ndarray
    sources: np.ndarray
    genders: np.ndarray
    num_classes: int

    @property
    def right(self) -> Bool[np.ndarray, " utterances"]:
        return self.truth == self.predicted

    def figures(self, group: str = "all") -> dict[str, float]:
        """Every metric of "all", "female" or "male" utterances; NaN without such."""
        mask = np.ones(len(self.truth), bool) if group == "all" else self.genders == group
        # A prediction that is missing is always wrong, and no class.
        predicted = np.where(self.predicted < 0, self.num_classes, self.predicted)
        matrix = confusion_matrix(self.truth[mask], predicted[mask], self.num_classes + 1)[:-1]
        return {name: float(metric(matrix)) for name, metric in METRICS.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One victim under one table.

    Attributes:
      victim: run folder.
      trained: its config.
      table: the table.
      speech: the victim and all utterances of the part.
      lines: every setting.
      interval_over: what intervals are over.
    """

    victim: Path
    trained: TrainConfig
    table: Table
    speech: Speech
    lines: tuple[Line, ...]
    interval_over: Over = "utterance"

    @property
    def corpus(self) -> Corpus:
        return self.speech.prepared.corpus

    @property
    def protocol(self) -> str:
        """How features and parts were made: "clean" or "paper"."""
        return self.trained.corpus.protocol

    @property
    def title(self) -> str:
        """What tells it from others in tables and pictures."""
        return f"{self.corpus.name}, {self.protocol}, {self.victim.name}"

    @property
    def kind(self) -> str:
        """What victims have in common that differ in their seed alone: all that was asked for but
        seeds, the folder, and where speech lies."""
        values = to_mapping(self.trained)
        for section, name in _OF_A_RUN:
            (values[section] if section else values).pop(name)
        return json.dumps(values, sort_keys=True, default=str)

    @functools.cached_property
    def clean(self) -> Clean:
        """Before any attack, on the whole part."""
        utterances = self.speech.utterances
        return Clean(
            truth=self.speech.labels,
            predicted=self.speech.clean.prediction,
            speakers=np.array([each.speaker for each in utterances]),
            sources=np.array([each.whole for each in utterances]),
            genders=np.array([each.gender for each in utterances]),
            num_classes=len(self.speech.victim.labels),
        )

    @functools.cached_property
    def best(self) -> list[Line]:
        """The strongest setting of each attack."""
        return best_lines(self.lines)


def best_lines(lines: Iterable[Line]) -> list[Line]:
    """Of each attack the line with the least accuracy; of equals, the smallest change."""
    attacks = grouped(lines, lambda line: line.attack).values()
    return [min(its, key=lambda line: (line.accuracy(), line.mean_abs())) for its in attacks]


def same_utterances(lines: Iterable[Line]) -> list[list[Line]]:
    """Lines of the same utterances together, those of most first.

    Attacks that are limited to fewer utterances than others must not stand beside them, nor below
    the accuracy of utterances that they were not run on.
    """
    groups = grouped(lines, lambda line: tuple(line.outcomes.utterances)).values()
    return sorted(groups, key=lambda group: -len(group[0].outcomes.utterances))


def accuracy_at_snr(lines: Sequence[Line], snr: float) -> float:
    """Accuracy against the best of some settings for each utterance, at ``snr`` dB or more.

    Args:
      lines: settings of one attack, on the same utterances.
      snr: least power signal-to-noise ratio; quieter perturbations count too.
    """
    standing = lines[0].outcomes.before.copy()
    for line in lines:
        outcomes = line.outcomes
        # Unchanged inputs have no ratio, and nothing that a comparison would be true of.
        standing &= outcomes.after | ~(outcomes.snr >= snr)
    return _mean(standing)


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
