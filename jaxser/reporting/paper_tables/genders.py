"""Attacks by corpora, for all, female and male utterances (Facchinetti et al.)."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxser.papers.table import Table
from jaxser.reporting.grouping import grouped
from jaxser.reporting.paper_tables.matching import candidates_of, of_entry
from jaxser.reporting.paper_tables.paper import GROUP, Paper, lacking
from jaxser.reporting.paper_tables.printed import printed_figures
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, accuracies, by, epsilon_text
from jaxser.results.cells import number, percent
from jaxser.results.metrics import mean_of_defined

__all__ = ["gender_sections"]

_GENDERS = ("female", "male")
_HEADER = ("victim", "data set", "attack", "setting", "rows", "all")
_SPEECH = ("victim", "corpus", "split")

# Title of a line, and the setting that it shows.
_Chosen = tuple[str, Setting]


def gender_sections(rows: Rows, paper: Paper, table: Table) -> Iterator[Section]:
    """Accuracy and mean absolute change, each as a table, with the paper's figures beside."""
    own = [s for s in candidates_of(rows, table.domain, table.y) if not s.transferred]
    chosen: list[_Chosen] = []
    for entry in table.attacks:
        found = by(of_entry(paper, entry, own), *_SPEECH)
        # The strongest setting; of equals, the one with the smallest change.
        chosen += [
            (entry.title, min(each, key=lambda s: _strength(rows, s))) for each in found.values()
        ]
    about = {
        "accuracy": ("accuracy", percent, lambda where: _accuracies(rows, where)[1]),
        "mean_abs": (
            "mean absolute change",
            lambda value: number(value, ".3g"),
            lambda where: mean_of_defined(rows.numbers["mean_abs"][where]),
        ),
    }
    for name, (title, shown, figure) in about.items():
        text = "Of each attack the setting that leaves the least accuracy."
        if not chosen:
            text = lacking(table.y, table.domain)
            yield Section(f"{table.title}: {title}", f"{paper.name}_{name}", text=text, group=GROUP)
        for number_, lines in enumerate(_same_utterances(rows, chosen), 1):
            cells = [[*_HEADER, *_GENDERS, "paper: all", *(f"paper: {each}" for each in _GENDERS)]]
            if name == "accuracy":
                cells += _before(rows, table, [setting for _, setting in lines])
            for attack, setting in sorted(lines, key=lambda each: each[1].facts["corpus"]):
                facts = setting.facts
                line = [facts["victim"], facts["corpus"], attack]
                line += [f"{setting.label}, ε {epsilon_text(setting)}", str(len(setting.where))]
                line += map(shown, _by_gender(rows, setting, figure))
                cells.append([*line, *_printed(rows, table, facts["corpus"], attack, name, shown)])
            yield Section(
                f"{table.title}: {title}" + (", fewer utterances" if number_ > 1 else ""),
                f"{paper.name}_{name}" + (f"_{number_}" if number_ > 1 else ""),
                cells,
                text,
                group=GROUP,
            )


def _same_utterances(rows: Rows, chosen: Sequence[_Chosen]) -> list[list[_Chosen]]:
    """Lines for each table: a victim's own are of the same utterances there, those of most first.

    Attacks that were limited to fewer utterances than others must not stand below the accuracy of
    utterances that they were not run on.
    """
    tables: list[list[_Chosen]] = []
    victims = grouped(chosen, lambda each: tuple(each[1].facts[name] for name in _SPEECH))
    for its in victims.values():
        sets = grouped(
            its, lambda each: np.unique(rows.texts["utterance"][each[1].where]).tobytes()
        ).values()
        for place, lines in enumerate(sorted(sets, key=lambda lines: -lines[0][1].utterances)):
            if place == len(tables):
                tables.append([])
            tables[place] += lines
    return tables


def _before(rows: Rows, table: Table, chosen: Sequence[Setting]) -> Iterator[list[str]]:
    """Lines of the victims before any attack."""
    for (victim, corpus, _), (first, *_) in by(chosen, *_SPEECH).items():
        figures = _by_gender(rows, first, lambda where: _accuracies(rows, where)[0])
        printed = _printed(rows, table, corpus, "original", "accuracy", percent)
        count = str(len(first.where))
        yield [victim, corpus, "original", "–", count, *map(percent, figures), *printed]


def _accuracies(rows: Rows, where: np.ndarray) -> tuple[float, float]:
    before, after = accuracies(rows, where)
    return before.value, after.value


def _by_gender(
    rows: Rows, setting: Setting, figure: Callable[[np.ndarray], float]
) -> Iterator[float]:
    """Of all, female and male rows; NaN without such rows."""
    yield figure(setting.where)
    parts = dict(split_by(rows, "gender", setting.where))
    for gender in _GENDERS:
        yield figure(parts[gender]) if gender in parts else math.nan


def _strength(rows: Rows, setting: Setting) -> tuple[float, float]:
    change = mean_of_defined(rows.numbers["mean_abs"][setting.where])
    return setting.robust_accuracy.value, change


def _printed(
    rows: Rows, table: Table, corpus: str, attack: str, name: str, shown: Callable[[float], str]
) -> list[str]:
    """What the paper has for all, female and male; dashes where it has nothing."""
    names = {source["corpus"]["title"]: source["corpus"]["name"] for source in rows.sources}
    figures = table.published.get(names.get(corpus, ""), {}).get(attack)
    return printed_figures(figures, name, shown) or ["–"] * (1 + len(_GENDERS))
