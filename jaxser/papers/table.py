"""Table files: a paper's attacks with the grids of their settings, and the figures it printed.

table = load_table(Path("configs/tables/systematic_table5.yaml"))
for entry in table.attacks:
    for setting in settings(entry): ...
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from jaxser.config import NamedAttack, from_mapping, load_yaml
from jaxser.config.ranges import Domain, Output
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = [
    "Attacked",
    "Figures",
    "Published",
    "Table",
    "load_table",
    "read_table",
    "settings",
    "with_attacks",
]

TableType = TypeVar("TableType")
# A table with attacks and their titles.
ListedType = TypeVar("ListedType", bound=Any)


@dataclasses.dataclass(frozen=True)
class Attacked(NamedAttack):
    """One attack of a table.

    Attributes:
      grid: hyper-parameters of which every value is tried, with every value of the others.
      epsilon: budgets; each is a setting of its own.
      output: what the attack is given of the victim.
    """

    grid: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    epsilon: tuple[float, ...] = ()
    output: Output = "logits"


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one attack did on one corpus: of all, female and male utterances.

    Attributes:
      accuracy: after the attack.
      mean_abs: mean absolute change of a feature.
    """

    accuracy: tuple[float, ...] = ()
    mean_abs: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Published(Figures):
    """What a paper printed.

    Attributes:
      notebooks: what the authors' published notebooks have where that is something else; NaN
        elsewhere.
    """

    notebooks: Figures = dataclasses.field(default_factory=Figures)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table file.

    Attributes:
      title: of the table.
      layout: of the paper's tables: attacks by corpora, for all, female and male utterances.
      domain: what is changed, as in python -m jaxser.attack.
      y: label that is attacked: "truth" or "prediction".
      snr: signal-to-noise ratios in dB at which attacks are compared with each other.
      attacks: its lines.
      published: corpus name -> name of a line, or "original" for no attack -> figures.
      published_seconds: name of a line -> what the paper needed for a test set, at least and at
        most.
      hardware: that it took so long on.
      white_box, black_box: titles of the lines that are counted together, with and without the
        victim's gradients; none are where both are empty.
    """

    title: str = ""
    layout: Literal["genders"] = "genders"
    domain: Domain = "waveform"
    y: Literal["truth", "prediction"] = "truth"
    snr: tuple[float, ...] = ()
    attacks: list[Attacked] = dataclasses.field(default_factory=list)
    published: dict[str, dict[str, Published]] = dataclasses.field(default_factory=dict)
    published_seconds: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    hardware: str = ""
    white_box: tuple[str, ...] = ()
    black_box: tuple[str, ...] = ()

    @property
    def titles(self) -> list[str]:
        return [entry.title for entry in self.attacks]


def with_attacks(tables: Sequence[ListedType], names: Sequence[str] | None) -> list[ListedType]:
    """Tables with the attacks that are asked for; one table may lack those of another.

    Raises:
      UsageError: no table has one of them.
    """
    if names is None:
        return list(tables)
    titles = list(dict.fromkeys(title for table in tables for title in table.titles))
    for name in names:
        if name not in titles:
            raise UsageError(f"no table has {name!r}; {nearest_name(name, titles)}")
    chosen = [
        dataclasses.replace(table, attacks=[a for a in table.attacks if a.title in names])
        for table in tables
    ]
    return [table for table in chosen if table.attacks]


def settings(entry: Attacked) -> Iterator[dict[str, Any]]:
    """The hyper-parameters of every setting of the grid."""
    for values in itertools.product(*entry.grid.values()):
        yield dict(zip(entry.grid, values, strict=True))


def load_table(path: Path) -> Table:
    """Read a table file; UsageError for what is not known or missing."""
    table = read_table(Table, path)
    names = ["original", *table.titles]
    published = [*map(list, table.published.values()), list(table.published_seconds)]
    for name in itertools.chain(*published, table.white_box, table.black_box):
        if name not in names:
            raise UsageError(
                f"{path} has published figures of {name!r}, which is no attack there; "
                f"{nearest_name(name, names)}"
            )
    return table


def read_table(kind: type[TableType], path: Path) -> TableType:
    """A table file of any layout as its dataclass, with checked attacks.

    Raises:
      UsageError: what is not known or missing.
    """
    values = load_yaml(path)
    entries = values.get("attacks")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path} must list attacks: under 'attacks'.")
    checked = [from_mapping(Attacked, entry, str(path)) for entry in entries]
    table = from_mapping(kind, {**values, "attacks": []}, str(path))
    return dataclasses.replace(table, attacks=checked)  # type: ignore[type-var]
