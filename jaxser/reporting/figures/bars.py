"""Bars: groups of them beside what papers printed, and on a logarithmic axis."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import (
    COLUMN,
    SERIES,
    column_figure,
    in_legend,
    new_figure,
    shortened,
)

__all__ = ["bars_figure", "log_bars_figure"]

# Letters of a name that leave room for bars in one column.
_LONG = 24


def bars_figure(
    title: str,
    axis: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]],
    log: bool = False,
) -> Figure:
    """Groups of bars, and a diamond where a paper printed a figure.

    Args:
      title: shown above.
      axis: what the height is.
      names: of the groups.
      series: a bar in every group; NaN: none.
      published: by the name of a series, a diamond in every group; NaN: none.
      log: logarithmic height.
    """
    width = 0.8 / max(1, len(series))
    size = (max(6.0, 1.5 + 0.35 * len(names) * max(2, len(series))), 4.5)
    figure = new_figure(size, dpi=120)
    axes = figure.subplots()
    places = np.arange(len(names))
    for index, (name, heights) in enumerate(series.items()):
        where = places + (index - (len(series) - 1) / 2) * width
        axes.bar(where, heights, width, label=in_legend(name))
        if name in published:
            axes.plot(
                where,
                published[name],
                "kD",
                markersize=4,
                label="paper" if name == next(iter(published)) else None,
            )
    if log:
        axes.set_yscale("log")
    axes.set_xticks(places, names, rotation=30, ha="right")
    axes.set_ylabel(axis)
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def log_bars_figure(
    axis: str,
    names: Sequence[str],
    values: Sequence[float],
    *,
    start: float,
    spreads: Sequence[tuple[float, float]] | None = None,
) -> Figure:
    """Bars to the right on a logarithmic axis; those to the left of the start in another colour.

    Args:
      axis: what the length is.
      names: of the bars, from above.
      values: where they end; above 0.
      start: where they begin; above 0.
      spreads: smallest and largest of each, as a whisker.
    """
    ends, places = np.asarray(values, float), np.arange(len(names))
    # One column of a paper where names are short, two where they are not.
    long = max(map(len, names), default=0) > _LONG
    figure = column_figure(0.7 + 0.18 * len(names), COLUMN * (1 + long))
    axes = figure.subplots()
    colours = np.where(ends >= start, *SERIES[:2])
    axes.barh(places, ends - start, left=start, color=colours)
    if spreads is not None:
        low, high = np.array(spreads, float).T
        whisker = [ends - low, high - ends]
        axes.errorbar(ends, places, xerr=whisker, fmt="none", ecolor="black")
    axes.set_xscale("log")
    axes.set_yticks(places, [shortened(name) for name in names])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.6)
    axes.set_axisbelow(True)
    return figure
