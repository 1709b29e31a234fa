"""What a sample is made of: rows of utterances, and the units that are drawn.

units = Units.of(utterances, speakers, over="speaker")       # an entry per row
units.means(right)                                           # an entry per utterance
"""

import dataclasses
from collections.abc import Sequence
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.config.ranges import IntervalOver
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["UNNAMED", "Over", "Units"]

Over = IntervalOver

# What corpora give as the speaker of utterances that nobody has named one for.
UNNAMED = (None, "", "unknown")


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """What a sample is made of: rows of utterances, and the unit that an utterance is drawn with.

    Attributes:
      utterance: of every row, counted from 0.
      unit: of every utterance, counted from 0: itself, or its speaker.
      over: which of the two.
    """

    utterance: Int[np.ndarray, " rows"]
    unit: Int[np.ndarray, " utterances"]
    over: Over

    @classmethod
    def of(
        cls,
        utterances: Sequence[str] | np.ndarray,
        speakers: Sequence[str | None] | np.ndarray | None = None,
        over: Over = "utterance",
    ) -> "Units":
        """Units of rows.

        Args:
          utterances: names or codes, one per row, that tell utterances of all corpora apart.
          speakers: names, or codes that are negative for none, one per row. An utterance without a
            known speaker is a unit by itself. Needed over speakers alone.
          over: what is drawn.

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
        unit = np.arange(len(names))
        if over == "speaker":
            if speakers is None:
                raise UsageError("intervals over speakers need the speaker of every row.")
            its = np.asarray(speakers)[first]
            if its.dtype.kind in "iu":
                known = its >= 0
            else:
                known = np.array([each not in UNNAMED for each in its.tolist()])
            _, codes = np.unique(its[known], return_inverse=True)
            # Behind the codes of all utterances, so that no speaker shares one.
            unit[known] = len(names) + codes
            unit = np.unique(unit, return_inverse=True)[1]
        return cls(utterance, unit, over)

    def take(self, rows: Int[np.ndarray, " some"] | Bool[np.ndarray, " rows"]) -> "Units":
        """Units of some of the rows."""
        kept, utterance = np.unique(self.utterance[rows], return_inverse=True)
        unit = np.unique(self.unit[kept], return_inverse=True)[1]
        return Units(utterance, unit, self.over)

    def __len__(self) -> int:
        """How many utterances."""
        return len(self.unit)

    def means(
        self, values: Float[np.ndarray, " rows"] | Bool[np.ndarray, " rows"]
    ) -> Float[np.ndarray, " utterances"]:
        """Of the rows of every utterance."""
        # Sums first: three thirds are one, and ten tenths are not.
        sums = np.bincount(self.utterance, weights=values, minlength=len(self))
        return np.asarray(sums / np.bincount(self.utterance, minlength=len(self)))

    def totals(
        self, values: Float[np.ndarray, "utterances figures"]
    ) -> Float[np.ndarray, "units figures"]:
        """Sums over the utterances of every unit."""
        if self.over == "utterance":
            return values
        found = np.zeros((self.unit.max(initial=-1) + 1, values.shape[1]))
        np.add.at(found, self.unit, values)
        return found
