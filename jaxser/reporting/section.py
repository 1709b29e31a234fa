"""A section of a report: a table of plain text, a picture or both, for whatever format."""

import dataclasses
from collections.abc import Mapping

from jaxser.results.cells import Cells

__all__ = ["Section"]


@dataclasses.dataclass(frozen=True)
class Section:
    """One table or picture, or both.

    Attributes:
      title: of the section.
      name: of its files.
      cells: of its table, the header first; empty for none.
      text: sentences that explain it.
      png: a picture, and what it shows in words.
      group: heading that it stands under together with others; its title by default.
      audio: WAV files to listen to, by what they are.
    """

    title: str
    name: str
    cells: Cells = dataclasses.field(default_factory=list)
    text: str = ""
    png: tuple[bytes, str] | None = None
    group: str = ""
    audio: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
