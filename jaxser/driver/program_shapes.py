"""Shapes of the arguments that a run's programs are called with, so that they can be compiled
before there are any.

shapes = ProgramShapes(machine, (32_000,))
machine.attack.advance.bytes_needed(*shapes.advance)
for program, arguments in shapes.programs():                # all that a run of the machine calls
    program.prepare(*arguments)
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxser.driver.ahead_of_time import Program
from jaxser.driver.machine import Machine
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.sharding import batch_sharding, replicated

__all__ = ["COSTS", "Arguments", "ProgramShapes"]

# Leaves of an attack's state that leave with a finished row, beside its inputs.
COSTS = ("steps", "queries", "gradients", "flags")

Arguments = tuple[Any, ...]


class ProgramShapes:
    """What the programs of a machine are given, with the shardings of it.

    Args:
      machine: its programs.
      input_shape: of one input.
    """

    def __init__(self, machine: Machine, input_shape: tuple[int, ...]) -> None:
        self._machine, self._input_shape = machine, input_shape
        self._along, self._whole = batch_sharding(machine.mesh), replicated(machine.mesh)

    def programs(self, *, shared_direction: bool = False) -> Iterator[tuple[Program, Arguments]]:
        """What a run calls, in the order in which it does.

        Args:
          shared_direction: whether one gradient of an utterance serves all its ε.
        """
        machine = self._machine
        yield machine.victim.score, self.score
        if machine.attack is None:
            return
        if shared_direction:
            yield machine.attack.direction, self.direction
            yield machine.attack.move, self.move
            return
        yield machine.attack.start, self.start
        yield machine.attack.advance, self.advance
        yield machine.collect, self.collect

    @functools.cached_property
    def state(self) -> Any:
        """The attack's state over all slots."""
        # Of rows that start together; those of the slots differ in their number alone.
        fresh = self._variables, self._key, self._fresh(slot=False)
        made, _ = self._machine.attack.start.result_shapes(*fresh)
        slots = self._machine.slots
        return jax.tree.map(lambda of: self._rows(slots, of.dtype, of.shape[1:]), made)

    @property
    def start(self) -> Arguments:
        own = (self._variables, self._key)
        if not self._machine.attack.places:
            return (*own, self._fresh(slot=False))
        return (*own, self._fresh(slot=True), self.state)

    @property
    def advance(self) -> Arguments:
        wanted = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._whole)
        return self._variables, wanted, self.state

    @property
    def collect(self) -> Arguments:
        names = ("x", "x_adv", *COSTS)
        leaves = {name: getattr(self.state, name) for name in names}
        size = self._machine.score_rows
        waiting = {name: self._rows(size, of.dtype, of.shape[1:]) for name, of in leaves.items()}
        return waiting, leaves, self._rows(self._machine.slots, jnp.int32)

    @property
    def score(self) -> Arguments:
        draw = jax.ShapeDtypeStruct((), jnp.uint32, sharding=self._whole)
        ids, x, _ = self._looked_at
        return self._of_victim, self._key, draw, ids, x, x

    @property
    def direction(self) -> Arguments:
        return self._of_victim, self._key, *self._looked_at

    @property
    def move(self) -> Arguments:
        _, x, _ = self._looked_at
        return x, x, self._rows(self._machine.score_rows, jnp.float32)

    @property
    def _looked_at(self) -> Arguments:
        """Ids, inputs and labels of a batch that is only looked at."""
        size = self._machine.score_rows
        x = self._rows(size, jnp.float32, self._input_shape)
        return self._rows(size, jnp.uint32), x, self._rows(size, jnp.int32)

    def _fresh(self, *, slot: bool) -> dict[str, Any]:
        rows = self._machine.fresh_rows
        fresh = {
            "x": self._rows(rows, jnp.float32, self._input_shape),
            "y": self._rows(rows, jnp.int32),
            "ids": self._rows(rows, jnp.uint32),
            "epsilon": self._rows(rows, jnp.float32),
            "real": self._rows(rows, jnp.bool_),
        }
        return fresh | ({"slot": self._rows(rows, jnp.int32)} if slot else {})

    def _rows(self, count: int, dtype: Any, shape: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
        # Of arrays without an entry the compiler gives every device the whole.
        sharding = self._whole if 0 in shape else self._along
        return jax.ShapeDtypeStruct((count, *shape), dtype, sharding=sharding)

    @property
    def _key(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((), seed_key(0).dtype, sharding=self._whole)

    @property
    def _variables(self) -> Any:
        return jax.tree.map(_shape_of, self._machine.all_variables)

    @property
    def _of_victim(self) -> Any:
        return self._variables[0]


def _shape_of(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
