"""The flags of ``python -m jaxser.sweep`` beside its file: which processes, and what is changed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxser.config.parser import CommandParser, add_process_flags, command_name
from jaxser.runtime.determinism import add_deterministic_flag

__all__ = ["SweepFlags", "parse_sweep"]


@dataclasses.dataclass(frozen=True)
class SweepFlags:
    """What a user may say beside the sweep file; None is as the file or the surroundings say."""

    config: Path
    out: Path | None
    limit: int | None
    suite: str | None
    draws: int | None
    smoothing: float | None
    smoothing_samples: int | None
    dry_run: bool
    deterministic: bool
    wide: bool
    coordinator: str | None
    processes: int | None
    process: int | None
    engine: Literal["local", "ray"]
    workers: int | None

    def changes(self) -> dict[str, Any]:
        """What takes the place of the same key of the file."""
        names = ("out", "limit", "suite", "draws", "smoothing", "smoothing_samples")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def parse_sweep(argv: Sequence[str] | None = None) -> SweepFlags:
    """Read the command line; UsageError for what is unknown or wrong."""
    parser = CommandParser(
        prog=command_name("sweep"),
        usage="%(prog)s CONFIG.yaml [--flag VALUE ...]",
        description="Attack victims at many epsilon: victims x attacks x epsilon x corpora x seeds "
        "of a YAML file, into one folder of rows.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="the sweep file")
    used = parser.add_argument_group("most used")
    used.add_argument(
        "--dry_run",
        action="store_true",
        help="show the grid, and after a short calibration the queries and the time it will take",
    )
    used.add_argument(
        "--wide", action="store_true", help="all columns of tables, however narrow the terminal is"
    )
    used.add_argument("--out", type=Path, help="folder of the rows, instead of the file's")
    used.add_argument("--limit", type=int, help="utterances, spread over the part")
    used.add_argument(
        "--suite",
        metavar="NAME",
        help="quick, standard or full: a fixed list of attacks and epsilon, instead of the file's",
    )
    used.add_argument(
        "--draws",
        type=int,
        help="of a randomised victim's noise that a finished row must withstand",
    )
    used.add_argument(
        "--smoothing",
        type=float,
        metavar="SIGMA",
        help="attack the victims smoothed by Gaussian noise of this standard deviation",
    )
    used.add_argument(
        "--smoothing_samples", type=int, metavar="N", help="draws of it in every pass"
    )
    add_process_flags(parser)
    ray = parser.add_argument_group("Ray")
    ray.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on a Ray cluster (RAY_ADDRESS) or, without one, on this machine",
    )
    ray.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="Ray actors; one per accelerator by default, or one where there is none",
    )
    add_deterministic_flag(parser)
    return SweepFlags(**vars(parser.parse_args(argv)))
