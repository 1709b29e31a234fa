"""Every defence against every attack: what a victim is worth that was trained against one."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxser.papers.defence import DefenceTable
from jaxser.papers.table import Attacked
from jaxser.reporting.figures.matrix import matrix_figure
from jaxser.reporting.paper_tables.defence import by_model, hardened
from jaxser.reporting.paper_tables.matching import candidates_of, of_entry
from jaxser.reporting.paper_tables.paper import GROUP, Paper
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import Setting
from jaxser.results.cells import interval
from jaxser.results.estimate import Estimate
from jaxser.results.intervals import share

__all__ = ["matrix_sections"]

_NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


def matrix_sections(
    rows: Rows, paper: Paper, table: DefenceTable, attacks: Sequence[Attacked]
) -> Iterator[Section]:
    """A table and a picture for each corpus, model and ε: defences by attacks, accuracy of the test
    part.

    Args:
      rows: of the victims.
      paper: which runs are trained against the attack of a line.
      table: whose lines are the defences.
      attacks: the columns.
    """
    own = [s for s in candidates_of(rows, table.domain, table.y) if not s.transferred]
    tested = [s for s in own if s.facts["split"] == "test"]
    for number, ((corpus, model), group) in enumerate(by_model(tested).items(), 1):
        lines = {
            title: found
            for title in ("none", *(entry.title for entry in table.lines))
            if (found := _trained_against(title, paper, group))
        }
        columns = [e for e in attacks if any(of_entry(paper, e, s) for s in lines.values())]
        cells = [[_least(of_entry(paper, e, s)) for e in columns] for s in lines.values()]
        clean = [_before(found) for found in lines.values()]
        header = ["trained against", "no attack", *(entry.title for entry in columns), "worst"]
        worst = [
            _worst_case(rows, [of_entry(paper, entry, found) for entry in columns])
            for found in lines.values()
        ]
        shown = [[a, *line, z] for a, line, z in zip(clean, cells, worst, strict=True)]
        figure = matrix_figure(
            np.array([[each.value for each in line] for line in shown]),
            list(lines),
            header[1:],
            f"{model}, {corpus}",
            "accuracy",
        )
        yield Section(
            f"Defences by attacks: {model}, {corpus}",
            f"{paper.name}_matrix_{number}",
            [
                header,
                *([title, *map(interval, line)] for title, line in zip(lines, shown, strict=True)),
            ],
            "Accuracy of the test part, with 95 % intervals. Worst: the share that is right under "
            "all attacks of the line, of the utterances that all of them attacked; a defence is "
            "worth no more.",
            pictures=[
                Picture(
                    figure,
                    "accuracy of every defence under every attack",
                    f"{paper.name}_matrix_{number}",
                )
            ],
            group=GROUP,
        )


def _trained_against(title: str, paper: Paper, group: Sequence[Setting]) -> list[Setting]:
    if title == "none":
        return [s for s in group if not hardened(s, paper.runs)]
    return [s for s in group if hardened(s, paper.runs, title)]


def _before(found: Sequence[Setting]) -> Estimate:
    return found[0].outcomes.before["accuracy"]


def _least(found: Sequence[Setting]) -> Estimate:
    """Of several settings of one attack, the accuracy that the strongest leaves."""
    estimates = [setting.robust_accuracy for setting in found]
    return min(estimates, key=lambda each: each.value, default=_NOTHING)


def _worst_case(rows: Rows, attacks: Sequence[Sequence[Setting]]) -> Estimate:
    """The share that is right after every attack, of the utterances that all of them attacked.

    Args:
      rows: of the settings.
      attacks: settings of each; an attack without any does not count.
    """
    wheres = [np.concatenate([s.where for s in found]) for found in attacks if found]
    if not wheres:
        return _NOTHING
    where = np.concatenate(wheres)
    units = rows.units(where)
    label, prediction = (rows.words(name, where) for name in ("label", "prediction"))
    ends = np.cumsum([len(each) for each in wheres])
    attacked = units.in_all(np.split(np.arange(len(where)), ends[:-1]))
    return share(units.means(label == prediction) == 1, units.each_once(), of=attacked)
