"""What attacks cost: queries for a row, and seconds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxser.reporting.figures.bars import log_bars_figure
from jaxser.reporting.figures.canvas import figure_png, new_figure, shortened
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Section
from jaxser.reporting.settings import LINE, Setting, by_label, epsilon_text, speech, strongest
from jaxser.results.cells import number

__all__ = ["queries", "speed"]


def queries(own: Sequence[Setting]) -> Section:
    """Forward passes for one row: a table of all settings, and a picture of the strongest."""
    cells = [["victim", "speech", "attack", "ε", "5 %", "median", "95 %", "mean"]]
    for setting in own:
        counted = [number(value, ",.4g") for value in setting.queries]
        line = [setting.facts["victim"], speech(setting), setting.label, epsilon_text(setting)]
        cells.append([*line, *counted])
    return Section(
        "Queries",
        "queries",
        cells,
        "Forward passes for one row. A picture, where rows differ, is at the strongest ε: from 5 % "
        "to 95 % of the rows, with the median.",
        png=_queries_picture(strongest(own)),
    )


def _queries_picture(last: Sequence[Setting]) -> tuple[bytes, str] | None:
    """A bar from 5 % to 95 % of the rows for every attack; none where all rows ask as often."""
    # Attacks that ask nothing have no place on a logarithmic axis.
    asked = [setting for setting in last if setting.queries[2] > 0]
    if all(setting.queries[0] == setting.queries[2] for setting in asked):
        return None
    names = [f"{setting.facts['victim']}, {speech(setting)}: {setting.label}" for setting in asked]
    low, median, high, _ = np.array([setting.queries for setting in asked]).T
    figure = new_figure((11, 1.2 + 0.28 * len(asked)))
    axes = figure.subplots()
    places = np.arange(len(asked))
    axes.hlines(places, np.maximum(low, 1), high, linewidth=6, alpha=0.35)
    axes.plot(median, places, "|", color="black", markersize=10)
    axes.set_yticks(places, [shortened(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("queries for one row")
    axes.grid(axis="x", alpha=0.3)
    words = "; ".join(
        f"{name} {each[0]:,.4g} to {each[2]:,.4g}, median {each[1]:,.4g}"
        for name, each in zip(names, (setting.queries for setting in asked), strict=True)
    )
    return figure_png(figure), f"Queries of 5 % to 95 % of the rows: {words}."


def speed(rows: Rows, own: Sequence[Setting], papers: Mapping[str, str]) -> Section:
    """Of every attack on every victim, over all ε."""
    header = ["victim", "speech", "attack", "device", "rows", "s per row", "rows/s", "queries/s"]
    cells = [[*header, "compilation s", *(["papers"] if papers else [])]]
    rates = {}
    for (victim, *_, label), line in by_label(own, *LINE).items():
        for device, where in split_by(rows, "device", np.concatenate([s.where for s in line])):
            seconds = rows.numbers["seconds"][where].sum()
            if not seconds > 0:
                continue
            queries = rows.numbers["queries"][where].sum()
            compiled = rows.numbers["compile_seconds"][where].max()
            about = [victim, speech(line[0]), label, device]
            rates[", ".join(about)] = len(where) / seconds
            cells.append(
                [
                    *(*about, str(len(where))),
                    number(seconds / len(where), ".3g"),
                    number(len(where) / seconds, ",.4g"),
                    number(queries / seconds, ",.4g"),
                    number(compiled, ".1f"),
                    *([papers.get(line[0].facts["attack"], "–")] if papers else []),
                ]
            )
    return Section(
        "Speed",
        "speed",
        cells,
        "A row is one utterance at one ε. Steady state; compilation is counted apart.",
        png=_speed_picture(rates),
    )


def _speed_picture(rates: Mapping[str, float]) -> tuple[bytes, str] | None:
    """Rows per second as bars on a logarithmic axis; none where no time was taken."""
    if not rates:
        return None
    # Bars begin at the power of ten below the slowest.
    start = 10.0 ** math.floor(math.log10(min(rates.values())) - 1e-9)
    figure = log_bars_figure("rows per second", list(rates), list(rates.values()), start=start)
    words = "; ".join(f"{name} {rate:,.3g}" for name, rate in rates.items())
    return figure_png(figure), f"Rows per second: {words}."
