"""The rows that a report is made from, column by column.

rows = load([Path("runs/sweep")])
rows.settings              # a victim, a threat, an attack and an ε each, with its figures
rows.distinct("victim")
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.reporting.grouping import grouped
from jaxser.reporting.settings import TARGET, Setting, settings_of
from jaxser.results.schema import epsilon_names
from jaxser.results.training_facts import TrainingFacts
from jaxser.results.units import UNNAMED, Over, Units

__all__ = ["Rows", "split_by"]


# Compared by identity, as all that holds arrays here is: == of arrays is an array.
@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Columns of rows, each row once.

    Attributes:
      texts: code of every row, by column; -1 for null. Beside those of the row schema "goal":
        "truth", "prediction", or the label to reach as "→ anger".
      names: what the codes stand for.
      numbers: by column.
      repeated: rows that were left out, since the same row was there already.
      notes: remarks that results must carry, each once.
      flags: rows per flag.
      synthetic: whether any speech was made from code.
      sources: what made the rows, as :func:`jaxser.results.reading.read_sources` has it.
      interval_over: what all intervals of the report are over.
      victims: what is known of the training of each, by name.
    """

    texts: Mapping[str, Int[np.ndarray, " rows"]]
    names: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, Float[np.ndarray, " rows"]]
    repeated: int
    notes: tuple[str, ...]
    flags: Mapping[str, int]
    synthetic: bool
    sources: Sequence[Mapping[str, Any]]
    interval_over: Over = "utterance"
    victims: Mapping[str, TrainingFacts] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers["epsilon"])

    def units(self, where: Int[np.ndarray, " some"]) -> Units:
        """What intervals of some rows are made of: their utterances, or the speakers."""
        return Units.of(
            self._within_corpus("utterance")[where],
            self._within_corpus("speaker")[where],
            self.interval_over,
            sources=self._within_corpus("source")[where],
        )

    def right(
        self, where: Int[np.ndarray, " some"]
    ) -> tuple[Bool[np.ndarray, " some"], Bool[np.ndarray, " some"], Bool[np.ndarray, " some"]]:
        """Of some rows which are right before the attack, which after it, and which changed."""
        label, clean, found = (
            self.words(column, where) for column in ("label", "clean_prediction", "prediction")
        )
        return clean == label, found == label, found != clean

    def _within_corpus(self, column: str) -> Int[np.ndarray, " rows"]:
        """A code for every name in a corpus; -1 where nobody has one."""
        if column not in self._codes:
            names = self.names[column]
            pair = self.texts["corpus"].astype(np.int64) * (len(names) + 1) + self.texts[column]
            if column == "speaker":
                nobody = [code for code, name in enumerate(names) if name in UNNAMED]
                pair[np.isin(self.texts[column], [-1, *nobody])] = -1
            self._codes[column] = pair
        return self._codes[column]

    @functools.cached_property
    def _codes(self) -> dict[str, Int[np.ndarray, " rows"]]:
        return {}

    def words(self, column: str, where: Int[np.ndarray, " some"]) -> np.ndarray:
        """What a column of text says in some rows; None for null."""
        return np.array([*self.names[column], None], object)[self.texts[column][where]]

    @functools.cached_property
    def attacks(self) -> list[tuple[str, str]]:
        """Name and hyper-parameters of every attack."""
        size = len(self.names["parameters"])
        # Both codes as one number: unique of integers, and of no pairs.
        pairs = np.unique(self.texts["attack"].astype(np.int64) * size + self.texts["parameters"])
        return [
            (self.names["attack"][pair // size], self.names["parameters"][pair % size])
            for pair in pairs.tolist()
        ]

    @functools.cached_property
    def labels(self) -> dict[tuple[str, str], str]:
        """What tables call an attack: its name, and what sets it apart from others of that name.

        Bounds are the victim's and left out, unless a victim was attacked within several.
        """
        found = {}
        for name, attacks in grouped(self.attacks, lambda attack: attack[0]).items():
            texts = [parameters for _, parameters in attacks]
            values = [json.loads(text) for text in texts]
            if not self._bounds_differ(name):
                values = [{k: v for k, v in each.items() if k != "bounds"} for each in values]
            keys = _telling_keys(values)
            for text, value in zip(texts, values, strict=True):
                found[name, text] = " ".join([name, *(f"{key} {value.get(key)}" for key in keys)])
        return found

    def _bounds_differ(self, name: str) -> bool:
        """Whether one victim has attacks of a name that differ in their bounds alone."""
        # Of one victim: victims with bounds of their own give one attack as many hyper-parameters.
        size = len(self.names["parameters"])
        own = self.texts["attack"] == self.names["attack"].index(name)
        pairs = np.unique(
            self.texts["threat"][own].astype(np.int64) * size + self.texts["parameters"][own]
        )
        found = []
        for pair in pairs.tolist():
            values = json.loads(self.names["parameters"][pair % size])
            values.pop("bounds", None)
            found.append((pair // size, json.dumps(values, sort_keys=True)))
        return len(set(found)) < len(found)

    @functools.cached_property
    def epsilons(self) -> dict[float, str]:
        """Every ε, and how tables write it."""
        return epsilon_names(np.unique(self.numbers["epsilon"]).tolist())

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """Every setting; ε from weak to strong."""
        return settings_of(self)

    def label(self, name: str, parameters: str, goal: str, output: str) -> str:
        """What tables call an attack with a goal, which is left out where all have the same, on
        what the victim gave it, which is left out where that is logits."""
        base = self.labels[name, parameters]
        if goal.startswith(TARGET):
            base = f"{base} {goal}"
        elif self._several_goals:
            base = f"{base} from {goal}"
        return base if output == "logits" else f"{base}, given {output}"

    @functools.cached_property
    def _several_goals(self) -> bool:
        """Whether some attacks leave the truth, and others the victim's prediction."""
        return sum(not each.startswith(TARGET) for each in self.distinct("goal")) > 1

    def distinct(self, column: str) -> tuple[str, ...]:
        """Names that occur, in the order of their first row."""
        codes, first = np.unique(self.texts[column], return_index=True)
        ordered = codes[np.argsort(first)]
        return tuple(self.names[column][code] for code in ordered if code >= 0)


def _telling_keys(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few hyper-parameters as tell apart what differs at all, the first where any would do."""
    texts = [{key: json.dumps(value) for key, value in each.items()} for each in values]
    keys = list(dict.fromkeys(key for each in texts for key in each))

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(each.get(key) for key in chosen) for each in texts})

    chosen = [key for key in keys if kinds([key]) > 1]
    for key in reversed(chosen):
        rest = [each for each in chosen if each != key]
        if kinds(rest) == kinds(chosen):
            chosen = rest
    return chosen


def split_by(
    rows: Rows, column: str, where: Int[np.ndarray, " rows"], most: int | None = None
) -> Iterator[tuple[str, Int[np.ndarray, " part"]]]:
    """Name and rows of every value of a column, or of the ``most`` values that have most rows."""
    # Sorted once, whatever the number of speakers: the rows of a name are then a slice.
    codes = rows.texts[column][where]
    counts = np.bincount(codes[codes >= 0], minlength=len(rows.names[column]))
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(counts)), side="right")
    chosen = np.argsort(-counts, kind="stable")[:most]
    for code in sorted(chosen[counts[chosen] > 0].tolist(), key=lambda i: rows.names[column][i]):
        yield rows.names[column][code], where[order[ends[code] - counts[code] : ends[code]]]
