"""The programs of a cell, compiled before anything is timed, and what they are known to do.

    programs = programs_of(cell, drawn, mesh)
    programs.prepare()                                  # in any thread
    programs.facts()                                    # FLOP, bytes, launches, memory, seconds

Attacks have the driver's own programs, so that a run of them compiles nothing more.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.accelerator.cells import Cell
from benchmarks.accelerator.victims import Drawn
from benchmarks.compiled_programs import placed_shapes, shape_machine
from benchmarks.flop import flop_of
from benchmarks.hlo import counted, counted_step
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.machine import Machine, make_machine
from jaxser.driver.program_shapes import Arguments, ProgramShapes
from jaxser.driver.shared_direction import shares_direction
from jaxser.runtime.sharding import batch_sharding, replicated

__all__ = ["CellPrograms", "programs_of"]


@dataclasses.dataclass(eq=False)
class CellPrograms:
    """Compiled once, timed often.

    Attributes:
      drawn: the victim.
      named: name -> program, and the shapes of what it is given.
      main: the one that does a step, or the pass.
      turns: steps in a call of it, where that is fixed; else 1, as a loop of unknown length counts.
      machine: of an attack, else None.
      attack: within the victim's bounds, else None.
      compile_s: of all, once they are compiled.
    """

    drawn: Drawn
    named: dict[str, tuple[Program, Arguments]]
    main: str
    turns: int = 1
    machine: Machine | None = None
    attack: Any = None
    compile_s: float = 0.0

    def prepare(self) -> None:
        """Compile those that are not compiled yet."""
        start = time.perf_counter()
        for program, arguments in self.named.values():
            program.prepare(*arguments)
        self.compile_s = time.perf_counter() - start

    def compiled_with(self, compile_: Callable[[Any], Any]) -> dict[str, float]:
        """Facts as of :meth:`facts`, by another compiler, which may be for another device."""
        program, arguments = self.named[self.main]
        start = time.process_time()
        compiled = compile_(program.lowered(*arguments))
        facts = {"compile_processor_s": time.process_time() - start}
        memory = compiled.memory_analysis()
        needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        facts["memory_gb"] = needed / 1e9
        return facts | self._flop() | self._text(compiled.as_text())

    def facts(self) -> dict[str, float]:
        """What is known without a clock: ``step_gflop``, ``memory_gb`` and on a GPU ``launches``
        and ``step_gb``."""
        program, arguments = self.named[self.main]
        found = {"memory_gb": program.bytes_needed(*arguments) / 1e9, **self._flop()}
        if jax.default_backend() == "gpu":
            found |= self._text(program.text())
        return found

    def needed_bytes(self) -> int:
        """Of the device's memory, by the dearest of the programs."""
        return max(program.bytes_needed(*of) for program, of in self.named.values())

    def _flop(self) -> dict[str, float]:
        program, arguments = self.named[self.main]
        return {"step_gflop": flop_of(program.traced(*arguments).jaxpr) / self.turns / 1e9}

    def _text(self, text: str) -> dict[str, float]:
        counts = (counted_step if self._loops else counted)(text)
        return {
            "launches": counts.launches,
            "step_gb": counts.bytes / 1e9,
            "inner_loops_gb": counts.loop_bytes / 1e9,
        }

    @property
    def _loops(self) -> bool:
        return self.main == "advance" and self.machine is not None and self.machine.inner_steps > 1


def programs_of(cell: Cell, drawn: Drawn, mesh: Any, *, shapes_only: bool = False) -> CellPrograms:
    """The programs of a forward pass, a gradient or an attack.

    Args:
      cell: what is measured.
      drawn: its victim.
      mesh: of one device.
      shapes_only: the device is not there.
    """
    if cell.line is None:
        return _pass_programs(cell, drawn, mesh)
    victim, attack = drawn.victim, cell.line.made(drawn.victim.bounds)
    if shapes_only:
        machine = shape_machine(victim.apply, victim.variables, attack, mesh, cell.batch)
    else:
        machine = make_machine(
            victim,
            tuple(victim.input_shape),
            attack=attack,
            mesh=mesh,
            slots=cell.batch,
            score_rows=cell.batch,
        )
    shares = shares_direction(attack)
    given = list(ProgramShapes(machine, victim.input_shape).programs(shared_direction=shares))
    names = ("score", "direction", "move") if shares else ("score", "start", "advance", "collect")
    fixed = not shares and not attack.finishes_early
    return CellPrograms(
        drawn=drawn,
        named=dict(zip(names, given, strict=True)),
        main="direction" if shares else "advance",
        turns=machine.inner_steps if fixed else 1,
        machine=machine,
        attack=attack,
    )


def _pass_programs(cell: Cell, drawn: Drawn, mesh: Any) -> CellPrograms:
    apply = drawn.victim.apply

    def gradient(variables: Any, x: Any) -> Any:
        def loss(x: Any) -> Any:
            logits = apply(variables, x).astype(jnp.float32)
            labels = jnp.arange(len(logits)) % logits.shape[-1]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

        return jax.grad(loss)(x)

    program = Program({"forward": apply, "gradient": gradient}[cell.kind])
    variables = placed_shapes(drawn.victim.variables, replicated(mesh))
    shape = (cell.batch, *drawn.victim.input_shape)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=batch_sharding(mesh))
    return CellPrograms(drawn, {cell.kind: (program, (variables, x))}, cell.kind)
