"""Attack victims at many ε: ``python -m jaxser.sweep CONFIG.yaml``.

    python -m jaxser.sweep configs/sweeps/demo.yaml --dry_run
    python -m jaxser.sweep configs/sweeps/demo.yaml
    python -m jaxser.sweep configs/sweeps/demo.yaml --engine ray

A sweep file lists victims, attacks, ε, corpora and seeds. All ε of a victim, an attack, a corpus
and a seed are one stream of batches through one compiled step. Rows are appended to Parquet files
under OUT/rows as they come, whole files only; a sweep that was stopped or killed goes on with the
same command to exactly the rows that it would have had. What fails is noted, the rest goes on, and
the exit status is 1.

Several processes that are given the same command share the utterances out among themselves and need
each other no more once they have begun; ``docs/scaling.md`` has more of that, and of Ray.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxser.config.sweep import SweepConfig, cells, load_sweep
from jaxser.results.outcomes import Outcome, forget_outcomes, note_outcomes
from jaxser.runtime.errors import INTERRUPTED, InputError, UsageError, report_errors

if TYPE_CHECKING:
    from jaxser.runtime.sharding import Share

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    args = _arguments(argv)
    given = {"out": args.out, "limit": args.limit}
    changes = {name: value for name, value in given.items() if value is not None}
    config = load_sweep(args.config, changes)
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file; give another --out.")
    if args.engine == "local" and args.workers is not None:
        raise UsageError("--workers are of --engine ray; give both or neither.")

    from jaxser.runtime.compilation import enable_compilation_cache
    from jaxser.runtime.sharding import WHOLE, join_processes

    enable_compilation_cache()
    if args.engine == "ray":
        from jaxser.experiments.ray_engine import sweep_on_ray

        if args.dry_run or args.coordinator or args.processes or args.process is not None:
            raise UsageError(
                "--engine ray finds its own processes; leave out --coordinator, --processes, "
                "--process and --dry_run."
            )
        import jax

        jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
        _check(config)
        with _held(config, WHOLE):
            return _summary(config.out, sweep_on_ray(config, args.workers), WHOLE)
    if args.dry_run:
        _check(config)
        return _estimate(config)
    share = join_processes(args.coordinator, args.processes, args.process)
    _check(config)
    with _held(config, share):
        return _run(config, share)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxser.sweep",
        description="Attack victims at many epsilon: victims x attacks x epsilon x corpora x seeds "
        "of a YAML file, into one folder of rows.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--out", type=Path, help="folder of the rows, instead of the file's")
    parser.add_argument("--limit", type=int, help="utterances, spread over the part")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="show the grid, and after a short calibration the queries and the time it will take",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where process 0 of several listens, or auto, which lets JAX detect the processes "
        "(it does so by itself under SLURM, Open MPI, Kubernetes and on GKE's TPU pods)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many there are")
    parser.add_argument("--process", type=int, metavar="I", help="which this one is, from 0")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on a Ray cluster (RAY_ADDRESS) or, without one, on this machine",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="Ray actors; one per accelerator by default, or one where there is none",
    )
    return parser.parse_args(argv)


def _check(config: SweepConfig) -> None:
    """Find what cannot be before anything is attacked.

    Raises:
      UsageError, InputError: a victim, an attack or a list of ε that is no such thing.
    """
    from jaxser.attacks import StaaNet
    from jaxser.driver.named_attack import attack_of
    from jaxser.driver.sequence import members
    from jaxser.victims.run_folder import read_run

    for folder in config.victims:
        read_run(folder)
    # Once for every attack: what is asked here is the same on all victims.
    for cell in {cell.title: cell for cell in cells(config)}.values():
        attack = attack_of(cell.config)
        # A number of classes is not known yet, and does not change what is asked here.
        without = all(part.minimal_norm for part in members(attack, 2))
        if not (cell.config.epsilon or without or isinstance(attack, StaaNet)):
            raise UsageError(
                f"{cell.title} has no epsilon to attack at; give the sweep or the attack some."
            )


@contextlib.contextmanager
def _held(config: SweepConfig, share: "Share") -> Iterator[None]:
    """Hold the sweep's folder, together with the other processes and against everybody else.

    Process 0 has it alone first, so that nobody else is in it, and then lets the others in.

    Raises:
      InputError: another sweep has it, or process 0 could not have it.
      UsageError: process 0 was given another sweep.
    """
    from jaxser.runtime.files import held
    from jaxser.runtime.sharding import leave_processes, same_everywhere

    out = config.out
    with contextlib.ExitStack() as stack:
        refused: InputError | None = None
        if share.index == 0:
            try:
                with held(out, "swept"):
                    forget_outcomes(out)
                stack.enter_context(held(out, "swept", shared=share.count > 1))
            except InputError as error:
                refused = error
        if share.count > 1:
            first = same_everywhere(share, "" if refused else repr(config))
            leave_processes()
            if share.index > 0 and not first:
                raise InputError(f"process 0 may not sweep {out}; it says why.")
            if share.index > 0 and first != repr(config):
                raise UsageError(
                    f"process {share.index} was given another sweep than process 0; start all "
                    "with the same file and flags."
                )
            if share.index > 0:
                stack.enter_context(held(out, "swept", shared=True))
        if refused:
            raise refused
        yield


def _run(config: SweepConfig, share: "Share") -> int:
    """Attack what is missing of this process' share; returns the exit status."""
    from jaxser.experiments.sweep import CellRunner

    runner = CellRunner(config, shown=share.index == 0)
    grid = list(cells(config))
    outcomes: list[Outcome] = []
    for number, cell in enumerate(grid, 1):
        if share.index == 0:
            print(f"{number} of {len(grid)}: {cell.name}", flush=True)
        try:
            outcomes.append(runner.run(cell, share))
        except KeyboardInterrupt:
            print(
                f"interrupted: finished rows are kept in {config.out}; the same command goes on "
                "from there.",
                file=sys.stderr,
            )
            return INTERRUPTED
        note_outcomes(config.out, outcomes, share)
    return _summary(config.out, outcomes, share)


