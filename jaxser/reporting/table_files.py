"""The tables of a report as files, CSV, Markdown and LaTeX; and its figures, PDF, SVG and PNG.

write_tables(made, Path("tables"), ".tex")
write_figures(made, Path("figures"))
"""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxser.reporting.figures.canvas import figure_file
from jaxser.reporting.section import Section
from jaxser.results.cells import Cell, constant_columns, csv_text, markdown_row
from jaxser.runtime.files import atomic_file, write_text
from jaxser.runtime.text import file_stem, visible

__all__ = ["csv_table", "latex_table", "markdown_table", "write_figures", "write_tables"]

# Signs in the names of columns, and what norms are called, in files that programs read.
_WORDS = {
    "ε": "epsilon",
    "±": "deviation",
    "%": "percent",
    "≤": "up to",
    "×": "times",
    "→": "to",
    "−": "minus",
}
# Letters of formulas, and their names.
_GREEK = {"α": "alpha", "β": "beta", "δ": "delta", "λ": "lambda", "σ": "sigma", "Δ": "Delta"}
_NORMS = {"L∞": "Linf"}
_NEGATIVE = re.compile(r"(?<!\w)-(?=\d)")

# What LaTeX takes for something else, or has no letter for.
_LATEX = str.maketrans(
    {
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"ε": r"$\varepsilon$", "→": r"$\rightarrow$", "∞": r"$\infty$", "–": "--"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "≤": r"$\leq$", "±": r"$\pm$"},
        **{"×": r"$\times$", "−": "$-$", "|": r"\textbar{}"},
        **{letter: f"$\\{name}$" for letter, name in _GREEK.items()},
    }
)


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


def write_figures(made: Iterable[Section], folder: Path) -> None:
    """Every figure as PDF, SVG and PNG.

    Args:
      made: sections of a report.
      folder: made where it is missing.
    """
    for section in made:
        for picture in section.pictures:
            for form in ("pdf", "svg", "png"):
                with atomic_file(folder / f"{picture.name}.{form}") as temporary:
                    temporary.write_bytes(figure_file(picture.figure, form))


def csv_table(section: Section) -> str:
    """Cells for programs: every number by itself, a share from 0 to 1, headers in ASCII.

    A figure with an interval has three columns, such as ``robust_accuracy``,
    ``robust_accuracy_low`` and ``robust_accuracy_high``; what is not known is empty. Text is fit
    for spreadsheets, which must not take any for a formula.
    """
    columns: list[list[object]] = []
    for name, *cells in zip(*section.cells, strict=True):
        # A table without a line has its header.
        parts = list(dict.fromkeys(part for cell in cells for part in _parts(cell))) or [""]
        for part in parts:
            title = "_".join(filter(None, [_ascii(name), part]))
            columns.append([title, *(_plain(_parts(cell).get(part)) for cell in cells)])
    return csv_text(zip(*columns, strict=True))


def _parts(cell: str) -> Mapping[str, float | str | None]:
    """What a cell says, by what follows the column's name; nothing for a dash."""
    return cell.parts if isinstance(cell, Cell) else {"": None if cell == "–" else cell}


def _plain(value: float | str | None) -> object:
    """For a program: nothing for what is not defined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return _NORMS.get(value, value) if isinstance(value, str) else value


def _ascii(name: str) -> str:
    """A column's name in small letters, digits and ``_``."""
    for sign, word in (_WORDS | _GREEK).items():
        name = name.replace(sign, f" {word} ")
    return file_stem(_NEGATIVE.sub("minus ", name))


def markdown_table(section: Section) -> str:
    """Title, text and cells; what Markdown would take for a tag is escaped."""
    header, *rest = section.cells
    lines = [
        f"## {html.escape(' '.join(visible(section.title).split()), quote=False)}",
        "",
        visible(section.text),
        "",
        markdown_row(header),
        "|" + "---|" * len(header),
    ]
    return "\n".join([*lines, *map(markdown_row, rest), ""])


def latex_table(section: Section) -> str:
    """A table for booktabs, with caption and label; what all lines say alike is in the caption."""

    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex_text, cells)) + r" \\"

    same, (header, *rest) = constant_columns(section.cells)
    told = ", ".join(f"{name} {value}" for name, value in same.items() if value != "–")
    caption = f"{section.title}{f' ({told})' if told else ''}. {section.text}".strip()
    # Words to the left, figures to the right.
    kinds = ["r" if any(isinstance(line[i], Cell) for line in rest) else "l"
             for i in range(len(header))]  # fmt: skip
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_text(caption)}}}",
        rf"\label{{tab:{section.name}}}",
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        row(header),
        r"\midrule",
        *map(row, rest),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _latex_text(text: str) -> str:
    """Text in one line, as a paragraph would end a caption."""
    line = " ".join(visible(text).split())
    # Behind the end of a row these two would belong to it.
    begin = "{}" if line.startswith(("[", "*")) else ""
    return begin + line.translate(_LATEX)
