"""Attack victims at many ε: ``python -m jaxser.sweep CONFIG.yaml``.

    python -m jaxser.sweep configs/sweeps/demo.yaml --dry_run
    python -m jaxser.sweep configs/sweeps/demo.yaml

A sweep file lists victims, attacks, ε, corpora and seeds. All ε of a victim, an attack, a corpus
and a seed are one stream of batches through one compiled step. Rows are appended to Parquet files
under OUT/rows as they come, whole files only; a sweep that was stopped or killed goes on with the
same command to exactly the rows that it would have had. What fails is noted, the rest goes on, and
the exit status is 1.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxser.errors import INTERRUPTED, InputError, UsageError, report_errors
from jaxser.sweep_config import Cell, SweepConfig, cells, load_sweep

if TYPE_CHECKING:
    from jaxser.attack_run import Listener, Run, Speech

__all__ = ["main"]

# Utterances that a dry run attacks to learn how long the others take.
_CALIBRATION_UTTERANCES = 4


@dataclasses.dataclass
class Outcome:
    """What became of a cell."""

    cell: Cell
    rows: int = 0
    reason: str = ""  # why it failed; none where it did not

    def line(self) -> dict[str, Any]:
        return {
            "cell": self.cell.name,
            "state": "failed" if self.reason else "done",
            "rows": self.rows,
            "reason": self.reason,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, attack, print; returns the exit status."""
    args = _arguments(argv)
    given = {"out": args.out, "limit": args.limit}
    changes = {name: value for name, value in given.items() if value is not None}
    config = load_sweep(args.config, changes)
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file; give another --out.")

    from jaxser.compilation import enable_compilation_cache

    enable_compilation_cache()
    sweep = _Sweep(config)
    sweep.check()
    return sweep.estimate() if args.dry_run else sweep.run()


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
    return parser.parse_args(argv)


