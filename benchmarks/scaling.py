"""Rows per second of a sweep in one process and in several, and against the batch size.

    python -m benchmarks.scaling --victim runs/emo18_emodb --processes 1 2 4
    python -m benchmarks.scaling --victim runs/emo18_emodb --batch_sizes 16 32 64 128 --limit 400
    python -m benchmarks.scaling --out benchmarks/results/scaling.json

Every case is a sweep of the same grid as ``python -m jaxser.sweep`` runs it, in processes of its
own that share this machine: on N cores more than N processes can gain nothing, and one process uses
all cores already. Cases take turns. Two rates are given: over the whole wall time, with the start
of the processes, loading and compilation (from the cache, after an uncounted turn), and of the
steady state that remains for a long sweep, which is rows over the mean of the processes' clocks.
"""

import dataclasses
import functools
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import command_parser, write_report
from benchmarks.grid import add_grid, grid_of
from benchmarks.machine import busy_cores
from benchmarks.turns import spread, take_turns
from jaxser.runtime.errors import InputError, UsageError, report_errors


@dataclasses.dataclass(frozen=True)
class Turn:
    """One sweep.

    Attributes:
      rows: that it made.
      wall_seconds: from the first process' start to the last one's end.
      busy_seconds: in the steady state, of all processes together.
      halved: memory ran out, and smaller batches were used.
    """

    rows: int
    wall_seconds: float
    busy_seconds: float
    halved: bool


@dataclasses.dataclass(frozen=True)
class Case:
    """A number of processes and a batch size (None: the program's own), and its turns."""

    processes: int
    batch_size: int | None
    turns: list[Turn]

    def steady_rates(self) -> list[float]:
        """Rows per second of all processes together."""
        return [turn.rows * self.processes / turn.busy_seconds for turn in self.turns]

    def wall_rates(self) -> list[float]:
        """Rows per second with everything."""
        return [turn.rows / turn.wall_seconds for turn in self.turns]

    def row(self) -> str:
        """The line of the printed table."""
        steady, wall = self.steady_rates(), self.wall_rates()
        halved = "   (memory ran out: smaller batches)" if self.turns[-1].halved else ""
        return (
            f"{self.processes:9} {self.batch_size or 'own':>6} {self.turns[0].rows:7} "
            f"{spread(steady, width=9)}{spread(wall, width=9)}{halved}"
        )


HEADER = f"{'processes':9} {'batch':>6} {'rows':>7} {'steady rows/s':>17} {'wall rows/s':>17}"


def sweep(grid: dict[str, Any], processes: int, batch_size: int | None) -> Turn:
    """Run a sweep in so many processes and read what it left.

    Raises:
      InputError: a process failed; the message has the end of what it said.
    """
    import numpy as np
    import yaml

    from jaxser.results.reading import read_rows

    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "out", Path(folder) / "sweep.yaml"
        own = {} if batch_size is None else {"batch_size": batch_size}
        file.write_text(yaml.safe_dump({**grid, **own, "out": str(out)}))
        command = [sys.executable, "-m", "jaxser.sweep", str(file)]
        start = time.perf_counter()
        started = [
            subprocess.Popen(
                [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for flags in flags_of(processes)
        ]
        said = [process.communicate()[1] for process in started]
        wall = time.perf_counter() - start
        for process, text in zip(started, said, strict=True):
            if process.returncode:
                raise InputError(f"a sweep failed: {text[-500:].strip()}")
        seconds = read_rows(out, ["seconds"])["seconds"].to_numpy()
        return Turn(
            rows=len(seconds),
            wall_seconds=wall,
            busy_seconds=float(np.sum(seconds)),
            halved=any("out of memory" in text for text in said),
        )


def flags_of(processes: int) -> list[list[str]]:
    """Of each of several processes on this machine."""
    if processes == 1:
        return [["--processes", "1"]]
    with socket.socket() as one:
        one.bind(("localhost", 0))
        where = f"localhost:{one.getsockname()[1]}"
    each = ["--coordinator", where, "--processes", str(processes)]
    return [[*each, "--process", str(index)] for index in range(processes)]


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = command_parser("scaling", __doc__)
    add_grid(parser, ["fgsm", "mifgsm", "pgd"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[None])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    if min(args.processes + [size or 1 for size in args.batch_sizes] + [args.turns]) < 1:
        raise UsageError("--processes, --batch_sizes and --turns must be at least 1.")
    grid = grid_of(args, args.attacks, args.epsilons)
    busy, cores = busy_cores(), len(os.sched_getaffinity(0))
    print(f"{cores} cores, {busy:.1f} kept busy by other programs")
    sides = {
        (processes, size): functools.partial(sweep, grid, processes, size)
        for processes, size in itertools.product(args.processes, args.batch_sizes)
    }
    take_turns(sides, 1)  # compiles
    cases = [Case(*side, turns) for side, turns in take_turns(sides, args.turns).items()]
    print(HEADER)
    for case in cases:
        print(case.row())
    figures = [
        {
            **dataclasses.asdict(case),
            "steady_rows_per_s": case.steady_rates(),
            "wall_rows_per_s": case.wall_rates(),
        }
        for case in cases
    ]
    write_report(args.out, busy, cores, benchmark="scaling", grid=grid, cases=figures)
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
