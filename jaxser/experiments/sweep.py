"""The cells of a sweep, one after the other, or shares of them.

check_sweep(config)
outcomes = run_sweep(config, WHOLE)

runner = CellRunner(config)
for cell in cells(config):
    outcome = runner.run(cell)                       # rows are under OUT/rows
    outcome = runner.run(cell, Share(2, 4))          # those of every fourth utterance alone
"""

import contextlib
import dataclasses
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.attacks import StaaNet
from jaxser.config import AttackCommandConfig
from jaxser.config.sweep import Cell, SweepConfig, cells
from jaxser.driver.budgets import check_budgets
from jaxser.driver.meter import Throughput
from jaxser.driver.named_attack import attack_of
from jaxser.driver.run import predict
from jaxser.driver.sequence import members
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.compiling import CompileAhead
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.run import Listener, Run
from jaxser.experiments.speech import check_victim_folder, load_speech, victim_of
from jaxser.results.outcomes import Outcome, note_outcomes
from jaxser.results.summary import summarise
from jaxser.results.summary_table import legend, summary_table
from jaxser.runtime.devices import check_devices
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.provenance import fingerprint_of
from jaxser.runtime.sharding import WHOLE, Share
from jaxser.runtime.terminal import wrapped
from jaxser.victims.victim import Victim

__all__ = ["CALIBRATION_UTTERANCES", "CellRunner", "check_sweep", "run_sweep"]

# Utterances that a dry run attacks to learn how long the others take.
CALIBRATION_UTTERANCES = 4

# Cells whose programs are compiled while the one before them runs.
_AHEAD = 2

# A table is made from all rows of a cell at once: beyond so many, memory would grow with them.
_TABLE_ROWS = 20_000


def check_sweep(config: SweepConfig) -> None:
    """Find what cannot be before anything is attacked.

    Raises:
      UsageError, InputError: a victim, an attack or a list of ε that is no such thing.
    """
    for folder in config.victims:
        check_victim_folder(folder)
    # Once for every attack: what is asked here is the same on all victims.
    for cell in {cell.title: cell for cell in cells(config)}.values():
        attack = attack_of(cell.config, functools.partial(victim_of, cell.config))
        # A number of classes is not known yet, and does not change what is asked here.
        without = all(part.minimal_norm for part in members(attack, 2))
        if not (cell.config.epsilon or without or isinstance(attack, StaaNet)):
            raise UsageError(
                f"{cell.title} has no epsilon to attack at; give the sweep or the attack some."
            )
        if cell.config.epsilon:
            try:
                check_budgets(attack, cell.config.epsilon, cell.config.epsilon_unit, 2)
            except UsageError as error:
                raise UsageError(f"{cell.title}: {error}") from None


def run_sweep(config: SweepConfig, share: Share, width: int | None = None) -> list[Outcome]:
    """Attack what is missing of this process' share; what became of every cell is noted at once.

    Args:
      config: the sweep.
      share: of its utterances.
      width: of the terminal that tables are to fit.

    Raises:
      InputError: JAX has no device.
      OSError: a full disk, or a folder that is gone.
      KeyboardInterrupt: after Ctrl-C; finished rows are kept.
    """
    # A cell that fails is noted and the next one begins: without a device none would do better.
    # Not before this: several processes must have left each other when a backend is made.
    check_devices()
    grid = list(cells(config))
    outcomes: list[Outcome] = []
    with CompileAhead() as ahead:
        runner = CellRunner(config, shown=share.index == 0, ahead=ahead, width=width)
        for number, cell in enumerate(grid, 1):
            if share.index == 0:
                print(f"{number} of {len(grid)}: {cell.name}", flush=True)
            outcomes.append(runner.run(cell, share, upcoming=grid[number : number + _AHEAD]))
            note_outcomes(config.out, outcomes, share)
    return outcomes


