"""Tables of models that a paper trained: figures of parts by model and corpus, before any attack.

    table = load_model_table(Path("configs/tables/systematic_table2.yaml"))
    table.printed("M1", "emodb", "test")["accuracy"]        # 0.83, and 0.00 over the seeds

Facchinetti et al., 2024, Tables 1 and 2; Chang et al., "STAA-Net", Tables 2 and 3.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxser.config import from_mapping, load_yaml
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["AVERAGE", "ModelTable", "Printed", "load_model_table"]

# In the place of a corpus: the mean over all of a table.
AVERAGE = "average"

Figure = Literal["accuracy", "uar"]


@dataclasses.dataclass(frozen=True)
class Printed:
    """A figure as a paper has it, and its deviation over seeds; NaN where it has none."""

    value: float = math.nan
    deviation: float = math.nan


@dataclasses.dataclass(frozen=True)
class ModelTable:
    """A table file.

    Attributes:
      title: of the table.
      layout: of the paper's table: a line per model, columns of corpora, parts and figures.
      corpora: registry names.
      seeds: of the runs of every cell; each draws its own split where a split is drawn.
      config: file that trains, with ``{corpus}`` in the place of a name.
      settings: dotted names and values that take the place of what the file says, in all lines.
      models: name of a line -> such settings of its own; ``config`` is a file of its own.
      pretrained: lines that go on from a checkpoint, which the command has to give.
      parts: of a corpus, in the order of the paper's figures.
      figures: that the paper has of each part.
      others: lines that the paper quotes from other papers.
      published: what the paper printed: a line's name, then, for each corpus (and after several
        corpora their average) and each part, the figures, each with its deviation where there are
        several seeds.
      remark: a sentence that must stand beside the paper's figures.
    """

    title: str = ""
    layout: Literal["models"] = "models"
    corpora: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    config: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    pretrained: tuple[str, ...] = ()
    parts: tuple[Literal["val", "test"], ...] = ("test",)
    figures: tuple[Figure, ...] = ("accuracy",)
    others: tuple[str, ...] = ()
    published: list[list[Any]] = dataclasses.field(default_factory=list)
    remark: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpora, and their average where there are several."""
        return (*self.corpora, AVERAGE) if len(self.corpora) > 1 else self.corpora

    def printed(self, model: str, corpus: str, part: str) -> Mapping[Figure, Printed]:
        """The paper's figures of a line; NaN where it has none."""
        for name, *values in self.published:
            if name == model:
                width = 2 if len(self.seeds) > 1 else 1
                of_each = [
                    Printed(*map(float, values[place : place + width]))
                    for place in range(0, len(values), width)
                ]
                places: Iterator[tuple[str, str, Figure]] = itertools.product(
                    self.columns, self.parts, self.figures
                )
                found = dict(zip(places, of_each, strict=True))
                return {each: found[corpus, part, each] for each in self.figures}
        return {each: Printed() for each in self.figures}


def load_model_table(path: Path) -> ModelTable:
    """Read a table file; UsageError for what is not known or missing."""
    table = from_mapping(ModelTable, load_yaml(path), str(path))
    for name in ("corpora", "seeds", "models", "parts", "figures"):
        if not getattr(table, name):
            raise UsageError(f"{path} must say {name}:.")
    if not table.config and any("config" not in own for own in table.models.values()):
        raise UsageError(f"{path} must say config:, or every model its own.")
    for name in table.pretrained:
        if name not in table.models:
            raise UsageError(
                f"{path}: pretrained has {name!r}, which is no model there; "
                f"{nearest_name(name, table.models)}"
            )
    width = len(table.columns) * len(table.parts) * len(table.figures)
    width = 1 + width * (2 if len(table.seeds) > 1 else 1)
    known = [*table.models, *table.others]
    for line in table.published:
        name = str(line[0]) if line else ""
        if name not in known:
            raise UsageError(
                f"{path} has published figures of {name!r}, which is no model there; "
                f"{nearest_name(name, known)}"
            )
        if len(line) != width:
            raise UsageError(
                f"{path} has {len(line)} entries in the line of {name}, which needs {width}."
            )
    return table
