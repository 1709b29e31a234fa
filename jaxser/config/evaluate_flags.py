"""Which flags of ``python -m jaxser.evaluate`` mean something to which tables.

check_flags(given, defaults, {Path("configs/tables/systematic_table1.yaml"): "models"})
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import UsageError

__all__ = ["ATTACKING", "check_flags"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is done with a table of a layout, and the flags that say how, beside those of all."""

    does: str
    flags: tuple[str, ...]


_TRAINED = ("corpus", "lines", "set", "runs")

# Layout -> its tables. Those of ATTACKING attack victims that are given, all others train them.
ATTACKING = "genders"
_DEFENDED = Kind(
    "trains its victims and attacks them",
    (*_TRAINED, "attacks", "defended", "domain", "epsilon", "batch_size", "seed"),
)
_KINDS = {
    ATTACKING: Kind(
        "attacks the victims that it is given",
        ("victim", "corpus", "labels", "seconds", "root", "attacks", "batch_size", "seed"),
    ),
    "models": Kind("trains its victims and attacks none", (*_TRAINED, "seeds")),
    "trained": Kind("trains its victims and attacks none", (*_TRAINED, "seeds", "kinds")),
    "defended": _DEFENDED,
    "epsilon": _DEFENDED,
}
_OF_ALL = ("table", "limit", "out", "interval_over")

# What is meant by a flag that is of the other kind of table.
_INSTEAD = {"victim": "--corpus NAME=FOLDER", "root": "--corpus NAME=FOLDER"}


def check_flags(
    given: Mapping[str, Any], defaults: Mapping[str, Any], layouts: Mapping[Path, str]
) -> None:
    """Refuse a flag without which all would be the same.

    Args:
      given: the value of every flag.
      defaults: that of flags that are not given.
      layouts: of the tables of one command.

    Raises:
      UsageError: a flag that means nothing to any of the tables, or a layout that is of none.
    """
    for path, layout in layouts.items():
        if layout not in _KINDS:
            raise UsageError(
                f"{path} has the layout {layout!r}, which is none of {', '.join(_KINDS)}"
                + ("; give it to python -m jaxser.transfer." if layout == "transfer" else ".")
            )
    kinds = [_KINDS[layout] for layout in layouts.values()]
    known = {*_OF_ALL, *(flag for kind in kinds for flag in kind.flags)}
    for flag, value in given.items():
        if flag not in known and value != defaults[flag]:
            path, *_ = layouts
            instead = f"give {_INSTEAD[flag]}" if flag in _INSTEAD else "leave it out"
            raise UsageError(f"--{flag} means nothing to {path}, which {kinds[0].does}; {instead}.")
