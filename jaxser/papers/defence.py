"""Tables of defence: attacks on victims as training left them and on hardened ones.

table = load_defence_table(Path("configs/tables/benchmark_table2a.yaml"))

Echim et al., "Benchmarking Adversarial Robustness in SER", Table 2: (a) attacks on
undefended and defended models, (b) on defended models over ε.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxser.config.ranges import Domain
from jaxser.papers.table import Attacked, read_table
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["BOTH_PARTS", "DefenceTable", "load_defence_table"]

# What the paper calls the average.
BOTH_PARTS = "train and test"


@dataclasses.dataclass(frozen=True)
class DefenceTable:
    """A table file.

    Attributes:
      title: of the table.
      layout: "defended": a line per model and attack; "epsilon": per model, defence and ε.
      domain: what is changed, as in python -m jaxser.attack.
      y: label that is attacked: "truth" or "prediction".
      attacks: its lines, and its columns.
      columns: of the attacks, with layout "epsilon": those that every defence is attacked with.
      corpus: that the paper's figures are of.
      corpora: registry names of what victims can be trained on.
      kind: of the images that victims are trained on.
      victims: name of a line -> config that trains it, with ``{corpus}`` in the place of a name.
      published: what the paper printed, in the columns of the layout.
      readings: lines that the paper misprinted, as they must have been meant.
      remarks: what has to be known of the printed figures.
    """

    title: str = ""
    layout: Literal["defended", "epsilon"] = "defended"
    domain: Domain = "waveform"
    y: Literal["truth", "prediction"] = "truth"
    attacks: list[Attacked] = dataclasses.field(default_factory=list)
    columns: tuple[str, ...] = ()
    corpus: str = ""
    corpora: tuple[str, ...] = ()
    kind: str = ""
    victims: dict[str, str] = dataclasses.field(default_factory=dict)
    published: list[list[Any]] = dataclasses.field(default_factory=list)
    readings: list[list[Any]] = dataclasses.field(default_factory=list)
    remarks: tuple[str, ...] = ()

    @property
    def lines(self) -> list[Attacked]:
        """The attacks that are no columns."""
        return [entry for entry in self.attacks if entry.title not in self.columns]

    @property
    def header(self) -> list[str]:
        """What the columns are; the paper calls the share of accuracy that is taken success."""
        if self.layout == "epsilon":
            columns = [f"accuracy taken by {name}, {BOTH_PARTS}" for name in self.columns]
            white_box = f"accuracy taken, white-box, {BOTH_PARTS}"
            return ["model", "defence", "ε", f"accuracy, {BOTH_PARTS}", white_box, *columns]
        left, taken = (
            (f"{name}, test", f"{name}, {BOTH_PARTS}") for name in ("accuracy", "accuracy taken")
        )
        before = (f"accuracy before, {parts}" for parts in ("test", BOTH_PARTS))
        return [
            *("model", "attack", *left, *taken),
            *(f"defended: {name}" for name in (*before, *left, *taken)),
        ]

    def only(self, victims: Sequence[str], attacks: Sequence[str]) -> "DefenceTable":
        """The table with what the paper printed of some victims and attacks alone.

        Args:
          victims: names of lines.
          attacks: titles; the line before any attack stays.
        """

        def kept(line: Sequence[Any]) -> bool:
            # A reading has a remark in brackets behind the name.
            return line[0].partition(" (")[0] in victims and line[1] in ("none", *attacks)

        published, readings = (
            [line for line in lines if kept(line)] for lines in (self.published, self.readings)
        )
        remarks = self.remarks if published else ()
        return dataclasses.replace(self, published=published, readings=readings, remarks=remarks)


def load_defence_table(path: Path) -> DefenceTable:
    """Read a table file; UsageError for what is not known or missing."""
    table = read_table(DefenceTable, path)
    titles = [entry.title for entry in table.attacks]
    for name in table.columns:
        if name not in titles:
            raise UsageError(
                f"{path} has a column {name!r}, which is no attack there; "
                f"{nearest_name(name, titles)}"
            )
    for cells in [*table.published, *table.readings]:
        if len(cells) != len(table.header):
            raise UsageError(
                f"{path} has {len(cells)} published figures in the line of "
                f"{' '.join(map(str, cells[:2]))}, which needs {len(table.header)}."
            )
    return table
