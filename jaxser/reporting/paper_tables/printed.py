"""Figures of a paper as cells beside one's own: what was printed, and what its notebooks have.

printed_figures(table.published["emodb"]["C&W"], "accuracy", percent)
# ["6.9%", "7.6% (notebooks: 6.5%)", "6.5% (notebooks: 7.6%)"]
"""

import itertools
import math
from collections.abc import Callable

from jaxser.papers.table import Published

__all__ = ["printed_figures"]


def printed_figures(
    figures: Published | None, name: str, shown: Callable[[float], str]
) -> list[str]:
    """Of all, female and male utterances; empty where the paper has nothing.

    Args:
      figures: of one attack on one corpus.
      name: "accuracy" or "mean_abs".
      shown: how a figure is written.
    """
    if figures is None:
        return []
    pairs = itertools.zip_longest(
        getattr(figures, name), getattr(figures.notebooks, name), fillvalue=math.nan
    )
    return [_cell(*pair, shown) for pair in pairs]


def _cell(printed: float, notebook: float, shown: Callable[[float], str]) -> str:
    text = "–" if math.isnan(printed) else shown(printed)
    return text if math.isnan(notebook) else f"{text} (notebooks: {shown(notebook)})"
