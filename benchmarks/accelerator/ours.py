"""jaxser's side of a cell: what a step takes on the device, and whole runs of the driver.

side = OurSide(cell, programs)
steps = side.steps(until)                      # by the programs alone
side.turn()                                    # seconds of a run, and its rows
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator.ceilings import seconds_each, seconds_of_calls
from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.programs import CellPrograms
from jaxser.driver.clean import run_key
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.driver.programs import SCORE, Report
from jaxser.driver.run import attack_rows, clean_pass
from jaxser.driver.slots import empty_state
from jaxser.driver.work import CleanPass

__all__ = ["OurSide", "Steps"]

# Seconds that passes are timed for.
_AT_LEAST = 0.2


@dataclasses.dataclass(frozen=True)
class Steps:
    """What the programs of a cell take, without the driver.

    Attributes:
      seconds: of a step, or a pass.
      taken: steps that were timed.
      most: steps of a whole run, if no row ends early.
      whole: whether they are all that the rows need.
      beside: seconds of starting rows and looking at them in a run.
    """

    seconds: float
    taken: int
    most: int
    whole: bool
    beside: float

    def run_seconds(self) -> float:
        """Of the rows of a batch, at most."""
        return self.beside + self.seconds * (self.taken if self.whole else self.most)


class OurSide:
    """A cell's programs, with its inputs on the device.

    Args:
      cell: what is measured.
      programs: compiled.
    """

    def __init__(self, cell: Cell, programs: CellPrograms) -> None:
        self._cell, self._programs = cell, programs
        self._x = programs.drawn.inputs(cell.batch)
        self._repeats = 1
        self._heard: dict[int, CleanPass] = {}

    @property
    def x(self) -> np.ndarray:
        """Inputs of a batch."""
        return self._x

    def steps(self, until: float) -> Steps:
        """Time a step, for as long as the rows need, or until that time (``time.monotonic``)."""
        if self._cell.line is None:
            return self._passes(until)
        return self._attack_steps(until)

    def repeat(self, seconds: float, for_seconds: float) -> None:
        """Let a turn have more batches than one, where a run of one takes ``seconds``."""
        self._repeats = int(np.clip(for_seconds / max(seconds, 1e-6), 1, 4))

    def turn(self) -> tuple[float, int]:
        """(seconds, rows) of a run: the driver's of an attack, else passes one after another."""
        if self._cell.line is None:
            calls = 2**self._repeats
            return seconds_of_calls(self._call, calls), calls * self._cell.batch
        rows = self._cell.batch * self._repeats
        x = np.concatenate([self._x] * self._repeats)
        # Found before the clock starts: they are no part of the attack.
        labels, clean = np.tile(self.labels, self._repeats), self._clean(x)
        start = time.perf_counter()
        blocks = attack_rows(
            self._programs.drawn.victim,
            x,
            labels,
            self._programs.attack,
            self._cell.line.epsilon,
            batch_size=self._cell.batch,
            clean=clean,
            devices=jax.local_devices()[:1],
        )
        assert sum(len(block) for block in blocks) == rows
        return time.perf_counter() - start, rows

    def _passes(self, until: float) -> Steps:
        return Steps(seconds_each(self._call, _AT_LEAST, until), 1, 1, True, 0.0)

    def _call(self) -> Any:
        program, _ = self._programs.named[self._cell.kind]
        return program(self._programs.drawn.victim.variables, self._placed)

    def _attack_steps(self, until: float) -> Steps:
        machine, named = self._programs.machine, self._programs.named
        assert machine is not None
        key, ids = run_key(0, machine.mesh), np.arange(self._cell.batch, dtype=np.uint32)
        labels = self.labels
        looked = (machine.variables, key, SCORE, *machine.put((ids, self._x, self._x)))
        score = named["score"][0]
        beside = _best(lambda: score(*looked))
        if "direction" in named:
            epsilon = np.full(self._cell.batch, self._epsilon, np.float32)
            given = machine.put((ids, self._x, labels))
            direction = named["direction"][0]
            found, *_ = direction(machine.variables, key, *given)
            moved = machine.put((self._x, np.asarray(found), epsilon))
            beside += _best(lambda: named["move"][0](*moved))
            seconds = _best(lambda: direction(machine.variables, key, *given))
            return Steps(seconds, 1, 1, True, beside)
        state, seconds = self._started(key, ids, labels)
        return self._advanced(state, beside + seconds, until)

    def _started(self, key: Any, ids: np.ndarray, labels: np.ndarray) -> tuple[Any, float]:
        """The state of all rows at their start, and what making it took."""
        machine = self._programs.machine
        assert machine is not None
        fresh, spent = machine.fresh_rows, 0.0
        before: tuple[Any, ...] = ()
        if machine.attack.places:
            before = (empty_state(ProgramShapes(machine, self._x.shape[1:]).state),)
        # Twice: the first call of a program is not at its best.
        for again in range(2):
            for first in range(0, self._cell.batch, fresh):
                rows = np.arange(first, first + fresh) % self._cell.batch
                put = {
                    "x": self._x[rows],
                    "y": labels[rows],
                    "ids": ids[rows],
                    "epsilon": np.full(fresh, self._epsilon, np.float32),
                    "real": np.ones(fresh, bool),
                }
                if machine.attack.places:
                    put["slot"] = rows.astype(np.int32)
                given = machine.put(put)
                jax.block_until_ready(given)
                start = time.perf_counter()
                state, report = machine.attack.start(machine.all_variables, key, given, *before)
                jax.block_until_ready(report)
                before = (state,) if before else ()
                spent += (time.perf_counter() - start) * again
        return state, spent

    def _advanced(self, state: Any, beside: float, until: float) -> Steps:
        machine, attack = self._programs.machine, self._programs.attack
        assert machine is not None
        wanted = np.int32(self._cell.batch + 1)  # more than there are: no call ends before its end
        calls: list[tuple[float, int]] = []
        taken, done = 0, False
        while not done and taken < attack.max_steps and (not calls or time.monotonic() < until):
            start = time.perf_counter()
            state, report = machine.attack.advance(machine.all_variables, wanted, state)
            read = Report.read(report)
            calls.append((time.perf_counter() - start, int(read.taken.max())))
            taken, done = taken + calls[-1][1], bool(read.done.all())
        # The first call is not at its best.
        spent, steps = map(sum, zip(*(calls[1:] or calls), strict=True))
        whole = done or taken >= attack.max_steps
        taken = min(taken, attack.max_steps)
        return Steps(spent / steps, taken, attack.max_steps, whole, beside)

    @property
    def _epsilon(self) -> float:
        assert self._cell.line is not None
        return self._cell.line.epsilon

    @functools.cached_property
    def _placed(self) -> Any:
        return jax.device_put(self._x, jax.local_devices()[0])

    @property
    def labels(self) -> np.ndarray:
        """To leave: the clean predictions."""
        return np.asarray(self._clean(self._x).prediction)

    def _clean(self, x: np.ndarray) -> CleanPass:
        """What the victim makes of so many clean inputs, found once."""
        if len(x) not in self._heard:
            self._heard[len(x)] = clean_pass(
                self._programs.drawn.victim,
                x,
                batch_size=self._cell.batch,
                devices=jax.local_devices()[:1],
            )
        return self._heard[len(x)]


def _best(call: Callable[[], Any]) -> float:
    """Of the second call."""
    return min(seconds_of_calls(call, 1) for _ in range(2))
