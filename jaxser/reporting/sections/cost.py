"""What attacks cost: queries for a row, and seconds."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxser.reporting.figures.bars import log_bars_figure
from jaxser.reporting.figures.canvas import column_figure, shortened
from jaxser.reporting.rows import Rows, split_by
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import ABOUT, LINE, Setting, about, by_label, speech
from jaxser.results.cells import number

__all__ = ["queries", "speed"]


def queries(own: Sequence[Setting]) -> Section:
    """Forward passes for one row: a table of all settings, and a picture of the strongest."""
    cells = [[*ABOUT, "median", "5 %", "95 %", "mean"]]
    for setting in own:
        low, median, high, mean = (number(value, ",.4g") for value in setting.queries)
        cells.append([*about(setting), median, low, high, mean])
    picture = _queries_picture([line[0] for line in by_label(own, *LINE).values()])
    return Section(
        "Queries",
        "queries",
        cells,
        "Forward passes for one row. A picture, where rows differ, is at the strongest ε: from 5 % "
        "to 95 % of the rows, with the median.",
        pictures=[picture] if picture else (),
    )


def _queries_picture(last: Sequence[Setting]) -> Picture | None:
    """A bar from 5 % to 95 % of the rows for every attack; none where all rows ask as often."""
    # Attacks that ask nothing have no place on a logarithmic axis.
    asked = [setting for setting in last if setting.queries[2] > 0]
    if all(setting.queries[0] == setting.queries[2] for setting in asked):
        return None
    names = _told_apart([[s.facts["victim"], speech(s), s.label] for s in asked])
    low, median, high, _ = np.array([setting.queries for setting in asked]).T
    figure = column_figure(0.7 + 0.2 * len(asked))
    axes = figure.subplots()
    places = np.arange(len(asked))
    axes.hlines(places, np.maximum(low, 1), high, linewidth=6, alpha=0.35)
    axes.plot(median, places, "|", color="black", markersize=10)
    axes.set_yticks(places, [shortened(name) for name in names])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("queries for one row")
    axes.grid(axis="x", alpha=0.6)
    words = "; ".join(
        f"{name} {each[0]:,.4g} to {each[2]:,.4g}, median {each[1]:,.4g}"
        for name, each in zip(names, (setting.queries for setting in asked), strict=True)
    )
    return Picture(figure, f"Queries of 5 % to 95 % of the rows: {words}.", "queries")


def speed(rows: Rows, own: Sequence[Setting], papers: Mapping[str, str]) -> Section:
    """Of every attack on every victim, over all ε."""
    header = ["victim", "speech", "attack", "device", "rows/s", "s per row", "queries/s"]
    cells = [[*header, "compilation s", "rows", *(["papers"] if papers else [])]]
    rates: list[tuple[list[str], float]] = []
    for (victim, *_, label), line in by_label(own, *LINE).items():
        for device, where in split_by(rows, "device", np.concatenate([s.where for s in line])):
            seconds = rows.numbers["seconds"][where].sum()
            if not seconds > 0:
                continue
            queries = rows.numbers["queries"][where].sum()
            compiled = rows.numbers["compile_seconds"][where].max()
            told = [victim, speech(line[0]), label, device]
            rates.append((told, len(where) / seconds))
            cells.append(
                [
                    *told,
                    number(len(where) / seconds, ",.4g"),
                    number(seconds / len(where), ".3g"),
                    number(queries / seconds, ",.4g"),
                    number(compiled, ".1f"),
                    number(len(where), "d"),
                    *([papers.get(line[0].facts["attack"], "–")] if papers else []),
                ]
            )
    return Section(
        "Speed",
        "speed",
        cells,
        "A row is one utterance at one ε. Steady state; compilation is counted apart.",
        pictures=[_speed_picture(rates)] if rates else (),
    )


def _speed_picture(rates: Sequence[tuple[list[str], float]]) -> Picture:
    """Rows per second as bars on a logarithmic axis."""
    names = _told_apart([told for told, _ in rates])
    heights = [rate for _, rate in rates]
    # Bars begin at the power of ten below the slowest.
    start = 10.0 ** math.floor(math.log10(min(heights)) - 1e-9)
    figure = log_bars_figure("rows per second", names, heights, start=start)
    words = "; ".join(f"{name} {rate:,.3g}" for name, rate in zip(names, heights, strict=True))
    return Picture(figure, f"Rows per second: {words}.", "speed")


def _told_apart(names: Sequence[Sequence[str]]) -> list[str]:
    """Names of several parts, less the parts that all have."""
    kept = [len(set(part)) > 1 for part in zip(*names, strict=True)]
    if not any(kept):
        return [", ".join(each) for each in names]
    return [", ".join(itertools.compress(each, kept)) for each in names]
