"""One call: ceilings, then cells as they are compiled, until the time is over.

session = Session(cells, args, end)
session.run()
"""

import argparse
import functools
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.accelerator.ceilings import measured_ceilings
from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.compiling import Compiling
from benchmarks.accelerator.generator import GeneratorPrograms, generator_lines, generator_sides
from benchmarks.accelerator.measuring import Setting, measured
from benchmarks.accelerator.programs import CellPrograms, programs_of
from benchmarks.accelerator.report import Report, reason_of
from benchmarks.accelerator.victims import drawn_victim
from benchmarks.machine import torch_as_xla
from jaxser.driver.memory import free_bytes, is_out_of_memory
from jaxser.runtime.compilation import enable_compilation_cache
from jaxser.runtime.sharding import make_mesh

__all__ = ["Session"]

# Of the time that is left, that goes to compilation before what is compiled is timed.
_COMPILING = 0.4


class Session:
    """All that a call does.

    Args:
      cells: the most telling first.
      args: of the command.
      end: by ``time.monotonic``.
    """

    def __init__(self, cells: Sequence[Cell], args: argparse.Namespace, end: float) -> None:
        enable_compilation_cache()
        if args.peers != "none" and jax.default_backend() == "gpu":
            torch_as_xla()
        self._args, self._end = args, end
        self._mesh = make_mesh(jax.local_devices()[:1])
        self._dtype = args.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
        self._report = Report(args, self._dtype)
        self._waiting = [cell for cell in cells if not self._report.has(cell)]
        self._sides = functools.cache(
            functools.partial(generator_sides, args.seconds, self._dtype, args.peers)
        )
        self._making = threading.Lock()
        self.compiling = Compiling(self._waiting, self._build, args.threads)

    def run(self) -> None:
        """Measure for as long as there is time; what is left is in the file."""
        ceilings = measured_ceilings(jax.local_devices()[0])
        self._report.begin(ceilings)
        args = self._args
        setting = Setting(ceilings, args.peers, args.cell_seconds, args.pairs, self._end)
        while self._time_left() > 0 and self._to_compile():
            self.compiling.go_on(time.monotonic() + _COMPILING * self._time_left())
            self._measure_ready(setting)
        for cell in self._waiting:
            self._report.leave(cell, self.compiling.failed.get(cell, "no time was left for it"))
        self._report.write()

    def _time_left(self) -> float:
        return self._end - time.monotonic()

    def _to_compile(self) -> bool:
        return any(cell not in self.compiling.failed for cell in self._waiting)

    def _build(self, cell: Cell) -> Any:
        # What cells share is made once.
        with self._making:
            if cell.kind == "generator":
                self._sides()
                return GeneratorPrograms(cell, self._sides, self._args.seconds)
            drawn = drawn_victim(cell.victim, self._args.seconds, self._dtype)
        return programs_of(cell, drawn, self._mesh)

    def _measure_ready(self, setting: Setting) -> None:
        for cell in list(self.compiling.ready()):
            if self._time_left() <= 0:
                return
            self._waiting.remove(cell)
            self._try(cell, self.compiling.built.pop(cell), setting)

    def _try(self, cell: Cell, programs: Any, setting: Setting) -> None:
        """Measure a cell; what it fails of is written, and the others go on."""
        try:
            if cell.kind == "generator":
                self._report.add(generator_lines(cell, programs, setting))
            else:
                self._measure(cell, programs, setting)
        except Exception as error:  # whatever a device says
            why = "out of memory; " if is_out_of_memory(error) else ""
            self._report.leave(cell, why + reason_of(error))
        self._report.write()

    def _measure(self, cell: Cell, programs: CellPrograms, setting: Setting) -> None:
        free, needed = free_bytes(self._mesh), programs.needed_bytes()
        if free is not None and needed > free:
            self._report.leave(cell, f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free")
            return
        lines, failed = measured(cell, programs, setting)
        self._report.add(lines)
        for side, reason in failed.items():
            self._report.leave(cell, reason, side)
