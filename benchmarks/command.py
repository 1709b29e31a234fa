"""What the benchmarks' commands share: how they are called, and the JSON that they write."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_threads_and_out", "add_turns", "command_parser", "write_json", "write_report"]


def command_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Of ``python -m benchmarks.NAME``, described by the first sentence of its module."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n\n")[0]
    )


def add_turns(parser: argparse.ArgumentParser, default: int, flag: str = "--pairs") -> None:
    """The flag for how often each side has its turn."""
    parser.add_argument(flag, type=int, default=default, help="counted turns of each side")


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
    from jaxser.runtime.provenance import environment

    torch = sys.modules.get("torch")  # absent where there is no other side
    versions = {"torch": torch.__version__} if torch else {}
    report = {
        "environment": {**environment(), **versions, "threads": threads},
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "busy_cores_before": busy,
        **content,
    }
    write_json(out, report)


def write_json(out: Path, report: dict[str, Any]) -> None:
    """Write a report as the files in benchmarks/results/ are laid out."""
    from jaxser.runtime.files import write_text

    write_text(out, json.dumps(report, indent=1) + "\n")
