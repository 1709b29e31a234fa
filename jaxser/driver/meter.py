"""What a run costs and how far it is, told while it goes.

meter = Meter()
seconds = meter.lap()                                    # without compilation
meter.book(rows=16, useful_steps=160, queries=160, seconds=seconds).rows_per_second
"""

import dataclasses
import time
from collections.abc import Callable

from jaxser.driver.ahead_of_time import compile_count, compile_seconds

__all__ = ["Meter", "Progress", "Throughput", "Watch", "Watcher"]

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
    """

    queries: int
    row_steps: int
    seconds: float


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

    def look(self, queries: Callable[[], int]) -> None:
        """Report what rows at work have spent, if it is time to."""
        now = time.monotonic()
        if self._watch is None or now - self._asked < _SECONDS_BETWEEN_LOOKS:
            return
        self._asked = now
        meter = self._meter
        self.stopped = not self._watch(
            Progress(meter.queries + queries(), meter.row_steps, meter.elapsed())
        )
