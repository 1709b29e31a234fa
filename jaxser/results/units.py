"""What a sample is made of: rows of utterances, and the units that are drawn.

units = Units.of(utterances, speakers, over="speaker")       # an entry per row
units = Units.of(chunks, sources=files)                      # rows of chunks that files were cut to
units.means(right)                                           # an entry per utterance, or chunk

An utterance that was cut into chunks (or windows) has rows of chunks: each of them counts as one,
as the mean of its rows, and all chunks of an utterance are drawn together.
"""

import dataclasses
from collections.abc import Sequence
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxser.config.ranges import IntervalOver
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["UNNAMED", "Over", "Units"]

Over = IntervalOver

# What corpora give as the speaker of utterances that nobody has named one for.
UNNAMED = (None, "", "unknown")


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """What a sample is made of: rows of utterances, and the unit that an utterance is drawn with.

    "Utterance" stands for the chunk where utterances were cut into chunks, but for ``over``.

    Attributes:
      utterance: of every row, counted from 0.
      source: of every utterance, counted from 0: itself, or the whole one that it is a chunk of.
      unit: of every utterance, counted from 0: its source, or its speaker.
      over: which of the two.
    """

    utterance: Int[np.ndarray, " rows"]
    source: Int[np.ndarray, " utterances"]
    unit: Int[np.ndarray, " utterances"]
    over: Over

    @classmethod
    def of(
        cls,
        utterances: Sequence[str] | np.ndarray,
        speakers: Sequence[str | None] | np.ndarray | None = None,
        over: Over = "utterance",
        *,
        sources: Sequence[str] | np.ndarray | None = None,
    ) -> "Units":
        """Units of rows.

        Args:
          utterances: names or codes, one per row, that tell utterances of all corpora apart.
          speakers: names, or codes that are negative for none, one per row. A whole utterance
            without a known speaker is a unit by itself. Needed over speakers alone.
          over: what is drawn.
          sources: names or codes of the whole utterances that the utterances are chunks of, one per
            row; without them no utterance is a chunk.

        Raises:
          UsageError: unknown ``over``.
        """
        if over not in get_args(Over):
            raise UsageError(
                f"intervals are not over {over!r}; {nearest_name(over, get_args(Over))}"
            )
        names, first, utterance = np.unique(
            np.asarray(utterances), return_index=True, return_inverse=True
        )
        source = np.arange(len(names))
        if sources is not None:
            source = np.unique(np.asarray(sources)[first], return_inverse=True)[1]
        unit = source
        if over == "speaker":
            if speakers is None:
                raise UsageError("intervals over speakers need the speaker of every row.")
            its = np.asarray(speakers)[first]
            if its.dtype.kind in "iu":
                known = its >= 0
            else:
                known = np.array([each not in UNNAMED for each in its.tolist()])
            _, codes = np.unique(its[known], return_inverse=True)
            # Behind the codes of all sources, so that no speaker shares one.
            unit = source.copy()
            unit[known] = len(names) + codes
            unit = np.unique(unit, return_inverse=True)[1]
        return cls(utterance, source, unit, over)

    def take(self, rows: Int[np.ndarray, " some"] | Bool[np.ndarray, " rows"]) -> "Units":
        """Units of some of the rows."""
        kept, utterance = np.unique(self.utterance[rows], return_inverse=True)
        source, unit = (
            np.unique(each[kept], return_inverse=True)[1] for each in (self.source, self.unit)
        )
        return Units(utterance, source, unit, self.over)

    def in_all(self, groups: Sequence[Int[np.ndarray, " _"]]) -> Bool[np.ndarray, " utterances"]:
        """Which utterances have a row in every one of some groups; none without a group.

        Args:
          groups: of each one the places of its rows.
        """
        found = np.full(len(self), bool(groups))
        for rows in groups:
            its = np.zeros(len(self), bool)
            its[self.utterance[rows]] = True
            found &= its
        return found

    def each_once(self) -> "Units":
        """Of one row per utterance."""
        return Units(np.arange(len(self)), self.source, self.unit, self.over)

    def __len__(self) -> int:
        """How many utterances, or chunks of them."""
        return len(self.unit)

    @property
    def sources(self) -> int:
        """How many whole utterances."""
        return int(self.source.max(initial=-1)) + 1

    @property
    def drawn_alone(self) -> bool:
        """Whether every utterance is a unit by itself."""
        return self.over == "utterance" and self.sources == len(self)

    def means(self, values: Shaped[np.ndarray, " rows"]) -> Float[np.ndarray, " utterances"]:
        """Of the rows of every utterance."""
        # Sums first: three thirds are one, and ten tenths are not.
        sums = np.bincount(self.utterance, weights=values, minlength=len(self))
        return np.asarray(sums / np.bincount(self.utterance, minlength=len(self)))

    def totals(
        self, values: Float[np.ndarray, "utterances figures"]
    ) -> Float[np.ndarray, "units figures"]:
        """Sums over the utterances of every unit."""
        if self.drawn_alone:
            return values
        # Figure by figure: a hundred times as fast as np.add.at of rows of figures.
        return np.stack([np.bincount(self.unit, weights=each) for each in values.T], axis=1)
