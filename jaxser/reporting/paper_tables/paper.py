"""Table files of papers, and which run each of their lines is of.

papers = load_papers([Path("configs/tables/staa_net_table4.yaml")], ["STAA-Net=runs/staa_net"])
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxser.config import load_yaml
from jaxser.papers.defence import DefenceTable, load_defence_table
from jaxser.papers.table import Table, load_table
from jaxser.papers.transfer import TransferTable, load_transfer_table
from jaxser.reporting.section import Section
from jaxser.results.cells import Cells
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["GROUP", "Paper", "lacking", "load_papers", "published_section"]

# Heading that all tables of papers stand under.
GROUP = "Tables of papers"

_LAYOUTS: Mapping[str, Callable[[Path], Any]] = {
    "genders": load_table,
    "transfer": load_transfer_table,
    "defended": load_defence_table,
    "epsilon": load_defence_table,
}


@dataclasses.dataclass(frozen=True)
class Paper:
    """A table file.

    Attributes:
      name: of the file, without folder and suffix.
      table: what it says.
      runs: title of a line -> its generators, or the victims that were hardened against it.
    """

    name: str
    table: Table | TransferTable | DefenceTable
    runs: Mapping[str, tuple[str, ...]]


def load_papers(paths: Sequence[Path], lines: Sequence[str]) -> list[Paper]:
    """Table files, and which run a line is of.

    Args:
      paths: of the files.
      lines: "LINE=RUN" each, with the title of a line of one of them.

    Raises:
      UsageError: what is not known, missing or impossible.
    """
    tables = {}
    for path in paths:
        layout = load_yaml(path).get("layout", "genders")
        if layout not in _LAYOUTS:
            raise UsageError(f"{path} has layout {layout!r}; {nearest_name(str(layout), _LAYOUTS)}")
        tables[path.stem] = _LAYOUTS[layout](path)
    titles = [entry.title for table in tables.values() for entry in table.attacks]
    runs: dict[str, tuple[str, ...]] = {}
    for text in lines:
        title, equals, run = text.partition("=")
        if not (equals and run):
            raise UsageError(f"--line {text!r} is not of the form LINE=RUN.")
        if title not in titles:
            raise UsageError(f"--line {text!r} is for no line; {nearest_name(title, titles)}")
        runs[title] = (*runs.get(title, ()), str(Path(run)))
    return [Paper(name, table, runs) for name, table in tables.items()]


def published_section(
    paper: Paper, title: str, corpus: str, cells: Cells, text: str = ""
) -> Section:
    """What the paper printed, the header first, beside what was measured."""
    return Section(
        f"{title}, as published, on {corpus}", f"{paper.name}_published", cells, text, group=GROUP
    )


def lacking(goal: str, domain: str) -> str:
    """What a page says in place of a table that no rows are of."""
    return (
        f"No rows are of the attacks of this table, which leave the {goal} and change the {domain}."
    )
