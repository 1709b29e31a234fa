"""Speed beside peers, as a section of a report.

made = speed_sections(Path("benchmarks/results"), seconds_in_papers(papers))
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxser.reporting.benchmarks import Comparison, read_comparisons
from jaxser.reporting.figures.bars import log_bars_figure
from jaxser.reporting.section import Picture, Section
from jaxser.results.cells import number

__all__ = ["speed_sections"]


def speed_sections(folder: Path, papers: Mapping[str, str]) -> list[Section]:
    """A table of all comparisons, with a picture.

    Args:
      folder: of the JSON files that ``benchmarks`` wrote.
      papers: attack -> what papers say that it took.

    Raises:
      InputError: no such files, or one that is damaged.
    """
    comparisons, others = read_comparisons(folder)
    header = ["work", "model", "speech s", "peer", "s per row", "rows/s", "peer rows/s", "ratio"]
    header += ["smallest–largest", "queries/s", "peer queries/s", "compilation s", "device"]
    cells = [[*header, *(["papers"] if papers else [])]]
    for each in comparisons:
        line = [each.work, each.model or "–", number(each.seconds, "g"), each.peer]
        line += [_digits(1 / each.rows_per_s), _digits(each.rows_per_s)]
        line += [_digits(each.peer_rows_per_s), _digits(each.ratio), _span(each.spread)]
        line.append(_digits(each.rows_per_s * each.queries))
        line.append(_digits(each.peer_rows_per_s * each.peer_queries))
        line += [number(each.compile_s, ".1f"), each.device]
        cells.append([*line, *([papers.get(each.work.partition(",")[0], "–")] if papers else [])])
    text = (
        "Medians of turns that both sides took in one run, with the same weights, rows and steps "
        "or queries; ratios above 1: jaxser is faster. Compilation is counted apart."
    )
    if others:
        text += f" Without a peer: {', '.join(others)}."
    return [Section("Speed beside peers", "speed_peers", cells, text, [_picture(comparisons)])]


def _digits(value: float) -> str:
    """Three of them, without an exponent."""
    return number(float(f"{value:.3g}"), ",g")


def _span(spread: tuple[float, float]) -> str:
    low, high = map(_digits, spread)
    return low if low == high else f"{low}–{high}"


def _picture(comparisons: Sequence[Comparison]) -> Picture:
    """Ratios as bars on a logarithmic axis, with their spread."""
    names = []
    for each in comparisons:
        length = "" if math.isnan(each.seconds) else f"{each.seconds:g} s"
        subject = ", ".join(filter(None, [each.work, each.model, length]))
        names.append(f"{subject}: {each.peer}")
    ratios = [each.ratio for each in comparisons]
    spreads = [each.spread for each in comparisons]
    axis = "times as many rows per second as the peer"
    figure = log_bars_figure(axis, names, ratios, start=1.0, spreads=spreads)
    words = "; ".join(f"{name} {_digits(each)}" for name, each in zip(names, ratios, strict=True))
    return Picture(figure, f"Times as many rows per second as peers: {words}.", "speed_peers")