def _estimate(config: SweepConfig) -> int:
    """Print the grid, its rows, and what they will cost."""
    from jaxser.experiments.sweep import CALIBRATION_UTTERANCES, CellRunner

    runner = CellRunner(config)
    grid = list(cells(config))
    seconds = rows = queries = 0.0
    failed = 0
    for cell in grid:
        try:
            run = runner.prepared(cell)
        except InputError as error:
            print(f"{cell.name}: would fail: {error}", file=sys.stderr)
            failed += 1
            continue
        missing = int(run.missing().sum())
        rate, each = runner.calibrated(cell) if missing else (float("nan"), 0.0)
        needed = missing / rate if missing else 0.0
        print(
            f"{cell.name}: {len(run.utterances)} utterances x {len(run.epsilons)} epsilon, "
            f"{missing} rows to make, {missing * each:,.0f} queries, {_time(needed)}",
            flush=True,
        )
        seconds, rows, queries = seconds + needed, rows + missing, queries + missing * each
    print(
        f"{len(grid)} streams, {rows:,.0f} rows, {queries:,.0f} queries, "
        f"{_time(seconds)} besides compilation, by {CALIBRATION_UTTERANCES} utterances of each"
    )
    return 1 if failed else 0


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _summary(out: Path, outcomes: Sequence[Outcome], share: "Share") -> int:
    failed = [outcome for outcome in outcomes if outcome.reason]
    rows = sum(outcome.rows for outcome in outcomes)
    whose = f", of process {share.index} of {share.count}" if share.count > 1 else ""
    print(f"{rows:,} rows in {out / 'rows'}{whose}")
    for outcome in failed:
        print(f"failed: {outcome.cell}: {outcome.reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
