"""What a run costs and how far it is, told while it goes.

meter = Meter()
seconds = meter.lap()                                    # without compilation
meter.book(rows=16, useful_steps=160, queries=160, seconds=seconds).rows_per_second
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from jaxser.driver.ahead_of_time import compile_count, compile_seconds

__all__ = ["Meter", "Progress", "Stages", "Throughput", "Watch", "Watcher"]

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What a run has cost so far.

    Attributes:
      rows: finished rows.
      seconds: wall time of the stream, without compilation and without the caller's own time.
      compile_seconds: tracing and compilation; 0 when the programs were there from before.
      compile_count: programs that were compiled.
      row_steps: attack steps times batch slots that the devices worked through.
      wasted_row_steps: those of slots that were done or empty.
    """

    rows: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    compile_count: int = 0
    row_steps: int = 0
    wasted_row_steps: int = 0

    def __add__(self, other: "Throughput") -> "Throughput":
        """Of two runs, one after the other."""
        mine, its = dataclasses.asdict(self), dataclasses.asdict(other)
        return Throughput(**{name: mine[name] + its[name] for name in mine})

    @property
    def rows_per_second(self) -> float:
        """Steady-state rate; NaN before any time was spent."""
        return self.rows / self.seconds if self.seconds > 0 else float("nan")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is, rows at work included.

    Attributes:
      queries: forward passes that attacks have spent.
      row_steps: attack steps taken, times batch slots.
      seconds: without compilation and without the caller's own time.
      rows: that are finished; None where they are not counted.
      stage: which member of an attack sequence is at work, in words; "" for a single attack.
      withstood: rows that an attack sequence has tried, and goes on with.
      seconds_left: an estimate; None for a single attack, whose finished rows tell.
    """

    queries: int
    row_steps: int
    seconds: float
    rows: int | None = None
    stage: str = ""
    withstood: int = 0
    seconds_left: float | None = None


class Stages:
    """How far the members of an attack sequence are.

    Args:
      names: of the members.
      max_steps: of the members.
      left: pairs that need an attack.
      finished: pairs that need none.
      meter: of the run.
    """

    def __init__(
        self,
        names: Sequence[str],
        max_steps: Sequence[int],
        left: Bool[np.ndarray, "utterances epsilons"],
        finished: int,
        meter: "Meter",
    ) -> None:
        self._names, self._max_steps, self._meter = names, max_steps, meter
        self._undecided, self._tried = left.copy(), np.zeros_like(left)
        self.finished = finished
        self.begin(0)

    def begin(self, stage: int) -> None:
        """A member takes over."""
        self._stage = stage
        self._waiting = self._undecided.copy()
        self._begun = self._counted = self._meter.row_steps
        self._since = self._meter.elapsed()

    def add(self, where: tuple[np.ndarray, ...], decided: Bool[np.ndarray, " rows"]) -> None:
        """The member is through with some pairs."""
        self._tried[where], self._waiting[where] = True, False
        self._undecided[where] &= ~decided
        self.finished += int(decided.sum())
        self._counted = self._meter.row_steps

    def progress(self, queries: int) -> Progress:
        """How far all are."""
        meter = self._meter
        seconds = meter.elapsed()
        # At most: what a row may yet go through with this member and with those that follow.
        steps = int(self._waiting.sum()) * self._max_steps[self._stage]
        steps = max(0, steps - (meter.row_steps - self._counted))
        steps += int(self._undecided.sum()) * sum(self._max_steps[self._stage + 1 :])
        # As fast as this member goes; before it has begun, as the run went.
        taken, spent = meter.row_steps - self._begun, seconds - self._since
        if not taken:
            taken, spent = meter.row_steps, seconds
        return Progress(
            queries=queries,
            row_steps=meter.row_steps,
            seconds=seconds,
            rows=self.finished,
            stage=f"{self._names[self._stage]} ({self._stage + 1} of {len(self._names)})",
            withstood=int((self._tried & self._undecided).sum()),
            seconds_left=steps * spent / taken if taken else None,
        )


# Told how far a run is; whether it goes on.
Watch = Callable[[Progress], bool]


class Meter:
    """Keeps a run's clock, without compilation and without the caller's time."""

    def __init__(self) -> None:
        self._throughput = Throughput()
        self.row_steps = 0
        self.queries = 0
        self.resume()

    @property
    def throughput(self) -> Throughput:
        return self._throughput

    def resume(self) -> None:
        """The caller has given control back."""
        self._since = time.perf_counter()
        self._compiled, self._count = compile_seconds(), compile_count()

    def _running(self) -> float:
        """Seconds since the last lap, without compilation."""
        return time.perf_counter() - self._since - (compile_seconds() - self._compiled)

    def elapsed(self) -> float:
        """Seconds of the run so far."""
        return self._throughput.seconds + self._running()

    def lap(self) -> float:
        """Seconds since the last lap, without compilation, which is booked."""
        compiled, count = compile_seconds() - self._compiled, compile_count() - self._count
        seconds = self._running()
        self._throughput = dataclasses.replace(
            self._throughput,
            compile_seconds=self._throughput.compile_seconds + compiled,
            compile_count=self._throughput.compile_count + count,
        )
        self.resume()
        return seconds

    def book(self, rows: int, useful_steps: int, queries: int, seconds: float) -> Throughput:
        """Book finished rows; returns the totals."""
        before = self._throughput
        useful = before.row_steps - before.wasted_row_steps + useful_steps
        self.queries += queries
        self._throughput = dataclasses.replace(
            before,
            rows=before.rows + rows,
            seconds=before.seconds + seconds,
            row_steps=self.row_steps,
            wasted_row_steps=self.row_steps - useful,
        )
        return self._throughput


class Watcher:
    """Asks the caller now and then whether to go on."""

    def __init__(self, watch: Watch | None, meter: Meter) -> None:
        self._watch, self._meter = watch, meter
        self._asked = time.monotonic()
        self.stopped = False
        self.stages: Stages | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for another look."""
        return self._watch is not None and time.monotonic() - self._asked >= _SECONDS_BETWEEN_LOOKS

    def look(self, queries: Callable[[], int]) -> None:
        """Report what rows at work have spent, if it is time to."""
        if self._watch is None or not self.due:
            return
        self._asked = time.monotonic()
        meter = self._meter
        spent = meter.queries + queries()
        if self.stages is not None:
            self.stopped = not self._watch(self.stages.progress(spent))
            return
        self.stopped = not self._watch(
            Progress(spent, meter.row_steps, meter.elapsed(), meter.throughput.rows)
        )
