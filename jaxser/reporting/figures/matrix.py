"""A table of shares as a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import new_figure

__all__ = ["matrix_figure"]


def matrix_figure(
    shares: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    scale: str,
    of_rows: str = "trained against",
) -> Figure:
    """Shares as colours and in per cent; a cell that nothing is known of is empty.

    Args:
      shares: from 0 to 1; NaN for none.
      rows, columns: what they are of.
      title: shown above.
      scale: what the shares are.
      of_rows: what the names of the rows are.
    """
    size = (2.6 + 0.8 * len(columns), 1.6 + 0.5 * len(rows))
    figure = new_figure(size, dpi=120)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(np.isfinite(shares)):
        axes.text(
            column,
            row,
            f"{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color="black" if shares[row, column] > 0.6 else "white",
        )
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("attacked with")
    axes.set_ylabel(of_rows)
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label=scale)
    return figure
