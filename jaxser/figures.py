"""Figures for people, made with matplotlib from numbers alone."""

from pathlib import Path

import matplotlib.figure
import numpy as np
from jaxtyping import Int

from jaxser.files import atomic_file
from jaxser.metrics import recalls, uar

__all__ = ["confusion_figure", "save_figure"]


def confusion_figure(
    matrix: Int[np.ndarray, "classes classes"], labels: tuple[str, ...], title: str
) -> matplotlib.figure.Figure:
    """A confusion matrix: colour is the share of the true class, text the count and the share.

    Args:
      matrix: counts, truth along rows.
      labels: class names.
      title: shown above, followed by the UAR.
    """
    size = 1.5 + 0.75 * len(labels)
    figure = matplotlib.figure.Figure(figsize=(size + 1.2, size), layout="compressed", dpi=120)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        axes.text(
            column,
            row,
            f"{matrix[row, column]}\n{share[row, column]:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share[row, column] > 0.55 else "black",
        )
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(
        ticks,
        [f"{name} ({value:.0%})" for name, value in zip(labels, recalls(matrix), strict=True)],
    )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (recall)")
    axes.set_title(f"{title}\nUAR {float(uar(matrix)):.1%}, {int(matrix.sum())} utterances")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def save_figure(figure: matplotlib.figure.Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)
