"""What became of the cells of a sweep, as its processes note it beside the rows.

note_outcomes(out, [Outcome("pgd on runs/demo (seed 0)", rows=800)])
for outcome in read_outcomes(out): ...
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from jaxser.runtime.sharding import Share

__all__ = ["Outcome", "forget_outcomes", "note_outcomes", "read_outcomes"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a cell, or of a share of it.

    Attributes:
      cell: its name.
      rows: that are there, those of other victims included.
      reason: why it failed; "" where it did not.
    """

    cell: str
    rows: int = 0
    reason: str = ""

    def line(self) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "state": "failed" if self.reason else "done",
            "rows": self.rows,
            "reason": self.reason,
        }


def note_outcomes(out: Path, outcomes: Sequence[Outcome], share: "Share | None" = None) -> None:
    """Write what became of the cells so far.

    Args:
      out: folder of the sweep.
      outcomes: of all cells so far.
      share: of the process, where there are several: each has a file of its own.
    """
    name = "sweep.json"
    if share is not None and share.count > 1:
        name = f"sweep-{share.index}-of-{share.count}.json"
    lines = [outcome.line() for outcome in outcomes]
    write_text(out / name, json.dumps(lines, indent=1) + "\n")


def forget_outcomes(out: Path) -> None:
    """Remove what earlier runs noted, perhaps with another number of processes."""
    for path in _files(out):
        path.unlink()


def read_outcomes(out: Path) -> list[Outcome]:
    """Of all processes; none where ``out`` is no sweep's folder.

    Raises:
      InputError: a file is damaged.
    """
    found = []
    for path in _files(out):
        advice = "run the sweep again, which writes it anew"
        lines = read_json(path, advice)
        if not isinstance(lines, list) or not all(map(_is_line, lines)):
            raise InputError(f"{path} is damaged (it is no list of cells); {advice}.")
        found += [Outcome(line["cell"], line["rows"], line["reason"]) for line in lines]
    return found


def _is_line(line: Any) -> bool:
    kinds = {"cell": str, "rows": int, "reason": str}
    return isinstance(line, dict) and all(
        isinstance(line.get(name), kind) for name, kind in kinds.items()
    )


def _files(out: Path) -> list[Path]:
    return sorted([*out.glob("sweep.json"), *out.glob("sweep-*-of-*.json")])
