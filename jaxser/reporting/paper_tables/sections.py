"""Papers' tables as sections of a report.

papers = load_papers(paths, [])
made = [section for paper in papers for section in paper_sections(rows, paper)]
"""

from collections.abc import Iterator

from jaxser.papers.defence import DefenceTable
from jaxser.papers.transfer import TransferTable
from jaxser.reporting.paper_tables.defence import defence_sections
from jaxser.reporting.paper_tables.genders import gender_sections
from jaxser.reporting.paper_tables.paper import Paper
from jaxser.reporting.paper_tables.transfer import transfer_sections
from jaxser.reporting.rows import Rows
from jaxser.reporting.section import Section

__all__ = ["paper_sections"]


def paper_sections(rows: Rows, paper: Paper) -> Iterator[Section]:
    """The paper's table of what was measured, and what it printed."""
    if isinstance(paper.table, TransferTable):
        yield from transfer_sections(rows, paper, paper.table)
    elif isinstance(paper.table, DefenceTable):
        yield from defence_sections(rows, paper, paper.table)
    else:
        yield from gender_sections(rows, paper, paper.table)
