"""Attacks by corpora, for all, female and male utterances (Facchinetti et al.)."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxser.papers.table import Table
from jaxser.reporting.paper_tables.matching import candidates_of, of_entry
from jaxser.reporting.paper_tables.paper import GROUP, Paper, lacking
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import Setting, by, epsilon_text
from jaxser.results.cells import number
from jaxser.results.metrics import mean_of_defined

__all__ = ["gender_sections"]

_GENDERS = ("female", "male")


def gender_sections(rows: Rows, paper: Paper, table: Table) -> Iterator[Section]:
    """Accuracy and mean absolute change, each as a table, with the paper's figures beside."""
    own = [s for s in candidates_of(rows, table.domain, table.y) if not s.transferred]
    chosen: list[tuple[str, Setting]] = []
    for entry in table.attacks:
        found = by(of_entry(paper, entry, own), "victim", "corpus", "split")
        # The strongest setting; of equals, the one with the smallest change.
        chosen += [
            (entry.title, min(each, key=lambda s: _strength(rows, s))) for each in found.values()
        ]
    about = {
        "accuracy": (
            "accuracy",
            ".3f",
            lambda where: float(_right(rows, where, "prediction").mean()),
        ),
        "mean_abs": (
            "mean absolute change",
            ".3g",
            lambda where: mean_of_defined(rows.numbers["mean_abs"][where]),
        ),
    }
    for name, (title, form, figure) in about.items():
        header = ["victim", "data set", "attack", "setting", "rows", "all", *_GENDERS]
        cells = [[*header, "paper: all", *(f"paper: {gender}" for gender in _GENDERS)]]
        if name == "accuracy":
            cells += _before(rows, table, [setting for _, setting in chosen])
        for attack, setting in sorted(chosen, key=lambda each: each[1].facts["corpus"]):
            facts = setting.facts
            figures = [number(value, form) for value in _by_gender(rows, setting, figure)]
            line = [facts["victim"], facts["corpus"], attack]
            line += [f"{setting.label}, ε {epsilon_text(setting)}", str(len(setting.where))]
            printed = _printed(rows, table, facts["corpus"], attack, name, form)
            cells.append([*line, *figures, *printed])
        text = "Of each attack the setting that leaves the least accuracy."
        yield Section(
            f"{table.title}: {title}",
            f"{paper.name}_{name}",
            cells if len(cells) > 1 else [],
            text if chosen else lacking(table.y, table.domain),
            group=GROUP,
        )


def _before(rows: Rows, table: Table, chosen: Sequence[Setting]) -> Iterator[list[str]]:
    """Lines of the victims before any attack."""
    for (victim, corpus, _), group in by(chosen, "victim", "corpus", "split").items():
        largest = max(group, key=lambda setting: len(setting.where))
        figures = _by_gender(
            rows, largest, lambda where: float(_right(rows, where, "clean_prediction").mean())
        )
        shown = [number(value, ".3f") for value in figures]
        printed = _printed(rows, table, corpus, "original", "accuracy", ".3f")
        yield [victim, corpus, "original", "–", str(len(largest.where)), *shown, *printed]


def _by_gender(
    rows: Rows, setting: Setting, figure: Callable[[np.ndarray], float]
) -> Iterator[float]:
    """Of all, female and male rows; NaN without such rows."""
    yield figure(setting.where)
    parts = dict(split_by(rows, "gender", setting.where))
    for gender in _GENDERS:
        yield figure(parts[gender]) if gender in parts else math.nan


def _right(rows: Rows, where: np.ndarray, column: str) -> np.ndarray:
    return np.asarray(rows.words(column, where) == rows.words("label", where))


def _strength(rows: Rows, setting: Setting) -> tuple[float, float]:
    change = mean_of_defined(rows.numbers["mean_abs"][setting.where])
    return setting.figures["accuracy"][1].value, change


def _printed(rows: Rows, table: Table, corpus: str, attack: str, name: str, form: str) -> list[str]:
    """What the paper has for all, female and male; dashes where it has nothing."""
    names = {source["corpus"]["title"]: source["corpus"]["name"] for source in rows.sources}
    figures = table.published.get(names.get(corpus, ""), {}).get(attack)
    values = getattr(figures, name) if figures else ()
    return [number(value, form) for value in values] or ["–"] * (1 + len(_GENDERS))
