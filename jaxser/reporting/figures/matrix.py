"""A table of shares as a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import column_figure, shortened
from jaxser.reporting.figures.confusion import draw_shares

__all__ = ["matrix_figure"]

# Letters of a name that has room as it is, and the width of one more in inches.
_SHORT = 12
_LETTER = 0.06


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
    rows, columns = ([shortened(name) for name in names] for names in (rows, columns))
    # Beyond a few letters names take room of their own, those of columns at a slant.
    beside, below = (max(map(len, names)) - _SHORT for names in (rows, columns))
    figure = column_figure(
        1.3 + 0.3 * len(rows) + max(0, below) * _LETTER / 2,
        2.2 + 0.5 * len(columns) + max(0, beside) * _LETTER,
    )
    axes = figure.subplots()
    image = draw_shares(axes, shares)
    for row, column in np.argwhere(np.isfinite(shares)):
        text = f"{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("attacked with")
    axes.set_ylabel(of_rows)
    axes.set_title(shortened(title), fontsize=8)
    figure.colorbar(image, ax=axes, label=scale)
    return figure
