"""Robust accuracy over ε: a curve for every attack, and the worst case over all of them."""

import math

import pyarrow as pa
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import in_legend, new_figure
from jaxser.results.summary import summarise
from jaxser.results.worst_case import worst_cases

__all__ = ["worst_case_figure"]

_SIZE = (7, 4.5)


def worst_case_figure(rows: pa.Table, title: str) -> Figure:
    """Curves of rows of one victim and corpus; noise is dashed, the worst case black with its band.

    Args:
      rows: in the row schema, at ε that are amplitudes of one norm.
      title: above the picture.
    """
    figure = new_figure(_SIZE)
    axes = figure.subplots()
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in summarise(rows):
        if math.isfinite(line.epsilon):
            points = lines.setdefault((line.attack, line.parameters), [])
            points.append((line.epsilon, line.robust_accuracy.value))
    markers = "ovs^Dp*Xhd<>"
    for number, ((attack, _), points) in enumerate(lines.items()):
        style = "--" if attack == "noise" else "-"
        marker = markers[number % len(markers)]
        axes.plot(
            *zip(*points, strict=True), style, marker=marker, markersize=4, label=in_legend(attack)
        )
    cases = [case for case in worst_cases(rows) if math.isfinite(case.epsilon)]
    x = [case.epsilon for case in cases]
    axes.plot(x, [c.robust.value for c in cases], "k-", linewidth=2, label="worst case")
    low, high = [c.robust.low for c in cases], [c.robust.high for c in cases]
    axes.fill_between(x, low, high, color="k", alpha=0.12)
    axes.axhline(cases[0].clean.value, color="gray", linewidth=0.8, label="before attacks")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("ε")
    axes.set_ylabel("robust accuracy")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure
