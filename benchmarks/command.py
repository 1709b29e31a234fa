"""What the benchmarks' commands share: how they are called, and the JSON that they write."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.turns import CLOCKS
from jaxser.runtime.errors import UsageError

__all__ = [
    "add_clock",
    "add_threads_and_out",
    "add_turns",
    "check_clock",
    "command_parser",
    "environment_of_sides",
    "write_json",
    "write_measured",
    "write_report",
]


def command_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Of ``python -m benchmarks.NAME``, described by the first sentence of its module."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n\n")[0]
    )


def add_turns(parser: argparse.ArgumentParser, default: int, flag: str = "--pairs") -> None:
    """The flag for how often each side has its turn."""
    parser.add_argument(flag, type=int, default=default, help="counted turns of each side")


def add_clock(parser: argparse.ArgumentParser) -> None:
    """The flag for what time is taken by; see :func:`check_clock`."""
    parser.add_argument(
        "--clock",
        default="wall",
        choices=list(CLOCKS),
        help="what time is taken by; the processor's with one thread on a CPU",
    )


def check_clock(clock: str, threads: int, device: str | None = None) -> None:
    """UsageError where the processor's clock would not count a side's own seconds.

    Args:
      clock: one of ``CLOCKS``.
      threads: of each side.
      device: of a command that has this flag.
    """
    if clock == "processor" and (threads > 1 or device not in (None, "cpu")):
        more = "" if device is None else " --device cpu"
        raise UsageError(f"--clock processor adds up all threads; give --threads 1{more}.")


def add_threads_and_out(parser: argparse.ArgumentParser) -> None:
    """The flags for the threads of each side and for the file."""
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")


def write_report(out: Path | None, busy: float, threads: int, **content: Any) -> None:
    """Write what was measured, with the machine and the versions it was measured on, as JSON.

    Args:
      out: the file; None: none is written.
      busy: from :func:`benchmarks.machine.busy_cores` before the measurement.
      threads: of each side.
      **content: what was asked for and measured.
    """
    if out is None:
        return
    report = {
        "environment": {**environment_of_sides(), "threads": threads},
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "busy_cores_before": busy,
        **content,
    }
    write_json(out, report)


def environment_of_sides() -> dict[str, Any]:
    """The machine and the versions, PyTorch's among them where it is the other side."""
    from jaxser.runtime.provenance import environment

    torch = sys.modules.get("torch")  # absent where there is no other side
    return {**environment(), **({"torch": torch.__version__} if torch else {})}


def write_measured(
    args: argparse.Namespace, busy: float, measured: Sequence[Any], **content: Any
) -> None:
    """:func:`write_report` of dataclasses of one task on one side each.

    Args:
      args: with the flags of turns, clock, threads and file.
      busy: as there.
      measured: what was measured.
      **content: what else was asked for.
    """
    write_report(
        args.out,
        busy,
        args.threads,
        clock=args.clock,
        pairs=args.pairs,
        **content,
        measured=[dataclasses.asdict(each) for each in measured],
    )


def write_json(out: Path, report: dict[str, Any]) -> None:
    """Write a report as the files in benchmarks/results/ are laid out."""
    from jaxser.runtime.files import write_text

    write_text(out, json.dumps(report, indent=1) + "\n")
