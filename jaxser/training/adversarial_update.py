"""The update that trains against an attack, compiled: one program, or on a CPU three.

    update = adversarial_update(adversarial_parts(model, optimizer, key, defence), mesh)
    state = update(state, batch, epsilon)

Gradients of convolutions take a CPU many times as long inside a compiled loop, and a program with
each step of the attack written out takes minutes to compile. There the host calls one step after
the other, as the driver does; elsewhere all is one program.
"""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float

from jaxser.driver.ahead_of_time import Program
from jaxser.runtime.forms import on_cpu
from jaxser.runtime.sharding import batch_sharding, replicated
from jaxser.training.adversarial import AdversarialParts, Attacked, step_of
from jaxser.training.input_pipeline import unpadded
from jaxser.training.update import UpdateProgram
from jaxser.training.victim import Batch, TrainState

__all__ = ["adversarial_update"]


def adversarial_update(
    parts: AdversarialParts, mesh: Mesh, batch_size: int | None = None
) -> UpdateProgram:
    """``(state, batch, lowest and highest ε) -> state``, compiled by ``prepare`` or the first call.

    Args:
      parts: of :func:`jaxser.training.adversarial.adversarial_parts`.
      mesh: devices that share a batch.
      batch_size: rows of a batch, where others are in it to fill it up.

    Returns:
      An update that takes over the buffers of the state.
    """
    if batch_size is not None:
        parts = dataclasses.replace(
            parts,
            begin=unpadded(parts.begin, batch_size, mesh),
            finish=unpadded(parts.finish, batch_size, mesh),
        )
    if parts.steps > 1 and on_cpu():
        return _StepByStep(parts, mesh)
    whole, rows = replicated(mesh), batch_sharding(mesh)
    return Program(
        step_of(parts), donate=(0,), in_shardings=(whole, rows, whole), out_shardings=whole
    )


class _StepByStep:
    """The parts as a program each, of which the second is called for every step of the attack."""

    def __init__(self, parts: AdversarialParts, mesh: Mesh) -> None:
        self._parts, self._mesh = parts, mesh
        self._whole, self._rows = replicated(mesh), batch_sharding(mesh)
        self._programs: tuple[Program, Program, Program] | None = None

    def __call__(self, state: TrainState, batch: Batch, epsilon: Float[Array, "2"]) -> TrainState:
        if self._programs is None:
            self.prepare(state, batch, epsilon)
        assert self._programs is not None
        begin, advance, finish = self._programs
        at, looked_at = begin(state, batch, epsilon), _attacked_state(state)
        for number in range(self._parts.steps):
            at = advance(looked_at, at, np.int32(number))
        after: TrainState = finish(state, batch, at)
        return after

    def prepare(self, state: TrainState, batch: Batch, epsilon: Float[Array, "2"]) -> None:
        """Compile the three, with what is on its way where the batch is."""
        parts, whole, rows = self._parts, self._whole, self._rows
        shapes: Attacked = Program(parts.begin).result_shapes(state, batch, epsilon)
        places = jax.tree.map(self._place, shapes)
        at = jax.tree.map(
            lambda shape, place: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place),
            shapes,
            places,
        )
        begin = Program(parts.begin, in_shardings=(whole, rows, whole), out_shardings=places)
        advance = Program(
            parts.advance, donate=(1,), in_shardings=(whole, places, whole), out_shardings=places
        )
        finish = Program(
            parts.finish, donate=(0,), in_shardings=(whole, rows, places), out_shardings=whole
        )
        begin.prepare(state, batch, epsilon)
        advance.prepare(_attacked_state(state), at, np.int32(0))
        finish.prepare(state, batch, at)
        self._programs = begin, advance, finish

    def _place(self, shape: jax.ShapeDtypeStruct) -> NamedSharding:
        """Rows are shared as those of a batch are, unless there are too few for all devices."""
        shared = shape.ndim and shape.shape[0] % self._mesh.devices.size == 0
        return self._rows if shared else self._whole


def _attacked_state(state: TrainState) -> TrainState:
    """What a step of the attack needs of a state: without an optimiser to hand over each time."""
    return state.replace(opt_state=())  # type: ignore[attr-defined]
