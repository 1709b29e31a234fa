"""Tables of defence: attacks on victims as training left them and on hardened ones.

table = load_defence_table(Path("configs/tables/benchmark_table2a.yaml"))

Echim et al., "Benchmarking Adversarial Robustness in SER", Table 2: (a) attacks on
undefended and defended models, (b) on defended models over ε.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from jaxser.config.ranges import Domain
from jaxser.papers.table import Attacked, read_table
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["DefenceTable", "load_defence_table"]


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
            columns = [f"accuracy taken by {name}" for name in self.columns]
            white_box = "accuracy taken, white-box"
            return ["model", "defence", "ε", "average accuracy", white_box, *columns]
        both = ["accuracy", "average accuracy", "accuracy taken", "average accuracy taken"]
        return [
            *("model", "attack", *both),
            *("defended: accuracy before", "defended: average accuracy before"),
            *(f"defended: {name}" for name in both),
        ]


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
