"""The cells of a sweep, one after the other, or shares of them.

runner = CellRunner(config)
for cell in cells(config):
    outcome = runner.run(cell)                       # rows are under OUT/rows
    outcome = runner.run(cell, Share(2, 4))          # those of every fourth utterance alone
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.config.sweep import Cell, SweepConfig
from jaxser.driver.run import predict
from jaxser.driver.speech import Speech
from jaxser.experiments.attack import Listener, Run, attack_missing_rows, load_speech, prepare_run
from jaxser.results.outcomes import Outcome
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.runtime.errors import InputError
from jaxser.runtime.provenance import fingerprint_of
from jaxser.runtime.sharding import WHOLE, Share
from jaxser.victims.victim import Victim, load_victim

__all__ = ["CALIBRATION_UTTERANCES", "CellRunner"]

# Utterances that a dry run attacks to learn how long the others take.
CALIBRATION_UTTERANCES = 4

# A table is made from all rows of a cell at once: beyond so many, memory would grow with them.
_TABLE_ROWS = 20_000


class CellRunner:
    """Attacks cells; victims and speech stay loaded while neighbouring cells share them.

    Args:
      config: the sweep.
      shown: whether bars and tables are printed.
    """

    def __init__(self, config: SweepConfig, *, shown: bool = True) -> None:
        self._config = config
        self._shown = shown
        self._victims: dict[Path, Victim] = {}
        self._loaded: Any = None
        self._speech: Speech | None = None
        self._listeners: tuple[Listener, ...] = ()

    def run(self, cell: Cell, share: Share = WHOLE) -> Outcome:
        """Attack what is missing of a share of the cell's utterances.

        Raises:
          OSError: a full disk, or a folder that is gone: no other cell would do better.
          KeyboardInterrupt: after Ctrl-C; the rows are kept.
        """
        try:
            run = self.prepared(cell, share)
            attack_missing_rows(run, shown=self._shown)
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

    def _table(self, run: Run, rows: int) -> str:
        if rows <= _TABLE_ROWS:
            return format_table(summarise(run.rows()))
        return f"{rows:,} rows; python -m jaxser.report {self._config.out} makes their tables"

    def prepared(self, cell: Cell, share: Share = WHOLE) -> Run:
        """The cell with its victim and its speech.

        Raises:
          UsageError, InputError: see the message.
        """
        self._load(cell, share)
        return prepare_run(cell.config, self._speech, self._config.out / "rows", self._listeners)

    def calibrated(self, cell: Cell) -> tuple[float, float]:
        """Rows per second and queries per row, of few utterances whose rows are thrown away.

        The cell is the one that was prepared last.
        """
        short = dataclasses.replace(cell.config, limit=CALIBRATION_UTTERANCES)
        with tempfile.TemporaryDirectory() as folder:
            run = prepare_run(short, self._speech, Path(folder), self._listeners)
            throughput = attack_missing_rows(run)
            return throughput.rows_per_second, float(run.rows()["queries"].to_numpy().mean())

    def _load(self, cell: Cell, share: Share) -> None:
        """Victims and speech of a cell, unless the cell before had the same."""
        config = cell.config
        wanted = (config.victim, config.corpus, config.seed, share)
        if wanted == self._loaded:
            return
        self._loaded, self._speech, self._listeners = None, None, ()
        if not self._config.transfer and config.victim not in self._victims:
            self._victims.clear()  # only what transfers is heard by the others
        self._speech = load_speech(config, share, self._victim(config.victim))
        if self._config.transfer:
            self._listeners = self._all_listeners(config.victim, self._speech)
        self._loaded = wanted

    def _victim(self, folder: Path) -> Victim:
        if folder not in self._victims:
            self._victims[folder] = load_victim(folder, self._config.domain)
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
