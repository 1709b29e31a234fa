"""Which compiled programs a run uses, and where: made once per victim, attack and shape.

machine = make_machine(victim, (32_000,), attack=PGD(), mesh=mesh, slots=16, score_rows=16)
state, report = machine.attack.advance(machine.all_variables, wanted, state)
scored = machine.victim.score(machine.variables, key, SCORE, ids, x, x_adv)
"""

import dataclasses
import functools
import threading
import weakref
from collections.abc import Hashable
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxser.attacks.base import Attack, LogitsFn, NetworkAttack
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.programs import (
    AttackPrograms,
    VictimFunction,
    VictimPrograms,
    collect_program,
)
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.numerics import fixed_numerics, without_64_bits
from jaxser.runtime.sharding import batch_sharding, on_cpus, replicated
from jaxser.victims.victim import Victim

__all__ = ["Loop", "Machine", "make_machine"]

Loop = Literal["host", "device"]

# Steps inside one device loop: many enough that a call costs nothing, few enough that progress is
# seen and Ctrl-C heard. Where rows finish one by one, their slots stand empty until the host has
# seen a later call.
_INNER_STEPS = 50
_EARLY_INNER_STEPS = 10

# Where rows finish one by one, a refill waits for this share of a device's slots: fewer refills,
# each of which costs a call of ``start``.
_REFILL_SHARE = 1 / 8

# Threads that compile ahead are to find the very programs that the run will call.
_MAKING = threading.RLock()


@functools.lru_cache(maxsize=32)
def _victim_programs(
    victim: VictimFunction,
    mesh: Mesh,
    shape: tuple[int, ...],
    variables_structure: Any,
    variables_shapes: tuple[tuple[tuple[int, ...], str], ...],
) -> VictimPrograms:
    """One set of programs per victim function and shapes.

    The cache is keyed by the shapes of the variables, not by their values: the same function with
    other variables, as a victim has while it is trained, runs in the same programs.
    """
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in variables_shapes]
    variables = jax.tree.unflatten(variables_structure, leaves)
    return VictimPrograms(victim, mesh, _num_classes(victim, variables, shape))


@functools.lru_cache(maxsize=64)
def _attack_programs(
    programs: VictimPrograms,
    victim: VictimFunction,
    attack: Hashable,
    mesh: Mesh,
    slots: int,
    inner_steps: int,
) -> AttackPrograms:
    """One set of programs per attack; ``programs`` stand for all other shapes in the key."""
    del programs
    return AttackPrograms(victim, cast(Attack, attack), mesh, slots, inner_steps)


@functools.lru_cache(maxsize=64)
def _collect_program(
    mesh: Mesh, slots: int, score_rows: int, input_shape: tuple[int, ...]
) -> Program:
    """The same for all victims and attacks."""
    del slots, score_rows, input_shape  # they are of the key alone
    return collect_program(mesh)


@dataclasses.dataclass(frozen=True)
class Machine:
    """With what and where a stream of rows runs.

    Attributes:
      victim: programs that do not depend on the attack.
      attack: programs of the attack (an ``AttackPrograms``), or None where there is none.
      collect: from slots to the batch that is scored; see ``collect_program``.
      variables: of the victim, on every device.
      attack_variables: of an attack that is a network, likewise; () of others.
      mesh: the devices.
      slots: rows that are attacked at a time, over all devices.
      fresh_rows: rows that are started at a time, over all devices.
      score_rows: rows of a batch that is only looked at, over all devices.
      inner_steps: most attack steps per call of ``attack.advance``.
    """

    victim: VictimPrograms
    attack: Any
    collect: Program
    variables: Any
    attack_variables: Any
    mesh: Mesh
    slots: int
    fresh_rows: int
    score_rows: int
    inner_steps: int

    @property
    def num_devices(self) -> int:
        return int(self.mesh.size)

    @property
    def on_cpu(self) -> bool:
        return on_cpus(self.mesh)

    @property
    def all_variables(self) -> tuple[Any, Any]:
        """What ``attack.init`` and ``attack.advance`` are given."""
        return self.variables, self.attack_variables

    def put(self, values: Any) -> Any:
        """Host arrays ``[batch, ...]`` on the devices, split along the batch."""
        return jax.device_put(values, batch_sharding(self.mesh))


