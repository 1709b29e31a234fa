"""Undefended and defended models (Echim et al., Table 2)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxser.papers.defence import DefenceTable
from jaxser.reporting.grouping import grouped
from jaxser.reporting.paper_tables.matching import candidates_of, of_entry
from jaxser.reporting.paper_tables.paper import GROUP, Paper, lacking, published_section
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, by
from jaxser.results.cells import interval, number, percent
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import policy, share, taken
from jaxser.results.units import Units

__all__ = ["by_model", "defence_sections", "hardened"]

_NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


def defence_sections(rows: Rows, paper: Paper, table: DefenceTable) -> Iterator[Section]:
    """A line per model and attack, or per model, defence and ε; and the paper's."""
    own = [s for s in candidates_of(rows, table.domain, table.y) if not s.transferred]
    cells = [["corpus", *table.header]]
    for (corpus, model), group in by_model(own).items():
        make = _over_epsilon if table.layout == "epsilon" else _beside_undefended
        cells += [[corpus, model, *line] for line in make(rows, paper, table, group)]
    yield Section(
        table.title,
        paper.name,
        cells if len(cells) > 1 else [],
        "Train and test: all utterances of both parts that were attacked, each of which counts as "
        "one; the paper calls it average. Accuracy taken: the share of the accuracy that an attack "
        "takes, which the paper calls success; below 0 where more is right after it (bootstrap). "
        f"{policy(rows.interval_over)}."
        if len(cells) > 1
        else lacking(table.y, table.domain),
        group=GROUP,
    )
    if table.published:
        printed = [
            list(map(_figure, table.header, line)) for line in [*table.published, *table.readings]
        ]
        text = " ".join(table.remarks)
        yield published_section(paper, table.title, table.corpus, [table.header, *printed], text)


def by_model(own: Sequence[Setting]) -> dict[tuple[str, str], list[Setting]]:
    """By corpus and architecture, which victims' names begin with."""
    return grouped(
        own,
        lambda setting: (setting.facts["corpus"], setting.facts["victim"].partition(" ")[0]),
    )


def _beside_undefended(
    rows: Rows, paper: Paper, table: DefenceTable, group: Sequence[Setting]
) -> Iterator[list[str]]:
    undefended = [s for s in group if not hardened(s, paper.runs)]
    if undefended:
        # As the paper's line: what there is to take, of every attack the same.
        clean = _Outcome.of(rows, undefended)
        shares = [clean.accuracy(0, "test"), clean.accuracy(0)]
        yield ["none", *map(interval, [*shares, *[_NOTHING] * 8])]
    for entry in table.lines:
        found = of_entry(paper, entry, group)
        plain = _Outcome.of(rows, [s for s in found if not hardened(s, paper.runs)])
        hard = _Outcome.of(rows, [s for s in found if hardened(s, paper.runs, entry.title)])
        if not (plain.parts or hard.parts):
            continue
        before = [hard.accuracy(0, "test"), hard.accuracy(0)]
        shares = [*plain.figures(), *before, *hard.figures()]
        yield [entry.title, *map(interval, shares)]


def _over_epsilon(
    rows: Rows, paper: Paper, table: DefenceTable, group: Sequence[Setting]
) -> Iterator[list[str]]:
    columns = [entry for entry in table.attacks if entry.title in table.columns]
    for entry in table.lines:
        against = [s for s in group if hardened(s, paper.runs, entry.title)]
        candidates = against or [s for s in group if not hardened(s, paper.runs)]
        found = of_entry(paper, entry, candidates)
        for (epsilon,), settings_ in by(found, "epsilon").items():
            outcome = _Outcome.of(rows, settings_)
            shares = [outcome.accuracy(0), outcome.taken()]
            for column in columns:
                others = of_entry(paper, column, candidates)
                # An attack that has no such ε is the same at all.
                same = [s for s in others if s.facts["epsilon"] == epsilon] or others
                shares.append(_Outcome.of(rows, same).taken())
            defence = entry.title if against else "none"
            yield [defence, rows.epsilons[epsilon], *map(interval, shares)]


def hardened(
    setting: Setting, runs: Mapping[str, tuple[str, ...]], title: str | None = None
) -> bool:
    """Whether a victim was trained against the attack of a line, or of any."""
    folder = setting.facts["victim"].partition(" ")[2]
    folders = runs.get(title, ()) if title else [run for each in runs.values() for run in each]
    return folder in folders


@dataclasses.dataclass(frozen=True, eq=False)
class _Outcome:
    """What an attack left of a victim: of each part the setting that leaves the least accuracy."""

    rows: Rows
    parts: Mapping[str, Setting]

    @classmethod
    def of(cls, rows: Rows, found: Sequence[Setting]) -> "_Outcome":
        parts = {
            part: min(group, key=lambda setting: setting.robust_accuracy.value)
            for (part,), group in by(found, "split").items()
        }
        return cls(rows, parts)

    def accuracy(self, after: int, part: str | None = None) -> Estimate:
        """Before (0) or after (1) the attack, of a part or of both; NaN without all its rows."""
        found = self._right(part)
        if found is None:
            return _NOTHING
        before, left, units = found
        return share(left if after else before, units)

    def taken(self, part: str | None = None) -> Estimate:
        """The share of the accuracy that the attack takes; NaN where there was none."""
        found = self._right(part)
        return _NOTHING if found is None else taken(*found)

    def figures(self) -> list[Estimate]:
        """Accuracy, and what was taken of it; of the test part and of both parts, in turn."""
        accuracy = [self.accuracy(1, "test"), self.accuracy(1)]
        return [*accuracy, self.taken("test"), self.taken()]

    def _right(self, part: str | None) -> tuple[np.ndarray, np.ndarray, Units] | None:
        """Which rows are right before and after, and their units."""
        names = ("train", "test") if part is None else (part,)
        if not all(name in self.parts for name in names):
            return None
        # Both parts together: every utterance counts as one, whichever part it is of.
        where = np.concatenate([self.parts[name].where for name in names])
        before, after, _ = self.rows.right(where)
        return before, after, self.rows.units(where)


def _figure(column: str, value: Any) -> str:
    """A cell as the table of what was measured has it: shares in per cent, ε as it is."""
    if isinstance(value, str):
        return value
    return number(value, ".4g") if column == "ε" else percent(value)
