"""Tables of trained victims: accuracy by victim, kind of image and corpus, before any attack.

table = load_trained_table(Path("configs/tables/benchmark_table1.yaml"))
table.printed("mel", "AlexNet", "emodb")            # accuracy and average accuracy

Echim et al., "Benchmarking Adversarial Robustness in SER", Table 1.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from jaxser.config import from_mapping, load_yaml
from jaxser.runtime.errors import UsageError

__all__ = ["TrainedTable", "load_trained_table"]


@dataclasses.dataclass(frozen=True)
class TrainedTable:
    """A table file.

    Attributes:
      title: of the table.
      layout: of the paper's table: a line for each kind of image and victim.
      kinds: of images.
      corpora: registry names.
      seeds: runs of every cell.
      victims: name of a line -> config that trains it, with ``{corpus}`` in the place of a name.
      published: what the paper printed: kind, victim, accuracy by corpus, average accuracy by
        corpus.
    """

    title: str = ""
    layout: Literal["trained"] = "trained"
    kinds: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    victims: dict[str, str] = dataclasses.field(default_factory=dict)
    published: list[list[Any]] = dataclasses.field(default_factory=list)

    def printed(self, kind: str, victim: str, corpus: str) -> tuple[float, float]:
        """The paper's accuracy and average accuracy, NaN where it has none."""
        place = self.corpora.index(corpus)
        for line in self.published:
            if line[:2] == [kind, victim]:
                return float(line[2 + place]), float(line[2 + len(self.corpora) + place])
        return float("nan"), float("nan")


def load_trained_table(path: Path) -> TrainedTable:
    """Read a table file; UsageError for what is not known or missing."""
    table = from_mapping(TrainedTable, load_yaml(path), str(path))
    for name in ("kinds", "corpora", "seeds", "victims"):
        if not getattr(table, name):
            raise UsageError(f"{path} must say {name}:.")
    width = 2 + 2 * len(table.corpora)
    for line in table.published:
        if len(line) != width:
            raise UsageError(
                f"{path} has {len(line)} entries in the line of {' '.join(map(str, line[:2]))}, "
                f"which needs {width}."
            )
        if line[0] not in table.kinds or line[1] not in table.victims:
            raise UsageError(
                f"{path} has published figures of {line[0]} {line[1]}, which is no line there."
            )
    return table
