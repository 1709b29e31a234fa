"""Tables of evaluated victims: before attacks, after the strongest settings, and at an SNR."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from jaxser.papers.table import Published
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation, accuracy_at_snr
from jaxser.reporting.grouping import first_of_each, grouped
from jaxser.results.cells import Cells, csv_text, number
from jaxser.results.metrics import METRICS

__all__ = ["at_snr", "settings_csv", "shown", "strongest", "victims"]


def shown(value: float, form: str = ".3f") -> str:
    """A figure; nothing where it is not defined, as most cells by gender are in some corpora."""
    return number(value, form, undefined="")


def victims(evaluations: Sequence[Evaluation]) -> Cells:
    """Every victim before any attack; of several seeds also mean and standard deviation."""
    each_once = first_of_each(evaluations, lambda each: each.victim).values()
    names = [(metric, group) for metric in METRICS for group in GROUPS]
    cells = [
        ["run", "corpus", "protocol", "utterances", "speakers"]
        + [metric if group == "all" else f"{metric}, {group}" for metric, group in names]
    ]

    def kind(each: Evaluation) -> tuple[str, str, str]:
        return each.corpus.name, each.protocol, each.trained.model.name

    for (corpus, protocol, _), group in grouped(each_once, kind).items():
        figures = []
        for each in group:
            by_group = {name: each.clean.figures(name) for name in GROUPS}
            figures.append([by_group[name][metric] for metric, name in names])
            counts = [str(len(each.clean.truth)), str(len(set(each.clean.speakers)))]
            cells.append([str(each.victim), corpus, protocol, *counts, *map(shown, figures[-1])])
        if len(group) > 1:
            # Of the seeds as a sample (ddof=1), and no interval: a spread of its own beside those
            # over utterances.
            mean, deviation = np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1)
            both = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
            cells.append([f"mean of {len(group)}", corpus, protocol, "", "", *both])
    return cells


def strongest(evaluation: Evaluation) -> Cells:
    """The strongest setting of each attack, for all and by gender, beside the paper's figures."""
    table = evaluation.table
    published = table.published.get(evaluation.corpus.name, {})
    head = ["attack", "setting", "rows", "accuracy (95 %)", "female", "male", "paper"]
    head += ["mean |Δ|", "female", "male", "paper", "seconds", "compile", "paper"]
    by_group = {group: evaluation.clean.figures(group)["accuracy"] for group in GROUPS}
    cells = [head]
    cells.append(
        [
            *("original", "", str(len(evaluation.clean.truth))),
            *(shown(by_group[group]) for group in GROUPS),
            _published(published.get("original"), "accuracy"),
            *[""] * 7,
        ]
    )
    for line in evaluation.best:
        low, high = line.interval
        figures = published.get(line.attack)
        spent = table.published_seconds.get(line.attack)
        cells.append(
            [
                line.attack,
                line.setting,
                str(len(line.outcomes.utterances)),
                f"{line.accuracy():.3f} ({low:.3f}–{high:.3f})",
                *(shown(line.accuracy(group)) for group in GROUPS[1:]),
                _published(figures, "accuracy"),
                *(shown(line.mean_abs(group), ".3g") for group in GROUPS),
                _published(figures, "mean_abs"),
                f"{line.seconds:.1f}",
                f"{line.compile_seconds:.1f}",
                "" if spent is None else f"{spent[0]:,.0f}–{spent[1]:,.0f}",
            ]
        )
    return cells


def at_snr(evaluation: Evaluation) -> Cells:
    """Accuracy left at the SNRs of the table, an attack in every line."""
    levels = evaluation.table.snr
    cells = [["attack", "rows", *(f"{level:g} dB" for level in levels)]]
    for attack, lines in grouped(evaluation.lines, lambda line: line.attack).items():
        left = [shown(accuracy_at_snr(lines, level)) for level in levels]
        cells.append([attack, str(len(lines[0].outcomes.utterances)), *left])
    return cells


def _published(figures: Published | None, name: str) -> str:
    values = getattr(figures, name) if figures is not None else ()
    return "/".join(f"{value:.3g}" for value in values)


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
