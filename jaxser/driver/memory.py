"""How many rows go through the devices at a time.

    slots = choose_slots(
        victim, attack, (32_000,), rows=2_000, score_rows=64, mesh=mesh, loop=None
    )
    if is_out_of_memory(error): ...

On an accelerator the compiler is asked what the step that it has compiled needs; the free memory
says whether as many rows fit, or how many. On CPU memory is not what limits, and bigger batches are
no faster.
"""

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.sharding import Mesh

from jaxser.attacks.base import Attack, LogitsFn
from jaxser.driver.machine import Loop, Machine, make_machine
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.runtime.cores import available_cores
from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import on_cpus
from jaxser.victims.victim import Victim

__all__ = [
    "choose_score_rows",
    "choose_slots",
    "free_bytes",
    "in_fitting_batches",
    "is_out_of_memory",
    "power_of_two_from",
    "round_up",
    "rows_in_memory",
    "smaller_batch",
]

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Most rows of a batch on one device: a CPU is no faster with more, nor is an accelerator, once the
# bytes of a step take much longer than its launches.
_CPU_ROWS = 16
_ACCELERATOR_ROWS = 1024

# So few rows take an accelerator no longer than one: what a step costs are its launches.
_FREE_ACCELERATOR_ROWS = 256

# A few utterances at many ε are scored in batches of more rows than there are utterances.
_LEAST_SCORE_ROWS = 64

# Rows of a batch may be padded by this share of them, so that batches of few sizes do.
_PADDING = 1 / 4

# Of attacks whose rows finish one by one, so many rows per slot on a CPU: the fewer slots, the
# fewer stand empty while the last rows of the run finish.
_CPU_ROWS_PER_SLOT = 64

# On an accelerator ``rows`` that take ``mean`` steps each, the longest ``most``, are through after
# (rows * mean / slots + most) * (launches + slots * bytes) seconds: least with
# sqrt(rows * mean / most * launches / bytes) slots, where mean / most is about 1/5 and the launches
# cost as much as the bytes of some 300 rows.
_ROWS_AT_ONCE = 60

# Of the free memory: what is left takes rows that wait to be scored, and fragmentation.
_MEMORY_SHARE = 0.8


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def choose_score_rows(utterances: int, mesh: Mesh, passes: int = 1) -> int:
    """Rows of a batch that is only looked at, over all devices; a multiple of the devices.

    A power of two on each device, so that runs of other numbers of utterances share programs.

    Args:
      utterances: that are looked at.
      mesh: the devices.
      passes: inputs that the victim's network reads for a row.
    """
    least, most = (1, _CPU_ROWS) if on_cpus(mesh) else (_LEAST_SCORE_ROWS, _FREE_ACCELERATOR_ROWS)
    size = max(least, power_of_two_from(-(-utterances // mesh.size)))
    return min(size, _power_of_two(most // passes)) * int(mesh.size)


def choose_slots(
    victim: Victim | LogitsFn,
    attack: Attack,
    input_shape: tuple[int, ...],
    *,
    rows: int,
    score_rows: int,
    mesh: Mesh,
    loop: Loop | None,
) -> int:
    """Rows that are attacked at a time, over all devices; a multiple of the devices.

    A power of two on each device, so that runs of other numbers of rows share programs.

    Args:
      victim: what is attacked.
      attack: with what.
      input_shape: of one input.
      rows: of the whole run.
      score_rows: rows of a batch that is only looked at.
      mesh: the devices.
      loop: as in :func:`jaxser.driver.machine.make_machine`.
    """
    passes = victim.passes if isinstance(victim, Victim) else 1
    size = _slots_of_device(attack, passes, -(-rows // mesh.size), mesh)
    slots = size * int(mesh.size)
    bytes_left = free_bytes(mesh)
    if bytes_left is None:
        return slots
    free: int = bytes_left

    def fitting(slots: int) -> int:
        machine = make_machine(
            victim,
            input_shape,
            attack=attack,
            mesh=mesh,
            slots=slots,
            score_rows=score_rows,
            loop=loop,
        )
        fit = _power_of_two(rows_in_memory(machine, input_shape, free))
        return min(slots, fit * int(mesh.size))

    # The compiler says what a step needs before anything runs, so nobody has to run out of memory
    # to find it. Where all is well, the run goes on with the program that was asked.
    return in_fitting_batches(fitting, slots, mesh)


def _slots_of_device(attack: Attack, passes: int, rows: int, mesh: Mesh) -> int:
    """For the ``rows`` of one device, as if it had all memory."""
    on_cpu = on_cpus(mesh)
    most = _CPU_ROWS if on_cpu else _ACCELERATOR_ROWS
    most = min(_power_of_two(most // (attack.forward_rows * passes)), power_of_two_from(rows))
    if not attack.finishes_early:
        return _least_padded(rows, most, 1 if on_cpu else _FREE_ACCELERATOR_ROWS)
    if on_cpu:
        # A slot per core keeps the cores busy.
        least = power_of_two_from(-(-available_cores() // mesh.size))
        return min(most, max(least, _power_of_two(rows // _CPU_ROWS_PER_SLOT)))
    return min(most, power_of_two_from(math.ceil(math.sqrt(_ROWS_AT_ONCE * rows))))


def _least_padded(rows: int, most: int, free: int) -> int:
    """The largest power of two up to ``most`` whose last batch is not too empty, or that is as good
    as free."""
    size = most
    while size > free and -rows % size > _PADDING * rows:
        size //= 2
    return size


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


def rows_in_memory(machine: Machine, input_shape: tuple[int, ...], free: int) -> int:
    """Rows per device that fit into ``free`` bytes of each, by the needs of the attack's step.

    Args:
      machine: its programs; that of the step is compiled.
      input_shape: of one input.
      free: bytes per device.
    """
    needed = machine.attack.advance.bytes_needed(*ProgramShapes(machine, input_shape).advance)
    # They are among what the step needs, and do not grow with the rows.
    variables = sum(leaf.nbytes for leaf in jax.tree.leaves(machine.all_variables))
    per_row = max(1, needed - variables) / (machine.slots // machine.num_devices)
    return max(1, int(_MEMORY_SHARE * free / per_row))


def round_up(rows: int, mesh: Mesh) -> int:
    """``rows`` as a multiple of the devices."""
    return -(-rows // mesh.size) * mesh.size


def free_bytes(mesh: Mesh) -> int | None:
    """Free memory of the fullest device; None where a device does not say, and of a CPU, whose
    memory is the host's."""
    if on_cpus(mesh):
        return None
    stats = [device.memory_stats() for device in mesh.devices.flat]
    if not all(each and "bytes_limit" in each for each in stats):
        return None
    return min(int(each["bytes_limit"] - each["bytes_in_use"]) for each in stats)


def _power_of_two(number: int) -> int:
    """The largest power of two that is not larger; at least 1."""
    return 1 << (max(1, number).bit_length() - 1)


def power_of_two_from(number: int) -> int:
    """The smallest power of two that is not smaller; at least 1."""
    return 1 << (max(1, number) - 1).bit_length()
