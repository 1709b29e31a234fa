"""Cells of tables: figures as text, and cells as aligned text or Markdown.

cells = [["attack", "accuracy"], ["pgd", percent(0.25)]]     # the header first
print(aligned(cells))
"""

import math
from collections.abc import Sequence

from jaxser.results.estimate import Estimate

__all__ = ["Cells", "aligned", "interval", "markdown_row", "markdown_table", "number", "percent"]

Cells = list[list[str]]


def number(value: float, form: str, undefined: str = "–") -> str:
    """A number in a format of :func:`format`; a dash, or another text, for what is not defined."""
    return format(value, form) if math.isfinite(value) else undefined


def percent(value: float, undefined: str = "–") -> str:
    """A share in per cent, with one digit after the point."""
    return number(value, ".1%", undefined)


def interval(estimate: Estimate, undefined: str = "–") -> str:
    """A share and its interval, in per cent."""
    if math.isnan(estimate.value):
        return undefined
    return f"{estimate.value:.1%} ({estimate.low:.1%}–{estimate.high:.1%})"


def aligned(cells: Sequence[Sequence[str]], left: int = 0) -> str:
    """Lines of plain text in columns of equal width, without spaces at their ends.

    Args:
      cells: the header first; all lines of one length.
      left: how many columns, from the first on, are flush left; numbers are read flush right.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table; bars within cells are escaped, as they would end them."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, the header first."""
    header, *rest = cells
    return "\n".join(map(markdown_row, [header, ["---"] * len(header), *rest]))
