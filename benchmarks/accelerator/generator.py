"""STAA-Net's generator as a cell: perturbations and training steps, beside PyTorch's.

programs = GeneratorPrograms(cell, sides_of_all, seconds)
programs.prepare()                                  # in any thread
lines = generator_lines(cell, programs, setting)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.measuring import Setting
from benchmarks.accelerator.victims import drawn_weights
from benchmarks.compiled_programs import SAMPLE_RATE
from benchmarks.generator_sides import Side, jax_side, sides_of
from benchmarks.turns import rows_per_second, seconds_of, take_turns
from jaxser import models
from jaxser.models.wave_unet import example_inputs

__all__ = ["GeneratorPrograms", "generator_lines", "generator_sides"]

# Of a turn, as a short call's time is a matter of luck.
_AT_LEAST = 0.3


def generator_sides(seconds: float, dtype: str, peers: str) -> dict[str, Side]:
    """jaxser's two paddings, and PyTorch's sides where there are ``peers``."""
    samples, device = round(seconds * SAMPLE_RATE), jax.default_backend()
    if peers != "none":
        return sides_of(samples, device, dtype, peers == "compiled")
    module: Any = models.build("waveunet", num_samples=samples, dtype=dtype)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *example_inputs(module))
    weights = drawn_weights(shapes)
    return {
        f"jaxser {padding}": jax_side(module.clone(padding=padding), weights)
        for padding in ("valid", "same")
    }


class GeneratorPrograms:
    """The sides of a cell, of which jaxser's are compiled before anything is timed.

    Args:
      cell: what is measured.
      sides: makes them, once for all cells.
      seconds: of speech in a row.

    Attributes:
      first_s: side -> seconds of its first call.
    """

    def __init__(self, cell: Cell, sides: Callable[[], dict[str, Side]], seconds: float) -> None:
        self._cell, self._sides, self.seconds = cell, sides, seconds
        self.first_s: dict[str, float] = {}

    @functools.cached_property
    def x(self) -> np.ndarray:
        """Made-up speech."""
        shape = (self._cell.batch, round(self.seconds * SAMPLE_RATE))
        return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)

    def prepare(self) -> None:
        """Compile jaxser's sides, by calling them."""
        for name, side in self.sides().items():
            if not side.peer:
                self._call_first(name, side)

    def sides(self) -> dict[str, Side]:
        return self._sides()

    def placed(self) -> dict[str, Any]:
        """Speech on the device of every side, all of which have been called once."""
        for name, side in self.sides().items():
            if name not in self.first_s:
                self._call_first(name, side)
        return {name: side.place(self.x) for name, side in self.sides().items()}

    def _call_first(self, name: str, side: Side) -> None:
        self.first_s[name] = seconds_of(side.runs[self._cell.task], side.place(self.x))


def generator_lines(
    cell: Cell, programs: GeneratorPrograms, setting: Setting
) -> list[dict[str, Any]]:
    """A line for each side."""
    placed, sides, seconds = programs.placed(), programs.sides(), programs.seconds
    rates = take_turns(
        {
            name: functools.partial(
                rows_per_second, side.runs[cell.task], placed[name], at_least=_AT_LEAST
            )
            for name, side in sides.items()
        },
        setting.pairs,
    )
    lines = []
    for name, side in sides.items():
        rate = float(np.median(rates[name]))
        tflop_per_s = rate * side.gflop[cell.task] / 1e3
        lines.append(
            {
                "model": "waveunet",
                "task": cell.task,
                "batch": cell.batch,
                "seconds": seconds,
                "side": name,
                "rows_per_s": rates[name],
                "rtfx": rate * seconds,
                "gflop_per_row": side.gflop[cell.task],
                "tflop_per_s": tflop_per_s,
                "share_of_peak": tflop_per_s / setting.ceilings.tflop_per_s,
                "compile_s": programs.first_s[name],
            }
        )
    return lines
