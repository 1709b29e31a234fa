"""Cells of tables: figures as text, and cells as aligned text or Markdown.

cells = [["attack", "accuracy"], ["pgd", percent(0.25)]]     # the header first
print(aligned(cells))
same, varying = constant_columns(cells)                      # what every line says, once
"""

import csv
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from jaxser.results.estimate import Estimate
from jaxser.runtime.terminal import shown_width
from jaxser.runtime.text import visible

__all__ = [
    "Cell",
    "Cells",
    "aligned",
    "constant_columns",
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


class Cell(str):
    """A cell that knows the numbers that it writes, for files that programs read.

    Attributes:
      parts: the numbers, or what they count, by what follows the column's name: "" for the figure
        itself, "low" and "high" for its interval.
    """

    __slots__ = ("parts",)
    parts: Mapping[str, float | str]

    def __new__(cls, text: str, parts: Mapping[str, float | str]) -> "Cell":
        """A cell that shows ``text``."""
        made = super().__new__(cls, text)
        made.parts = dict(parts)
        return made


def number(value: float, form: str, undefined: str = "–") -> str:
    """A number in a format of :func:`format`; a dash, or another text, for what is not defined."""
    return Cell(format(value, form) if math.isfinite(value) else undefined, {"": value})


def percent(value: float, undefined: str = "–") -> str:
    """A share in per cent, with one digit after the point."""
    return number(value, ".1%", undefined)


def interval(estimate: Estimate, undefined: str = "–", *, signed: bool = False) -> str:
    """A share and its interval, in per cent; or a difference, with its sign."""
    if math.isnan(estimate.value):
        text = undefined
    elif signed:
        text = f"{estimate.value:+.1%} ({estimate.low:+.1%} to {estimate.high:+.1%})"
    else:
        text = f"{estimate.value:.1%} ({estimate.low:.1%}–{estimate.high:.1%})"
    return Cell(text, {"": estimate.value, "low": estimate.low, "high": estimate.high})


def constant_columns(cells: Sequence[Sequence[str]]) -> tuple[dict[str, str], Cells]:
    """What all lines say alike, by column, and the cells of the columns that differ.

    A table of one line keeps its figures, and others their figures with intervals: that two of them
    are alike is a result.

    Args:
      cells: the header first.
    """
    header, *lines = cells
    kept = [place for place, column in enumerate(zip(*lines, strict=True)) if _varies(column)]
    if not kept:
        return {}, [list(line) for line in cells]
    same = {header[i]: lines[0][i] for i in range(len(header)) if i not in kept}
    return same, [[line[place] for place in kept] for line in cells]


def _varies(column: Sequence[str]) -> bool:
    first = column[0]
    if len(set(column)) > 1:
        return True
    return isinstance(first, Cell) and (len(column) == 1 or "low" in first.parts)


def aligned(cells: Sequence[Sequence[str]], left: int = 0) -> str:
    """Lines of plain text in columns of equal width, without spaces at their ends.

    Args:
      cells: the header first; all lines of one length.
      left: how many columns, from the first on, are flush left; numbers are read flush right.
    """
    widths = [max(map(shown_width, column)) for column in zip(*cells, strict=True)]

    def padded(place: int, cell: str) -> str:
        blanks = " " * (widths[place] - shown_width(cell))
        return cell + blanks if place < left else blanks + cell

    return "\n".join("  ".join(map(padded, range(len(row)), row)).rstrip() for row in cells)


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
