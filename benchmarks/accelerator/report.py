"""The file of a call, written whole after every cell, and the lines that are printed.

report = Report(args, "bfloat16")
report.begin(ceilings)
report.add(lines)
report.write()
"""

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerator.ceilings import Ceilings
from benchmarks.accelerator.cells import Cell
from benchmarks.command import environment_of_sides, write_json
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import read_json
from jaxser.runtime.text import one_line

__all__ = ["Report", "arguments_of", "reason_of"]

_AGAIN = "measure it anew, without --go_on"


class Report:
    """What was measured so far.

    Args:
      args: of the command; with ``go_on`` what the file holds is kept.
      dtype: that all sides compute in.
    """

    def __init__(self, args: argparse.Namespace, dtype: str) -> None:
        self._args = args
        self._content: dict[str, Any] = {
            "environment": environment_of_sides(),
            "benchmark": "accelerator",
            "arguments": arguments_of(args) | {"peers": args.peers, "pairs": args.pairs},
            "seconds": args.seconds,
            "dtype": dtype,
            "ceilings": None,
            "measured": [],
            "left": [],
        }
        if args.go_on and args.out.exists():
            self._content["measured"] = _measured_before(args.out, self._content)
        self._known = {_key(line) for line in self._content["measured"]}

    def has(self, cell: Cell) -> bool:
        """Whether the file had a cell from before."""
        return (cell.victim or "waveunet", cell.task, cell.batch) in self._known

    def begin(self, ceilings: Ceilings) -> None:
        """Say what the device can do at best."""
        found = dataclasses.asdict(ceilings)
        self._content["ceilings"] = found
        shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if value)
        print(f"{self._content['environment']['device']}: {shown}\n{_HEADER}", flush=True)
        self.write()

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """The sides of a cell."""
        self._content["measured"] += lines
        for line in lines:
            print(_shown(line), flush=True)

    def leave(self, cell: Cell, reason: str, side: str = "jaxser") -> None:
        """Why a side of a cell was not measured."""
        self._content["left"].append({"cell": str(cell), "side": side, "reason": reason})

    def write(self) -> None:
        """The file, as it is to be read."""
        if self._args.out is not None:
            write_json(self._args.out, self._content)


def _measured_before(path: Path, now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of a file that a call like this one wrote.

    Raises:
      UsageError: it holds something else, with which the lines of this call cannot stand.
    """
    before = read_json(path, _AGAIN)
    for name, value in _alike(now).items():
        found = _alike(before).get(name)
        if found != value:
            raise UsageError(f"{path} has {name} {found!r}, and this call {value!r}; {_AGAIN}.")
    measured: list[dict[str, Any]] = before["measured"]
    return measured


def _alike(content: Any) -> dict[str, Any]:
    """What all lines of a file have in common."""
    if not isinstance(content, dict):
        return {}
    found = {name: content.get(name) for name in ("benchmark", "seconds", "dtype")}
    found["device"] = (content.get("environment") or {}).get("device")
    # Files that hold no lines are of another command.
    return found if isinstance(content.get("measured"), list) else {}


def arguments_of(args: argparse.Namespace) -> dict[str, Any]:
    """Flag -> value, of those that say what is measured; without those that are not given."""
    names = ("compiled_for", "minutes", "victims", "batches", "kinds", "attacks", "seconds")
    given = {name: getattr(args, name) for name in (*names, "dtype", "cell_seconds")}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None
    }


def reason_of(error: Exception) -> str:
    """Why something was not measured, in one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def _key(line: Mapping[str, Any]) -> tuple[str, str, int]:
    return line["model"], line["task"], line["batch"]


_HEADER = (
    f"{'victim':16} {'task':14} {'batch':>5} {'side':21} {'rows/s':>9} {'RTFx':>8} {'ms/step':>9} "
    f"{'TFLOP/s':>8} {'peak':>6} {'GB/s':>6} {'GB':>6} {'launches':>8} {'host':>5} {'compile':>8}"
)


def _shown(line: Mapping[str, Any]) -> str:
    def of(key: str, form: str, scale: float = 1.0) -> str:
        width = int(form.split(".")[0])
        return f"{scale * line[key]:{form}}" if line.get(key) is not None else " " * width

    return (
        f"{line['model']:16} {line['task']:14} {line['batch']:5} {line['side']:21} "
        f"{statistics.median(line['rows_per_s']):9.3f} {of('rtfx', '8.1f')} "
        f"{of('step_ms', '9.3f')} {of('tflop_per_s', '8.3f')} {of('share_of_peak', '5.1f', 100)}"
        f"{'%' if 'share_of_peak' in line else ' '} {of('gb_per_s', '6.0f')} "
        f"{of('memory_gb', '6.2f')} {of('launches', '8.0f')} {of('host_share', '5.2f')} "
        f"{of('compile_s', '7.1f')}"
    )
