"""The tables of a report as files: CSV, Markdown and LaTeX.

write_tables(made, Path("tables"), ".tex")
"""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxser.reporting.section import Section
from jaxser.results.cells import csv_text, markdown_row
from jaxser.runtime.files import write_text
from jaxser.runtime.text import visible

__all__ = ["csv_table", "latex_table", "markdown_table", "write_tables"]


def write_tables(made: Iterable[Section], folder: Path, suffix: str) -> None:
    """A file for every section that has a table, named after the section.

    Args:
      made: sections of a report.
      folder: made where it is missing.
      suffix: ".csv", ".md" or ".tex".
    """
    form = {".csv": csv_table, ".md": markdown_table, ".tex": latex_table}[suffix]
    for section in made:
        if section.cells:
            write_text(folder / f"{section.name}{suffix}", form(section))


def csv_table(section: Section) -> str:
    """Cells as they are, for spreadsheets, which must not take any for a formula."""
    return csv_text(section.cells)


def markdown_table(section: Section) -> str:
    """Title, text and cells; what Markdown would take for a tag is escaped."""
    header, *rest = section.cells
    lines = [
        f"## {html.escape(visible(section.title), quote=False)}",
        "",
        visible(section.text),
        "",
        markdown_row(header),
        "|" + "---|" * len(header),
    ]
    return "\n".join([*lines, *map(markdown_row, rest), ""])


def latex_table(section: Section) -> str:
    """A tabular, to be put into a table of one's own."""

    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex_text, cells)) + r" \\"

    header, *rest = section.cells
    columns = "l" * len(header)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", row(header), r"\hline"]
    return "\n".join([*lines, *map(row, rest), r"\hline", r"\end{tabular}", ""])


def _latex_text(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"ε": r"$\varepsilon$", "→": r"$\rightarrow$", "∞": r"$\infty$", "–": "--"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in visible(text))
