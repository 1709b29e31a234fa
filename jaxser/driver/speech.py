"""The utterances that a victim is attacked on, as attacks on the same ones share them."""

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxser.corpora import Prepared, Utterance
from jaxser.corpora.selection import spread_rows
from jaxser.driver.work import CleanPass
from jaxser.results.metrics import one_answer, told_apart
from jaxser.victims.victim import Victim

__all__ = ["Speech"]


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """A victim and the utterances that it is attacked on; attacks on the same ones share it.

    Attributes:
      victim: in the domain that is attacked.
      fingerprint: of its variables.
      scheme: how the corpus was split.
      prepared: the corpus.
      positions: of the utterances in the corpus' table.
      inputs: what attacks change: waveforms, or their features.
      places: of the utterances in ``inputs``.
      labels: class indices of the victim.
      clean: predictions before any attack.
    """

    victim: Victim
    fingerprint: str
    scheme: tuple[Any, ...]
    prepared: Prepared
    positions: np.ndarray
    inputs: Any
    places: np.ndarray
    labels: np.ndarray
    clean: CleanPass

    @functools.cached_property
    def utterances(self) -> list[Utterance]:
        return [self.prepared.corpus.utterances[i] for i in self.positions]

    @property
    def notes(self) -> list[str]:
        """Remarks on the victim and the corpus that results must carry."""
        return list(dict.fromkeys([*self.victim.notes, *self.prepared.corpus.notes]))

    def oddities(self) -> list[str]:
        """What the clean predictions say of all figures of these utterances."""
        notes, unknown = [], int((self.clean.prediction < 0).sum())
        if unknown:
            notes.append(
                f"{self.victim.name}'s logits of {unknown} of {len(self.labels)} clean inputs are "
                "not finite: these count as wrong before and after any attack"
            )
        answer = one_answer(self.labels.tolist(), self.clean.prediction.tolist())
        if answer is not None and answer >= 0:
            label = self.victim.labels[answer]
            notes.append(told_apart(self.victim.name, label, len(self.labels)))
        return notes

    def spread(self, limit: int | None) -> "Speech":
        """At most so many of the utterances, spread over all."""
        return self.take(spread_rows(len(self.positions), limit))

    def take(self, rows: np.ndarray) -> "Speech":
        """Some of the utterances, by their places among them."""
        return dataclasses.replace(
            self,
            positions=self.positions[rows],
            places=self.places[rows],
            labels=self.labels[rows],
            clean=self.clean.take(rows),
        )
