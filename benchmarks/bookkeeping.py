"""What a sweep's bookkeeping costs: its rows per second as a share of the driver's own.

    python -m benchmarks.bookkeeping --victim runs/emo18_emodb
    python -m benchmarks.bookkeeping --out benchmarks/results/bookkeeping.json
    python -m benchmarks.bookkeeping --host

The same rows twice, taking turns, in one process and after an uncounted turn: as cells of a sweep,
with everything that is done for a row (identity, columns, Parquet files, tables), and as the bare
stream of ``jaxser.driver.run.attack_rows``, whose rows are dropped. Victim and speech are loaded
and heard beforehand on both sides. Memory is the peak of processes that sweep fewer and more rows.
``--host`` measures what the host alone does for a row, beside a victim that takes no time
(``benchmarks/host_time.py``).
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.command import command_parser, write_report
from benchmarks.grid import add_grid, grid_of
from benchmarks.host_time import host_times, print_host_times
from benchmarks.machine import busy_cores
from benchmarks.turns import spread, take_turns
from jaxser.runtime.errors import report_errors

if TYPE_CHECKING:
    from jaxser.config.sweep import Cell, SweepConfig
    from jaxser.experiments.sweep import CellRunner


@dataclasses.dataclass(frozen=True)
class Cost:
    """One attack; seconds have one value per turn.

    Attributes:
      rows: of each turn.
      sweep_seconds, driver_seconds: wall time of either side.
    """

    attack: str
    rows: int
    sweep_seconds: list[float]
    driver_seconds: list[float]


def shares(costs: list[Cost]) -> list[float]:
    """Rows per second of the sweep over the driver's, all attacks together, turn by turn."""
    sweeps = zip(*(cost.sweep_seconds for cost in costs), strict=True)
    drivers = zip(*(cost.driver_seconds for cost in costs), strict=True)
    return [sum(driver) / sum(sweep) for sweep, driver in zip(sweeps, drivers, strict=True)]


def config_of(args: argparse.Namespace, attacks: list[str], epsilons: int) -> "SweepConfig":
    """The sweep, whose folder is put in later."""
    from jaxser.config import from_mapping
    from jaxser.config.sweep import SweepConfig

    grid = grid_of(args, attacks, epsilons)
    values = {**grid, "out": "unused", "attacks": [{"attack": name} for name in attacks]}
    return from_mapping(SweepConfig, values, "the command line")


def sweep_seconds(runner: "CellRunner", cell: "Cell", folder: Path) -> float:
    """Of a cell whose victim and speech are loaded; bar and table are made and not shown.

    Its rows are taken out of the sweep's ``folder`` again, so that the next turn makes them anew.
    """
    start = time.perf_counter()
    hidden = io.StringIO()
    with contextlib.redirect_stdout(hidden), contextlib.redirect_stderr(hidden):
        outcome = runner.run(cell)
    if outcome.reason:
        raise AssertionError(outcome.reason)
    seconds = time.perf_counter() - start
    shutil.rmtree(folder / "rows")
    return seconds


def driver_seconds(runner: "CellRunner", cell: "Cell") -> tuple[float, int]:
    """Of the same rows from the driver, and how many there are."""
    from jaxser.experiments.attack import blocks_of

    run = runner.prepared(cell)
    start = time.perf_counter()
    rows = 0
    for block in blocks_of(run):
        rows += len(block)
    return time.perf_counter() - start, rows


def measure(config: "SweepConfig", turns: int) -> list[Cost]:
    """Both sides of every cell, after a turn that compiles."""
    from jaxser.config.sweep import cells
    from jaxser.experiments.sweep import CellRunner

    grid = list(cells(config))
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        # One runner for all: a victim that is loaded again is compiled again.
        runner = CellRunner(dataclasses.replace(config, out=Path(folder)))
        for cell in grid:
            sides: dict[str, Callable[[], Any]] = {
                "driver": functools.partial(driver_seconds, runner, cell),
                "sweep": functools.partial(sweep_seconds, runner, cell, Path(folder)),
            }
            done = take_turns(sides, 1 + turns)
            alone, rows = zip(*done["driver"][1:], strict=True)
            costs.append(Cost(cell.title, rows[0], done["sweep"][1:], list(alone)))
    return costs


def peak_megabytes(args: argparse.Namespace, epsilons: int) -> float:
    """Of a process that sweeps one attack at so many ε."""
    command = [sys.executable, "-m", "benchmarks.bookkeeping", "--peak_of", str(epsilons)]
    command += ["--victim", str(args.victim), "--limit", str(args.limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(args: argparse.Namespace) -> None:
    """Sweep FGSM at ``args.peak_of`` ε and print the peak of this process' memory in MB."""
    from jaxser.config.sweep import cells
    from jaxser.experiments.sweep import CellRunner

    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config_of(args, ["fgsm"], args.peak_of), out=Path(folder))
        (cell,) = cells(config)
        sweep_seconds(CellRunner(config), cell, Path(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = command_parser("bookkeeping", __doc__)
    add_grid(parser, ["noise", "fgsm", "mifgsm", "pgd"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--memory_epsilons",
        type=int,
        nargs="*",
        default=[8, 32, 128],
        help="of the memory's sweeps",
    )
    parser.add_argument("--host", action="store_true", help="of the host alone, without a corpus")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peak_of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.peak_of:
        print_peak(args)
        return 0
    busy, cores = busy_cores(), len(os.sched_getaffinity(0))
    print(f"{cores} cores, {busy:.1f} kept busy by other programs")
    content: dict[str, Any]
    if args.host:
        lines = host_times(args.turns)
        print_host_times(lines)
        content = {"benchmark": "host_time", "lines": [dataclasses.asdict(each) for each in lines]}
        write_report(args.out, busy, cores, **content)
        return 0
    memory = [
        {"rows": args.limit * count, "peak_megabytes": peak_megabytes(args, count)}
        for count in args.memory_epsilons
    ]
    costs = measure(config_of(args, args.attacks, args.epsilons), args.turns)
    report(costs, memory)
    content = {
        "benchmark": "bookkeeping",
        "costs": [dataclasses.asdict(cost) for cost in costs],
        "shares": shares(costs),
        "memory": memory,
    }
    write_report(args.out, busy, cores, **content)
    return 0


def report(costs: list[Cost], memory: list[dict[str, float]]) -> None:
    """Print it."""
    for cost in costs:
        swept, bare = map(statistics.median, (cost.sweep_seconds, cost.driver_seconds))
        print(
            f"{cost.attack:10} {cost.rows:6} rows  sweep {cost.rows / swept:8.2f} rows/s  "
            f"driver {cost.rows / bare:8.2f} rows/s  {bare / swept:6.1%}"
        )
    all_of = shares(costs)
    print(f"together {spread(all_of, '.1%')}")
    for each in memory:
        print(f"{each['rows']:8} rows: peak {each['peak_megabytes']:.0f} MB")


if __name__ == "__main__":
    sys.exit(report_errors(main))
