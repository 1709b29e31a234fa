"""Whether victims look at the same parts of an utterance before and after an attack: a table.

agreement = Agreement.of("levit runs/levit", "saliency", before, after, second, changed, units)
print(agreement_table([agreement], width=80))
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from jaxser.results.agreement import TOP, mean_agreement, rank_correlation, top_overlap
from jaxser.results.cells import Cells, number
from jaxser.results.estimate import Estimate
from jaxser.results.fitted import fitted
from jaxser.results.units import Units

__all__ = ["GROUPS", "MEASURES", "Agreement", "agreement_csv", "agreement_table", "rows_csv"]

# Of before and after, and what to hold it against. Two clean maps of an utterance, for its class
# and for the likeliest other one, say how much a map depends on the class at all; those of two
# utterances how much it is merely this victim's.
GROUPS = ("all", "prediction changed", "prediction kept", "another class", "another utterance")
MEASURES = {"rank": "rank correlation", "top": f"overlap of the top {TOP:.0%}"}
# Correlations may be negative, overlaps may not.
_LEAST = {"rank": -1.0, "top": 0.0}


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """Of one victim, by one kind of explanation.

    Attributes:
      victim: what tables call it.
      method: of the explanation.
      rows: by group that is none of the first three, or "all", and by measure: of every utterance.
      changed: whether the prediction changed.
      figures: by group and measure: the mean with its interval, and how many rows have none.
    """

    victim: str
    method: str
    rows: dict[str, dict[str, Float[np.ndarray, " rows"]]]
    changed: Bool[np.ndarray, " rows"]
    figures: dict[str, dict[str, tuple[Estimate, int]]]

    @classmethod
    def of(
        cls,
        victim: str,
        method: str,
        before: Float[np.ndarray, "rows ..."],
        after: Float[np.ndarray, "rows ..."],
        second_class: Float[np.ndarray, "rows ..."],
        changed: Bool[np.ndarray, " rows"],
        units: Units,
    ) -> "Agreement":
        """From maps of the same utterances; signs do not count, as magnitudes are compared.

        Args:
          victim, method: see above.
          before, after: maps.
          second_class: of the clean inputs, for the likeliest other class.
          changed: whether the prediction changed.
          units: of the rows, for the intervals.
        """
        first, second, next_class = (
            np.abs(each).reshape(len(each), -1) for each in (before, after, second_class)
        )
        pairs = {
            "all": second,
            "another class": next_class,
            "another utterance": _of_others(first, units),
        }
        measures = {"rank": rank_correlation, "top": top_overlap}
        rows = {
            group: {name: measure(first, other) for name, measure in measures.items()}
            for group, other in pairs.items()
        }
        parts = {"prediction changed": changed, "prediction kept": ~changed}
        figures = {}
        for group in GROUPS:
            chosen = parts.get(group, np.ones(len(changed), bool))
            values = rows["all" if group in parts else group]
            figures[group] = {
                name: mean_agreement(values[name][chosen], units.take(chosen), _LEAST[name])
                for name in measures
            }
        return cls(victim, method, rows, changed, figures)

    def count(self, group: str) -> int:
        """Rows of a group."""
        if group == "prediction changed":
            return int(self.changed.sum())
        return int((~self.changed).sum()) if group == "prediction kept" else len(self.changed)


def _of_others(
    maps: Float[np.ndarray, "rows cells"], units: Units
) -> Float[np.ndarray, "rows cells"]:
    """For each map one of another whole utterance; NaN where there is none.

    It is of half of the list away, or of the next after: the one beside a row may be of the same
    sentence, and another window may be of the same utterance.
    """
    source, count = units.source[units.utterance], len(maps)
    rows = np.arange(count)
    other = np.full(count, -1)
    for further in range(count):
        place = (rows - count // 2 - further) % count
        fits = (other < 0) & (source[place] != source)
        other[fits] = place[fits]
        if (other >= 0).all():
            break
    return np.where((other >= 0)[:, None], maps[other], np.nan)


def agreement_table(agreements: Sequence[Agreement], width: int | None = None) -> str:
    """A line for each victim, kind of explanation and group.

    Args:
      agreements: of any number of victims.
      width: of the terminal that the table is to fit.
    """
    cells = [["victim", "explanation", "compared", "rows", *MEASURES.values(), "undefined"]]
    for each in agreements:
        for group in GROUPS:
            found = [each.figures[group][name] for name in MEASURES]
            cells.append(
                [
                    *(each.victim, each.method, group, str(each.count(group))),
                    *(_interval(estimate) for estimate, _ in found),
                    str(found[0][1]),
                ]
            )
    return fitted(cells, width, kept=tuple(MEASURES.values()), left=3)


def agreement_csv(agreements: Sequence[Agreement]) -> Cells:
    """The same for spreadsheets, with the ends of the intervals in columns of their own."""
    ends = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    cells = [["victim", "explanation", "compared", "rows", "undefined", *ends]]
    for each in agreements:
        for group in GROUPS:
            found = [each.figures[group][name] for name in MEASURES]
            values = [v for e, _ in found for v in (e.value, e.low, e.high)]
            cells.append(
                [
                    *(each.victim, each.method, group, str(each.count(group)), str(found[0][1])),
                    *(number(value, ".4f", "") for value in values),
                ]
            )
    return cells


def rows_csv(agreements: Sequence[Agreement], ids: Sequence[str]) -> Cells:
    """A line for each utterance of one victim and kind of explanation."""
    kinds = {"": "all", "class_": "another class", "utterance_": "another utterance"}
    names = [f"{prefix}{name}" for prefix in kinds for name in MEASURES]
    cells = [["victim", "explanation", "utterance", "changed", *names]]
    for each in agreements:
        for i, utterance in enumerate(ids):
            values = [each.rows[group][name][i] for group in kinds.values() for name in MEASURES]
            cells.append(
                [
                    *(each.victim, each.method, utterance, str(bool(each.changed[i])).lower()),
                    *(number(value, ".4f", "") for value in values),
                ]
            )
    return cells


def _interval(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