def make_machine(
    victim: Victim | LogitsFn,
    input_shape: tuple[int, ...],
    *,
    attack: Attack | None,
    mesh: Mesh,
    slots: int,
    score_rows: int,
    loop: Loop | None = None,
) -> Machine:
    """Programs for a victim and an attack, those of an earlier run where they fit.

    Args:
      victim: a victim, or a function from inputs to logits.
      input_shape: of one input.
      attack: or None to predict only.
      mesh: the devices, with the axis "data".
      slots: rows that are attacked at a time; a multiple of the devices.
      score_rows: rows of a batch that is only looked at; a multiple of the devices.
      loop: who loops over steps: "host", or "device" inside one program. By default the host
        on CPU, where gradients of convolutions inside a loop are many times slower.

    Raises:
      InputError: inputs that the victim does not take, or a victim that returns no logits.
      UsageError: unknown loop.
    """
    if isinstance(victim, Victim):
        if input_shape != tuple(victim.input_shape):
            raise InputError(
                f"{victim.name} takes inputs of shape {tuple(victim.input_shape)}, but those given "
                f"have {input_shape}; prepare them with the victim's own audio settings."
            )
        function = VictimFunction(victim.apply, takes_variables=True, randomised=victim.randomised)
    else:
        function = VictimFunction(victim, takes_variables=False, randomised=False)
    if loop is None:
        # A CPU takes a convolution's gradient 2 to 40 times as long inside a compiled loop as
        # outside, and calls cost little there. An accelerator would wait for the host between
        # steps that are shorter than a call.
        loop = "host" if on_cpus(mesh) else "device"
    if loop not in ("host", "device"):
        raise UsageError(f"loop must be 'host' or 'device', not {loop!r}.")
    inner_steps, fresh_rows = 1, slots
    if attack is not None and loop == "device":
        # Calls of equal length: a last one that is cut short would run to its end for nothing.
        most = _EARLY_INNER_STEPS if attack.finishes_early else _INNER_STEPS
        calls = -(-attack.max_steps // most)
        inner_steps = -(-attack.max_steps // calls)
    if attack is not None and attack.finishes_early:
        fresh_rows = mesh.size * max(1, int(_REFILL_SHARE * slots / mesh.size))
    own = attack.variables if isinstance(attack, NetworkAttack) else ()
    own = jax.device_put(without_64_bits(own), replicated(mesh))
    variables = _on_devices(victim, mesh) if isinstance(victim, Victim) else ()
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
    with _MAKING:
        programs = _victim_programs(function, mesh, (score_rows, *input_shape), structure, shapes)
        of_attack = None
        if attack is not None:
            of_attack = _attack_programs(
                programs, function, cast(Hashable, attack), mesh, slots, inner_steps
            )
        collect = _collect_program(mesh, slots, score_rows, tuple(input_shape))
    return Machine(
        victim=programs,
        attack=of_attack,
        collect=collect,
        variables=variables,
        attack_variables=own,
        mesh=mesh,
        slots=slots,
        fresh_rows=fresh_rows,
        score_rows=score_rows,
        inner_steps=inner_steps,
    )


# Of a victim, as long as there is one: runs that are planned beside one that is under way would put
# them there once more for every attack.
_PLACED: "weakref.WeakKeyDictionary[Victim, dict[Mesh, Any]]" = weakref.WeakKeyDictionary()


def _on_devices(victim: Victim, mesh: Mesh) -> Any:
    """A victim's variables, on every device once; arrays of NumPy, which can change, every time."""
    variables = without_64_bits(victim.variables)
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables)):
        return jax.device_put(variables, replicated(mesh))
    with _MAKING:
        placed = _PLACED.setdefault(victim, {})
        if mesh not in placed:
            placed[mesh] = jax.device_put(variables, replicated(mesh))
        return placed[mesh]


def _num_classes(victim: VictimFunction, variables: Any, shape: tuple[int, ...]) -> int:
    """Classes of the victim's logits, found without running it."""

    def logits(variables: Any, x: Array) -> Array:
        keys = jax.random.split(jax.random.key(0), shape[0])
        return victim.logits_fn(variables, keys, jnp.zeros(shape[0], jnp.uint32))(x)

    with fixed_numerics():
        found = jax.eval_shape(logits, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    if len(found.shape) != 2 or found.shape[0] != shape[0] or found.shape[1] < 2:
        raise InputError(
            f"the victim must map {list(shape)} to logits [{shape[0]}, classes] with "
            f"at least two classes, but returns {list(found.shape)}."
        )
    return int(found.shape[1])
