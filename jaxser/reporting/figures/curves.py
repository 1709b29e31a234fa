"""Accuracy over what an attack may spend: a curve for every attack, and the worst case of them.

    lines = [Line("pgd", [0.001, 0.01], [0.7, 0.2]), Line("noise", ..., noise=True)]
    figure = curves_figure("ε (L∞)", "robust accuracy", lines, worst=..., clean=0.9, log=True)

It is as wide as a column of a paper.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import (
    column_figure,
    in_legend,
    series_style,
    shortened,
)
from jaxser.results.estimate import Estimate

__all__ = ["Line", "curves_figure", "place_ticks"]

# Widths in inches: of the axes, and of a label on them.
_AXES, _LABEL = 2.8, 0.4

# Letters of a name that leave room for another beside it.
_HALF = 24


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
      name: in the legend.
      x: places.
      y: values there, or with their intervals, which are drawn as a band.
      noise: of noise, which attacks are compared with: dashed.
      steps: whether it falls at a place rather than between two.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float] | Sequence[Estimate]
    noise: bool = False
    steps: bool = False


def curves_figure(
    axis: str,
    height: str,
    lines: Sequence[Line],
    *,
    worst: Line | None = None,
    clean: float | None = None,
    log: bool = False,
    falling: bool = False,
    title: str = "",
) -> Figure:
    """Shares over the same axis.

    Args:
      axis: what the places are.
      height: what the shares are.
      lines: of attacks.
      worst: over all of them, black and broad.
      clean: before any attack, a grey line.
      log: logarithmic places.
      falling: the largest place first, as of an SNR.
      title: shown above; none by default.
    """
    names = [line.name for line in lines] + ["worst case"] * (worst is not None)
    columns = 2 if max(map(len, names), default=0) <= _HALF else 1
    entries = len(names) + (clean is not None)
    figure = column_figure(2.3 + 0.15 * math.ceil(entries / columns) + 0.2 * bool(title))
    axes = figure.subplots()
    place = 0
    for line in lines:
        _draw(axes, line, **series_style(place, noise=line.noise))
        place += not line.noise
    if worst is not None:
        _draw(axes, worst, color="black", linewidth=2.0, zorder=3)
    if clean is not None:
        axes.axhline(clean, color="gray", linewidth=0.8, label="before attacks")
    axes.set_ylim(0, 1)
    axes.set_xlabel(axis)
    axes.set_ylabel(height)
    axes.grid(alpha=0.6)
    axes.set_title(shortened(title), fontsize=8)
    if log:
        axes.set_xscale("log")
    _ticks(axes, [*lines, *([worst] if worst else [])], log)
    if falling:
        axes.invert_xaxis()
    handles, told = axes.get_legend_handles_labels()
    figure.legend(handles, [shortened(name) for name in told], loc="outside lower left",
                  ncols=columns, handlelength=3)  # fmt: skip
    return figure


def _draw(axes: Any, line: Line, **style: Any) -> None:
    values = [y.value if isinstance(y, Estimate) else y for y in line.y]
    if line.steps:
        # A mark at every tenth of the axis: at every place they would be a broad line.
        style |= {"drawstyle": "steps-post", "markevery": max(1, len(line.x) // 10)}
    axes.plot(line.x, values, label=in_legend(line.name), **style)
    bounds = [y for y in line.y if isinstance(y, Estimate)]
    if bounds:
        step: Literal["post"] | None = "post" if line.steps else None
        low, high = [y.low for y in bounds], [y.high for y in bounds]
        axes.fill_between(line.x, low, high, alpha=0.15, color=style["color"], step=step, lw=0)


def _ticks(axes: Any, lines: Sequence[Line], log: bool) -> None:
    """At the places of the curves, or at round numbers where curves fall anywhere."""
    places = sorted({x for line in lines for x in line.x})
    if any(line.steps for line in lines):
        if not log:
            return  # round numbers, and with room, by themselves
        powers = range(math.floor(math.log10(places[0])), math.ceil(math.log10(places[-1])))
        rounded = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        places = [x for x in rounded if places[0] <= x <= places[-1]] or places[:1]
    place_ticks(axes, places, log)


def place_ticks(axes: Any, places: Sequence[float], log: bool) -> None:
    """As many of the places as there is room for their labels.

    Args:
      axes: as wide as a column.
      places: sorted.
      log: whether the axis is logarithmic.
    """
    at = [math.log(x) if log else x for x in places]
    low, high = axes.get_xlim()
    room = (math.log(high / low) if log else high - low) * _LABEL / _AXES
    kept = [0]
    for index in range(1, len(at)):
        if at[index] - at[kept[-1]] >= room:
            kept.append(index)
    chosen = [places[index] for index in kept]
    axes.set_xticks(chosen, [f"{x:.3g}" for x in chosen])
    axes.set_xticks([], minor=True)
