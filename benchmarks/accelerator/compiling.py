"""Cells compiled in threads, the most telling first, for as long as there is time.

compiling = Compiling(cells, build, threads=16)
compiling.go_on(until)                        # seconds of time.monotonic
for cell in compiling.ready(): compiling.built[cell].facts()
compiling.failed                              # cell -> why
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.report import reason_of

__all__ = ["Compiling"]

_LOOK = 0.05


class Compiling:
    """Takes the cells in their order.

    Args:
      cells: to compile.
      build: makes a cell's programs, which ``prepare()`` compiles.
      threads: that compile.

    Attributes:
      built: cell -> its programs, compiled.
      failed: cell -> why it could not be compiled.
    """

    def __init__(self, cells: Sequence[Cell], build: Callable[[Cell], Any], threads: int) -> None:
        self._cells, self._build, self._threads = list(cells), build, threads
        self._lock, self._until, self._next = threading.Lock(), 0.0, 0
        self._at_work: set[int] = set()
        self.built: dict[Cell, Any] = {}
        self.failed: dict[Cell, str] = {}

    @property
    def active(self) -> bool:
        """Whether a thread is at work on a cell: compilers cannot be interrupted."""
        return bool(self._at_work)

    def go_on(self, until: float, grace: float = 30.0) -> None:
        """Compile until all is compiled or it is ``until``; then wait up to ``grace`` seconds for
        those that are at work, as a busy machine shows in what is timed next."""
        self._until = until
        # They end by themselves, and a process does not wait for them at its end.
        for _ in range(self._threads - len(self._at_work)):
            threading.Thread(target=self._work, daemon=True).start()
        while time.monotonic() < until and (self.active or self._next < len(self._cells)):
            time.sleep(_LOOK)
        end = time.monotonic() + grace
        while self.active and time.monotonic() < end:
            time.sleep(_LOOK)

    def ready(self) -> Iterator[Cell]:
        """Compiled cells in their order."""
        return (cell for cell in self._cells if cell in self.built)

    def _work(self) -> None:
        while (place := self._taken()) is not None:
            cell = self._cells[place]
            try:
                programs = self._build(cell)
                programs.prepare()
                self.built[cell] = programs
            except Exception as error:  # whatever a compiler says; the others go on
                self.failed[cell] = reason_of(error)
            finally:
                with self._lock:
                    self._at_work.discard(place)

    def _taken(self) -> int | None:
        with self._lock:
            if self._next >= len(self._cells) or time.monotonic() >= self._until:
                return None
            place, self._next = self._next, self._next + 1
            self._at_work.add(place)
            return place
