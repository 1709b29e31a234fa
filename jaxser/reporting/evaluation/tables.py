"""Tables of evaluated victims: before attacks, after the strongest settings, and at an SNR."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from jaxser.papers.table import Published
from jaxser.reporting.evaluation.outcomes import (
    GROUPS,
    Evaluation,
    Line,
    accuracy_at_snr,
    same_utterances,
)
from jaxser.reporting.grouping import first_of_each, grouped
from jaxser.reporting.paper_tables.printed import printed_figures
from jaxser.results.cells import Cells, csv_text, interval, number, percent
from jaxser.results.intervals import share
from jaxser.results.metrics import METRICS

__all__ = ["at_snr", "settings_csv", "shown", "strongest", "victims"]


def shown(value: float) -> str:
    """A share in per cent, as all tables have them; nothing where it is not defined, as most cells
    by gender are in some corpora."""
    return percent(value, undefined="")


def victims(evaluations: Sequence[Evaluation]) -> Cells:
    """Every victim before any attack; of those that differ in the seed alone also mean and standard
    deviation."""
    each_once = first_of_each(evaluations, lambda each: each.victim).values()
    names = [(metric, group) for metric in METRICS for group in GROUPS]
    cells = [
        ["run", "corpus", "protocol", "utterances", "speakers"]
        + [metric if group == "all" else f"{metric}, {group}" for metric, group in names]
    ]

    for group in grouped(each_once, lambda each: each.kind).values():
        figures = []
        corpus, protocol = group[0].corpus.name, group[0].protocol
        for each in group:
            by_group = {name: each.clean.figures(name) for name in GROUPS}
            figures.append([by_group[name][metric] for metric, name in names])
            counts = [str(len(set(each.clean.sources))), str(len(set(each.clean.speakers)))]
            cells.append([str(each.victim), corpus, protocol, *counts, *map(shown, figures[-1])])
        if len(group) > 1:
            # Of the seeds as a sample (ddof=1), and no interval: a spread of its own beside those
            # over utterances.
            mean, deviation = np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1)
            both = [f"{m:.1%} ± {d:.1%}" for m, d in zip(mean, deviation, strict=True)]
            cells.append([f"mean of {len(group)} seeds", corpus, protocol, "", "", *both])
    return cells


def strongest(evaluation: Evaluation) -> list[Cells]:
    """The strongest setting of each attack, for all and by gender, beside the paper's figures.

    A table for every set of utterances that attacks were run on, with the accuracy of the same
    utterances before any attack.
    """
    return [_strongest(evaluation, lines) for lines in same_utterances(evaluation.best)]


def _strongest(evaluation: Evaluation, lines: Sequence[Line]) -> Cells:
    table, over = evaluation.table, evaluation.interval_over
    published = table.published.get(evaluation.corpus.name, {})
    head = ["attack", "setting", "rows", "accuracy (95 %)", "female", "male", "paper: accuracy"]
    head += [
        "mean |Δ|",
        "female |Δ|",
        "male |Δ|",
        "paper: |Δ|",
        "seconds",
        "compile",
        "paper: seconds",
    ]
    same = lines[0].outcomes
    cells = [head]
    cells.append(
        [
            *("original", "", str(len(same.utterances))),
            interval(share(same.before, same.units(over)), ""),
            *(shown(_share(same.only(group).before)) for group in GROUPS[1:]),
            _published(published.get("original"), "accuracy"),
            *[""] * 7,
        ]
    )
    for line in lines:
        figures = published.get(line.attack)
        spent = table.published_seconds.get(line.attack)
        cells.append(
            [
                line.attack,
                line.setting,
                str(len(line.outcomes.utterances)),
                interval(line.estimate(over), ""),
                *(shown(line.accuracy(group)) for group in GROUPS[1:]),
                _published(figures, "accuracy"),
                *(number(line.mean_abs(group), ".3g", "") for group in GROUPS),
                _published(figures, "mean_abs"),
                f"{line.seconds:.1f}",
                f"{line.compile_seconds:.1f}",
                "" if spent is None else f"{spent[0]:,.0f}–{spent[1]:,.0f}",
            ]
        )
    return cells


def at_snr(evaluation: Evaluation) -> list[Cells]:
    """Accuracy left at the SNRs of the table, an attack in every line; tables as those above."""
    levels = evaluation.table.snr
    tables = []
    for group in same_utterances(evaluation.lines):
        cells = [["attack", "rows", *(f"{level:g} dB" for level in levels)]]
        for attack, lines in grouped(group, lambda line: line.attack).items():
            left = [shown(accuracy_at_snr(lines, level)) for level in levels]
            cells.append([attack, str(len(lines[0].outcomes.utterances)), *left])
        tables.append(cells)
    return tables


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _published(figures: Published | None, name: str) -> str:
    if name == "accuracy":
        return "/".join(printed_figures(figures, name, percent))
    return "/".join(printed_figures(figures, name, lambda value: number(value, ".3g")))


def settings_csv(evaluations: Iterable[Evaluation]) -> str:
    """Every setting of every attack as CSV; empty cells for what is not defined."""
    names = [f"{figure}_{group}" for figure in ("accuracy", "mean_abs") for group in GROUPS]
    head = ["table", "victim", "corpus", "protocol", "domain", "attack", "setting", "rows"]
    rows: list[list[object]] = [[*head, *names, "seconds", "compile_seconds"]]
    for each in evaluations:
        for line in each.lines:
            figures = [line.accuracy(group) for group in GROUPS]
            figures += [line.mean_abs(group) for group in GROUPS]
            facts = [each.table.title, each.victim, each.corpus.name, each.protocol]
            facts += [each.table.domain, line.attack, line.setting, len(line.outcomes.utterances)]
            row = ["" if math.isnan(value) else value for value in figures]
            rows.append([*facts, *row, line.seconds, line.compile_seconds])
    return csv_text(rows)
