"""Confusion matrices as pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import BLUES, new_figure
from jaxser.results.metrics import recalls, uar
from jaxser.runtime.text import counted

__all__ = ["confusion_figure", "draw_confusion", "draw_shares"]


def confusion_figure(
    matrix: Int[np.ndarray, "classes classes"], labels: tuple[str, ...], title: str
) -> Figure:
    """A confusion matrix: colour is the share of the true class, text the count and the share.

    Args:
      matrix: counts, truth along rows.
      labels: class names.
      title: shown above, followed by the UAR.
    """
    size = 1.5 + 0.75 * len(labels)
    figure = new_figure((size + 1.2, size), dpi=120)
    axes = figure.subplots()
    image = draw_confusion(axes, matrix, labels)
    axes.set_yticks(
        range(len(labels)),
        [f"{name} ({value:.0%})" for name, value in zip(labels, recalls(matrix), strict=True)],
    )
    axes.set_ylabel("true (recall)")
    axes.set_title(
        f"{title}\nUAR {float(uar(matrix)):.1%}, {counted(int(matrix.sum()), 'utterance')}"
    )
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def draw_confusion(
    axes: Any,
    matrix: Int[np.ndarray, "classes classes"],
    labels: Sequence[str],
    letters: float = 8,
) -> Any:
    """A confusion matrix into a place of a figure; returns the image, for a scale of colours.

    Cells of nothing are left empty; ``letters`` is the size of the counts in points.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = draw_shares(axes, share)
    for row, column in np.argwhere(matrix):
        text = f"{matrix[row, column]}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", fontsize=letters)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("predicted")
    return image


def draw_shares(axes: Any, shares: Float[np.ndarray, "rows columns"]) -> Any:
    """Shares from 0 to 1 as colours, the first row on top, NaN as nothing; returns the image."""
    edges = [np.arange(size + 1) - 0.5 for size in reversed(shares.shape)]
    # Cells that can be seen through, as shapes: they are dark on a dark page, and sharp in print.
    image = axes.pcolormesh(*edges, shares, cmap=BLUES, vmin=0, vmax=1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    return image
