"""A table of trained victims as text for the terminal and, where a folder is given, as files.

print(shown_table("systematic_table1", "Table 1", cells, ["note: ..."], Path("tables")))
"""

from collections.abc import Sequence
from pathlib import Path

from jaxser.results.cells import csv_text, markdown_table
from jaxser.results.fitted import folded
from jaxser.runtime.files import write_text
from jaxser.runtime.terminal import terminal_width

__all__ = ["shown_table"]

# Model, corpus and the like; what follows are figures.
_NAMES = 3


def shown_table(
    stem: str, title: str, cells: Sequence[Sequence[str]], told: Sequence[str], out: Path | None
) -> str:
    """The table under its title, with remarks below.

    Args:
      stem: name of the files, ``STEM.md`` and ``STEM.csv``.
      title: above the table.
      cells: rows, the first of which is the head.
      told: a remark each.
      out: folder of the files; None writes none.
    """
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join([f"# {title}", markdown_table(cells), *told])
        write_text(out / f"{stem}.md", text + "\n")
        write_text(out / f"{stem}.csv", csv_text(cells))
    table = folded(cells, terminal_width(), left=_NAMES, keys=_NAMES)
    return "\n".join([title, table, *told])
