"""Cells of tables: figures as text, and cells as aligned text or Markdown.

cells = [["attack", "accuracy"], ["pgd", percent(0.25)]]     # the header first
print(aligned(cells))
"""

import csv
import html
import io
import math
import re
from collections.abc import Iterable, Sequence

from jaxser.results.estimate import Estimate
from jaxser.runtime.text import visible

__all__ = [
    "Cells",
    "aligned",
    "csv_text",
    "interval",
    "markdown_row",
    "markdown_table",
    "number",
    "percent",
]

# What spreadsheets take for the beginning of a formula, and figures that begin alike: signs,
# digits, intervals ("-1 to 2") and percentages call no function and name no cell.
_FORMULA = tuple("=+-@＝＋－＠")
_FIGURES = re.compile(r"(?:[-+\d.,%()–\s]|\bto\b)*")

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
    """A line of a Markdown table; what would end a cell, or be taken for a tag, is escaped."""
    shown = (html.escape(" ".join(visible(cell).split()), quote=False) for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, the header first."""
    header, *rest = cells
    return "\n".join(map(markdown_row, [header, ["---"] * len(header), *rest]))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as a CSV file for spreadsheets.

    Text that they would take for a formula begins with an apostrophe, which tells them that it is
    text. Numbers stay as they are.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        writer.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue()


def _harmless(cell: str) -> str:
    cell = visible(cell)
    # Some programs look for the sign behind blanks, too, and tabs begin formulas in others.
    if not cell.lstrip().startswith(_FORMULA) and not cell.startswith(("\t", "\r", "\n")):
        return cell
    return cell if _FIGURES.fullmatch(cell) or _is_number(cell) else f"'{cell}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