class CellRunner:
    """Attacks cells; victims and speech stay loaded while neighbouring cells share them.

    Args:
      config: the sweep.
      shown: whether bars and tables are printed.
      ahead: compiles what cells need before they run.
      width: of the terminal that tables are to fit.
    """

    def __init__(
        self,
        config: SweepConfig,
        *,
        shown: bool = True,
        ahead: CompileAhead | None = None,
        width: int | None = None,
    ) -> None:
        self._config = config
        self._shown = shown
        self._ahead = ahead
        self._width = width
        self._explained: set[str] = set()  # what is said of columns is said once
        self._given: set[str] = set()  # names of cells whose programs are or have been compiled
        self._victims: dict[Path, Victim] = {}
        self._loaded: Any = None
        self._speech: Speech | None = None
        self._listeners: tuple[Listener, ...] = ()

    def run(self, cell: Cell, share: Share = WHOLE, upcoming: Sequence[Cell] = ()) -> Outcome:
        """Attack what is missing of a share of the cell's utterances.

        Args:
          cell: to run.
          share: of its utterances.
          upcoming: cells that come next.

        Raises:
          OSError: a full disk, or a folder that is gone: no other cell would do better.
          KeyboardInterrupt: after Ctrl-C; the rows are kept.
        """
        try:
            run = self.prepared(cell, share)
            self._compile_ahead(run, upcoming, share)
            attack_missing_rows(run, title=cell.title, shown=self._shown, shared=share.count > 1)
        except OSError:
            raise
        except Exception as error:
            reason = _reason(error)
            print(f"failed: {reason}", file=sys.stderr)
            return Outcome(cell.name, reason=reason)
        rows = int(run.done().sum())
        # A table of one share would pass for that of the whole.
        if self._shown and share == WHOLE:
            print(self._table(run, rows), flush=True)
        return Outcome(cell.name, rows=rows * (1 + len(run.listeners)))

    def _compile_ahead(self, run: Run, upcoming: Sequence[Cell], share: Share) -> None:
        """Programs of the cell and of those that come next with the same victim and speech."""
        if self._ahead is None:
            return
        self._ahead.give(run)
        for cell in upcoming:
            if cell.name not in self._given and self._wanted(cell, share) == self._loaded:
                self._given.add(cell.name)
                with contextlib.suppress(Exception):  # its own turn will tell what is wrong
                    self._ahead.give(self.prepared(cell, share))

    def _table(self, run: Run, rows: int) -> str:
        if rows <= _TABLE_ROWS:
            defence = run.speech.victim.training.defence
            said = [f"{run.facts['victim']}: {defence}"] if defence else []
            lines = summarise(run.rows())
            meant = [each for each in legend(lines) if each not in self._explained]
            self._explained.update(meant)
            text = "\n".join([*said, summary_table(lines, self._width), *meant])
            return wrapped(text, self._width)
        return f"{rows:,} rows; python -m jaxser.report {self._config.out} makes their tables"

    def prepared(self, cell: Cell, share: Share = WHOLE) -> Run:
        """The cell with its victim and its speech.

        Raises:
          UsageError, InputError: see the message.
        """
        self._load(cell, share)
        return prepare_run(cell.config, self._speech, self._config.out / "rows", self._listeners)

    def calibrated(self, cell: Cell) -> tuple[Throughput, float]:
        """What few utterances cost, whose rows are thrown away, and their queries per row.

        The cell is the one that was prepared last.
        """
        short = dataclasses.replace(cell.config, limit=CALIBRATION_UTTERANCES)
        with tempfile.TemporaryDirectory() as folder:
            run = prepare_run(short, self._speech, Path(folder), self._listeners)
            throughput = attack_missing_rows(run)
            return throughput, float(run.rows()["queries"].to_numpy().mean())

    def _load(self, cell: Cell, share: Share) -> None:
        """Victims and speech of a cell, unless the cell before had the same."""
        config, wanted = cell.config, self._wanted(cell, share)
        if wanted == self._loaded:
            return
        self._loaded, self._speech, self._listeners = None, None, ()
        if not self._config.transfer and config.victim not in self._victims:
            self._victims.clear()  # only what transfers is heard by the others
        self._speech = load_speech(config, share, self._victim(config.victim))
        if self._config.transfer:
            self._listeners = self._all_listeners(config.victim, self._speech)
        self._loaded = wanted

    @staticmethod
    def _wanted(cell: Cell, share: Share) -> Any:
        """What cells have in common that share a victim and its speech."""
        return cell.config.victim, cell.config.corpus, cell.config.seed, share

    def _victim(self, folder: Path) -> Victim:
        if folder not in self._victims:
            sweep = self._config
            self._victims[folder] = victim_of(
                AttackCommandConfig(
                    victim=folder,
                    domain=sweep.domain,
                    smoothing=sweep.smoothing,
                    smoothing_samples=sweep.smoothing_samples,
                )
            )
        return self._victims[folder]

    def _all_listeners(self, threat: Path, speech: Speech) -> tuple[Listener, ...]:
        """The other victims of the sweep that hear what the threat model hears."""
        found = []
        for folder in self._config.victims:
            if folder == threat:
                continue
            victim = self._victim(folder)
            if victim.hears_like(speech.victim):
                found.append(
                    Listener(
                        name=f"{victim.name} {folder}",
                        fingerprint=fingerprint_of(victim.variables),
                        victim=victim,
                        clean=predict(victim, speech.inputs, subset=speech.places)
                        if len(speech.places)
                        else np.zeros(0, np.int32),
                    )
                )
        return tuple(found)


def _reason(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text[:500]}"
