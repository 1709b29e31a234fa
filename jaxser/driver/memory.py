"""How many rows go through the devices at a time.

    slots = choose_slots(victim, attack, (32_000,), rows=2_000, mesh=mesh, loop=None)
    if is_out_of_memory(error): ...

On an accelerator a small batch is compiled and the compiler asked what a row needs; the free
memory says how many rows fit. On CPU memory is not what limits, and bigger batches are no faster.
"""

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxser.attacks.base import Attack, LogitsFn
from jaxser.driver.machine import Loop, Machine, make_machine
from jaxser.runtime.cores import available_cores
from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import batch_sharding, replicated
from jaxser.victims.victim import Victim

__all__ = [
    "choose_score_rows",
    "choose_slots",
    "in_fitting_batches",
    "is_out_of_memory",
    "round_up",
    "rows_in_memory",
    "smaller_batch",
]

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

_CPU_ROWS = 16
_ACCELERATOR_ROWS = 256
_SCORE_ROWS = 64

# Of attacks whose rows finish one by one, this many rows per slot: the fewer slots, the fewer
# stand empty while the last rows of the run finish.
_CPU_ROWS_PER_SLOT = 64
_ACCELERATOR_ROWS_PER_SLOT = 8
_LEAST_ACCELERATOR_SLOTS = 32

# Rows of the batch that is compiled to see what a row needs.
_PROBE_ROWS = 8

# Of the free memory: what is left takes rows that wait to be scored, and fragmentation.
_MEMORY_SHARE = 0.8


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def choose_score_rows(utterances: int, mesh: Mesh, passes: int = 1) -> int:
    """Rows of a batch that is only looked at, over all devices; a multiple of the devices.

    Args:
      utterances: that are looked at.
      mesh: the devices.
      passes: inputs that the victim's network reads for a row.
    """
    each = max(1, (_CPU_ROWS if _on_cpu(mesh) else _SCORE_ROWS) // passes)
    return round_up(min(utterances, each * mesh.size), mesh)


def choose_slots(
    victim: Victim | LogitsFn,
    attack: Attack,
    input_shape: tuple[int, ...],
    *,
    rows: int,
    mesh: Mesh,
    loop: Loop | None,
) -> int:
    """Rows that are attacked at a time, over all devices; a multiple of the devices.

    Args:
      victim: what is attacked.
      attack: with what.
      input_shape: of one input.
      rows: of the whole run.
      mesh: the devices.
      loop: as in :func:`jaxser.driver.machine.make_machine`.
    """
    most = _CPU_ROWS if _on_cpu(mesh) else _ACCELERATOR_ROWS
    passes = victim.passes if isinstance(victim, Victim) else 1
    slots = max(1, most // (attack.forward_rows * passes)) * mesh.size
    if attack.finishes_early:
        # A slot per core keeps the cores busy.
        least = available_cores() if _on_cpu(mesh) else _LEAST_ACCELERATOR_SLOTS
        per_slot = _CPU_ROWS_PER_SLOT if _on_cpu(mesh) else _ACCELERATOR_ROWS_PER_SLOT
        slots = min(slots, max(least, _power_of_two(rows // per_slot)))
    free = None if _on_cpu(mesh) else _free_bytes(mesh)
    if free is not None and slots > _PROBE_ROWS * mesh.size:
        # The compiler says what a step needs before anything runs, so nobody has to run out of
        # memory to find it. The price is one more compilation of the step, for a small batch.
        probe = make_machine(
            victim,
            input_shape,
            attack=attack,
            mesh=mesh,
            slots=_PROBE_ROWS * mesh.size,
            score_rows=_PROBE_ROWS * mesh.size,
            loop=loop,
        )
        fit = rows_in_memory(probe, input_shape, free)
        slots = min(slots, mesh.size * _power_of_two(fit))
    return round_up(min(rows, slots), mesh)


def smaller_batch(rows: int, mesh: Mesh, error: str) -> int:
    """The next smaller batch after an out-of-memory error, with a line in the log.

    Raises:
      InputError: there is none.
    """
    if rows == mesh.size:
        raise InputError(
            f"there is no memory for a single row per device ({error.splitlines()[0][:200]}); "
            "use shorter inputs, an attack with fewer inputs per step, or another device."
        )
    smaller = max(mesh.size, round_up(rows // 2, mesh))
    _log.warning("out of memory with %d rows at a time: going on with %d", rows, smaller)
    return smaller


def in_fitting_batches(run: Callable[[int], Result], rows: int, mesh: Mesh) -> Result:
    """``run(rows)``, begun again with smaller batches where memory runs out.

    Raises:
      InputError: there is no memory for a single row.
    """
    while True:
        try:
            return run(rows)
        except Exception as raised:
            if not is_out_of_memory(raised):
                raise
            error = str(raised)
        # Only here has the error let go of the arrays that filled the memory.
        rows = smaller_batch(rows, mesh, error)


def rows_in_memory(probe: Machine, input_shape: tuple[int, ...], free: int) -> int:
    """Rows per device that fit into ``free`` bytes of each, by the needs of a small batch.

    Args:
      probe: programs for a small batch; its largest is compiled.
      input_shape: of one input.
      free: bytes per device.
    """
    needed = _probe_bytes(probe, input_shape)
    # They are among what the step needs, and do not grow with the rows.
    variables = sum(leaf.nbytes for leaf in jax.tree.leaves(probe.all_variables))
    per_row = max(1, needed - variables) / (probe.slots // probe.num_devices)
    return max(1, int(_MEMORY_SHARE * free / per_row))


def round_up(rows: int, mesh: Mesh) -> int:
    """``rows`` as a multiple of the devices."""
    return -(-rows // mesh.size) * mesh.size


def _probe_bytes(probe: Machine, input_shape: tuple[int, ...]) -> int:
    """Device memory of the attack's step."""
    along, whole = batch_sharding(probe.mesh), replicated(probe.mesh)

    def rows(dtype: jnp.dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((probe.fresh_rows, *shape), dtype, sharding=along)

    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=whole)
    x, y, ids = rows(jnp.float32, *input_shape), rows(jnp.int32), rows(jnp.uint32)
    programs = probe.attack
    fresh = {"x": x, "y": y, "ids": ids, "epsilon": rows(jnp.float32), "real": rows(jnp.bool_)}
    state = programs.init.result_shapes(probe.all_variables, key, fresh)
    state = jax.tree.map(
        lambda of: jax.ShapeDtypeStruct((probe.slots, *of.shape[1:]), of.dtype, sharding=along),
        state,
    )
    wanted = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return int(programs.advance.bytes_needed(probe.all_variables, wanted, state))


def _on_cpu(mesh: Mesh) -> bool:
    return bool(mesh.devices.flat[0].platform == "cpu")


def _free_bytes(mesh: Mesh) -> int | None:
    """Free memory of the fullest device; None where a device does not say."""
    stats = [device.memory_stats() for device in mesh.devices.flat]
    if not all(each and "bytes_limit" in each for each in stats):
        return None
    return min(int(each["bytes_limit"] - each["bytes_in_use"]) for each in stats)


def _power_of_two(number: int) -> int:
    """The largest power of two that is not larger; at least 1."""
    return 2 ** int(math.log2(max(1, number)))
