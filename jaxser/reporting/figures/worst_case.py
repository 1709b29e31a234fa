"""Robust accuracy over ε: a curve for every attack, and the worst case over all of them."""

import math
from collections.abc import Sequence

import pyarrow as pa
from matplotlib.figure import Figure

from jaxser.reporting.figures.curves import Line, curves_figure
from jaxser.results.summary import summarise
from jaxser.results.worst_case import WorstCase

__all__ = ["worst_case_figure"]


def worst_case_figure(rows: pa.Table, cases: Sequence[WorstCase], title: str) -> Figure:
    """Curves of rows of one victim and corpus; noise is dashed, the worst case black with its band.

    Args:
      rows: in the row schema, at ε that are amplitudes of one norm.
      cases: of these rows.
      title: above the picture.
    """
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in summarise(rows):
        if math.isfinite(line.epsilon):
            found = points.setdefault((line.attack, line.parameters), [])
            found.append((line.epsilon, line.robust_accuracy.value))
    lines = [
        Line(attack, [x for x, _ in found], [y for _, y in found], noise=attack == "noise")
        for (attack, _), found in points.items()
    ]
    finite = [case for case in cases if math.isfinite(case.epsilon)]
    x, y = [case.epsilon for case in finite], [case.robust for case in finite]
    return curves_figure(
        "ε",
        "robust accuracy",
        lines,
        worst=Line("worst case", x, y),
        clean=finite[0].clean.value,
        log=True,
        title=title,
    )