class _Sweep:
    """A sweep under way; victims and speech stay loaded while neighbouring cells share them."""

    def __init__(self, config: SweepConfig) -> None:
        self.config = config
        self.cells = list(cells(config))
        self._key: Any = None
        self._speech: Speech | None = None
        self._listeners: tuple[Listener, ...] = ()

    def check(self) -> None:
        """Find what cannot be before anything is attacked.

        Raises:
          UsageError, InputError: a victim, an attack or a list of ε that is no such thing.
        """
        from jaxser.attack_run import attack_of
        from jaxser.attacks import StaaNet
        from jaxser.driver import members
        from jaxser.victim import read_run

        for folder in self.config.victims:
            read_run(folder)
        # Once for every attack: what is asked here is the same on all victims.
        for cell in {cell.title: cell for cell in self.cells}.values():
            attack = attack_of(cell.config)
            # A number of classes is not known yet, and does not change what is asked here.
            without = all(part.minimal_norm for part in members(attack, 2))
            if not (cell.config.epsilon or without or isinstance(attack, StaaNet)):
                raise UsageError(
                    f"{cell.title} has no epsilon to attack at; give the sweep or the attack some."
                )

    def run(self) -> int:
        """Attack what is missing; returns the exit status."""
        from jaxser.files import held

        out = self.config.out
        outcomes: list[Outcome] = []
        with held(out, "swept"):
            for number, cell in enumerate(self.cells, 1):
                print(f"{number} of {len(self.cells)}: {cell.name}", flush=True)
                try:
                    outcomes.append(self._run(cell))
                except KeyboardInterrupt:
                    print(
                        f"interrupted: finished rows are kept in {out}; the same command goes on "
                        "from there.",
                        file=sys.stderr,
                    )
                    return INTERRUPTED
                self._note(outcomes)
        return _summary(out, outcomes)

    def _run(self, cell: Cell) -> Outcome:
        from jaxser.attack_run import attack_missing_rows
        from jaxser.results import format_table, summarise

        try:
            run = self._prepared(cell)
            attack_missing_rows(run)
        except OSError:
            raise  # a full disk, or a folder that is gone: nothing else would do better
        except Exception as error:
            reason = _reason(error)
            print(f"failed: {reason}", file=sys.stderr)
            return Outcome(cell, reason=reason)
        rows = run.rows()
        print(format_table(summarise(rows)), flush=True)
        return Outcome(cell, rows=len(rows) * (1 + len(run.listeners)))

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        from jaxser.files import write_text

        lines = [outcome.line() for outcome in outcomes]
        write_text(self.config.out / "sweep.json", json.dumps(lines, indent=1) + "\n")

    def _prepared(self, cell: Cell) -> "Run":
        from jaxser.attack_run import prepare_run

        self._load(cell)
        return prepare_run(cell.config, self._speech, self.config.out / "rows", self._listeners)

    def _load(self, cell: Cell) -> None:
        """Victims and speech of a cell, unless the cell before had the same."""
        from jaxser.attack_run import load_speech

        config = cell.config
        key = (config.victim, config.corpus, config.seed)
        if key == self._key:
            return
        self._key, self._speech, self._listeners = None, None, ()
        whole = dataclasses.replace(config, limit=None)
        self._speech = load_speech(whole)
        if self.config.transfer:
            self._listeners = _listeners(self.config, config.victim, self._speech)
        self._key = key

    def estimate(self) -> int:
        """Print the grid, its rows, and what they will cost."""
        seconds = rows = queries = 0.0
        failed = 0
        for cell in self.cells:
            try:
                run = self._prepared(cell)
            except InputError as error:
                print(f"{cell.name}: would fail: {error}", file=sys.stderr)
                failed += 1
                continue
            missing = int(run.missing().sum())
            rate, each = self._calibrated(cell) if missing else (float("nan"), 0.0)
            needed = missing / rate if missing else 0.0
            print(
                f"{cell.name}: {len(run.utterances)} utterances x {len(run.epsilons)} epsilon, "
                f"{missing} rows to make, {missing * each:,.0f} queries, {_time(needed)}",
                flush=True,
            )
            seconds, rows, queries = seconds + needed, rows + missing, queries + missing * each
        print(
            f"{len(self.cells)} streams, {rows:,.0f} rows, {queries:,.0f} queries, "
            f"{_time(seconds)} besides compilation, by {_CALIBRATION_UTTERANCES} utterances of each"
        )
        return 1 if failed else 0

    def _calibrated(self, cell: Cell) -> tuple[float, float]:
        """Rows per second and queries per row, of few utterances whose rows are thrown away."""
        import tempfile

        from jaxser.attack_run import attack_missing_rows, prepare_run

        short = dataclasses.replace(cell.config, limit=_CALIBRATION_UTTERANCES)
        with tempfile.TemporaryDirectory() as folder:
            run = prepare_run(short, self._speech, Path(folder), self._listeners)
            throughput = attack_missing_rows(run)
            return throughput.rows_per_second, float(run.rows()["queries"].to_numpy().mean())


def _listeners(config: SweepConfig, threat: Path, speech: "Speech") -> "tuple[Listener, ...]":
    """The other victims of the sweep that hear what the threat model hears."""
    from jaxser.attack_run import Listener
    from jaxser.driver import predict
    from jaxser.provenance import fingerprint_of
    from jaxser.victim import load_victim

    found = []
    for folder in config.victims:
        if folder == threat:
            continue
        victim = load_victim(folder, config.domain)
        if victim.hears_like(speech.victim):
            found.append(
                Listener(
                    name=f"{victim.name} {folder}",
                    fingerprint=fingerprint_of(victim.variables),
                    victim=victim,
                    clean=predict(victim, speech.inputs, subset=speech.places),
                )
            )
    return tuple(found)


def _reason(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text[:500]}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _summary(out: Path, outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.reason]
    print(f"{sum(outcome.rows for outcome in outcomes):,} rows in {out / 'rows'}")
    for outcome in failed:
        print(f"failed: {outcome.cell.name}: {outcome.reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
