"""What a sweep will cost, from a few utterances of every cell that are attacked on trial.

print_estimate(load_sweep(Path("configs/sweeps/demo.yaml")))
"""

import sys

from jaxser.config.sweep import SweepConfig, cells
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.meter import Throughput
from jaxser.experiments.compiling import programs_of
from jaxser.experiments.sweep import CALIBRATION_UTTERANCES, CellRunner
from jaxser.runtime.devices import check_devices
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import counted

__all__ = ["print_estimate"]


def print_estimate(config: SweepConfig) -> bool:
    """Print the grid, its rows, and what they will cost; whether all of it could be run."""
    check_devices()
    runner = CellRunner(config)
    grid = list(cells(config))
    seconds = rows = queries = 0.0
    failed, on_trial = 0, Throughput()
    programs: set[Program] = set()  # that cells share count once
    for cell in grid:
        try:
            run = runner.prepared(cell)
            programs |= {program for program, _ in programs_of(run)}
        except InputError as error:
            print(f"{cell.name}: would fail: {error}", file=sys.stderr)
            failed += 1
            continue
        missing = int(run.missing().sum())
        spent, each = runner.calibrated(cell) if missing else (Throughput(), 0.0)
        needed = missing / spent.rows_per_second if missing else 0.0
        print(
            f"{cell.name}: {counted(len(run.utterances), 'utterance')} x {len(run.epsilons)} "
            f"epsilon, {missing} rows to make, {missing * each:,.0f} queries, {_time(needed)}",
            flush=True,
        )
        seconds, rows, queries = seconds + needed, rows + missing, queries + missing * each
        on_trial += spent
    print(
        f"{len(grid)} streams, {rows:,.0f} rows, {queries:,.0f} queries, "
        f"{_time(seconds)} besides compilation, by {CALIBRATION_UTTERANCES} utterances of each"
    )
    each_program = on_trial.compile_seconds / max(1, on_trial.compile_count)
    print(
        f"{len(programs)} programs, about {_time(len(programs) * each_program)} to compile one "
        "after the other; those of the next streams are compiled while one runs"
    )
    return not failed


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
