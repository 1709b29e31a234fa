"""Two runs in one picture: accuracy over ε, robustness over epochs, and certified accuracy.

curves = [Curve("pgd, runs/plain", epsilons, accuracies, colour=0, dashed=True), ...]
save_figure(compared_figure("Emo18, EmoDB", "ε (linf)", curves, log=True), "compared.png")
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import (
    column_figure,
    in_legend,
    series_style,
    shortened,
)
from jaxser.reporting.figures.curves import place_ticks
from jaxser.results.estimate import Estimate

__all__ = ["Curve", "compared_figure"]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line with its band.

    Attributes:
      name: in the legend.
      x: places.
      accuracies: there, with their intervals.
      colour: number of what both runs have, such as an attack.
      dashed: of the first run.
      level: a line over the whole width, as before any attack.
      steps: whether it falls at a place rather than between two.
    """

    name: str
    x: Sequence[float]
    accuracies: Sequence[Estimate]
    colour: int
    dashed: bool
    level: Estimate | None = None
    steps: bool = False


def compared_figure(
    title: str, axis: str, curves: Sequence[Curve], *, log: bool = False, falling: bool = False
) -> Figure:
    """Accuracies of two runs over the same axis.

    Args:
      title: shown above.
      axis: what the places are.
      curves: of both.
      log: logarithmic places.
      falling: the largest place first, as of an SNR.
    """
    figure = column_figure(2.4 + 0.15 * (len(curves) + 1))
    axes = figure.subplots()
    for curve in curves:
        its = series_style(curve.colour)
        colour, style = its["color"], "--" if curve.dashed else "-"
        values = [each.value for each in curve.accuracies]
        low, high = ([getattr(each, end) for each in curve.accuracies] for end in ("low", "high"))
        axes.plot(
            curve.x,
            values,
            style,
            marker="" if curve.steps else its["marker"],
            drawstyle="steps-pre" if curve.steps else "default",
            color=colour,
            label=in_legend(curve.name),
        )
        step: Literal["pre"] | None = "pre" if curve.steps else None
        axes.fill_between(curve.x, low, high, alpha=0.12, color=colour, step=step)
        if curve.level is not None:
            axes.axhline(curve.level.value, color="gray", linewidth=0.8, linestyle=style)
    if log:
        axes.set_xscale("log")
    if not any(curve.steps for curve in curves):
        place_ticks(axes, sorted({x for curve in curves for x in curve.x}), log)
    if falling:
        axes.invert_xaxis()
    axes.set_ylim(0, 1)
    axes.set_xlabel(axis)
    axes.set_ylabel("accuracy")
    axes.set_title(shortened(title), fontsize=8)
    axes.grid(alpha=0.6)
    handles, names = axes.get_legend_handles_labels()
    shown = [shortened(name) for name in names]
    figure.legend(handles, shown, loc="outside lower left", handlelength=3)
    return figure
