"""A section of a report: a table of plain text, pictures or both, for whatever format."""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from jaxser.results.cells import Cells

__all__ = ["Card", "Picture", "Section"]


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A figure, drawn when a page or a file asks for it.

    Attributes:
      figure: of matplotlib.
      words: what it shows, for those who do not see it.
      name: of its files.
    """

    figure: Figure
    words: str
    name: str


@dataclasses.dataclass(frozen=True)
class Card:
    """An answer that is read before anything else.

    Attributes:
      title: what it is of.
      figures: the figures themselves, by what they are; the last one is the answer.
      facts: sentences or figures beside it, by what they are.
      doubts: what says that the answer is not to be trusted.
    """

    title: str
    figures: Mapping[str, str]
    facts: Mapping[str, str]
    doubts: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Section:
    """A table or pictures, or both.

    Attributes:
      title: of the section.
      name: of its files.
      cells: of its table, the header first; empty for none.
      text: sentences that explain it.
      pictures: beside each other where there is room.
      group: heading that it stands under together with others; its title by default.
      audio: WAV files to listen to, by what they are.
      cards: stand in the place of the table on a page.
    """

    title: str
    name: str
    cells: Cells = dataclasses.field(default_factory=list)
    text: str = ""
    pictures: Sequence[Picture] = ()
    group: str = ""
    audio: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    cards: Sequence[Card] = ()
