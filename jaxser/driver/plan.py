"""What a run will compile, known from the numbers of its rows alone.

for program, arguments in planned_programs(victim, attack, utterances=93, epsilons=16):
    program.prepare(*arguments)              # in any thread; the run finds it compiled

The sizes of its batches are chosen here.
"""

import itertools
from collections.abc import Iterator, Sequence

import jax
from jax.sharding import Mesh

from jaxser.attacks.base import Attack, LogitsFn
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.arguments import checked_count, checked_devices
from jaxser.driver.machine import Loop, make_machine
from jaxser.driver.memory import choose_score_rows, choose_slots, round_up
from jaxser.driver.program_shapes import Arguments, ProgramShapes
from jaxser.driver.sequence import AttackSequence, members
from jaxser.driver.shared_direction import shares_direction
from jaxser.runtime.sharding import make_mesh
from jaxser.victims.victim import Victim

__all__ = ["planned_programs", "score_rows_of", "slots_of"]


def score_rows_of(
    victim: Victim | LogitsFn, asked: int | None, utterances: int, mesh: Mesh, epsilons: int = 1
) -> int:
    """Rows of a batch that is only looked at: as asked, but no more than there are, or by the
    device."""
    rows = utterances * max(1, epsilons)
    if asked is None:
        # Where rows share a batch, the clean pass has to see how they get along.
        passes = victim.passes if isinstance(victim, Victim) else 1
        least = round_up(min(2 * mesh.size, rows), mesh)
        return max(choose_score_rows(utterances, mesh, passes), least)
    return round_up(min(checked_count("batch_size", asked), rows), mesh)


def slots_of(
    victim: Victim | LogitsFn,
    attack: Attack,
    input_shape: tuple[int, ...],
    *,
    rows: int,
    batch_size: int | None,
    score_rows: int,
    mesh: Mesh,
    loop: Loop | None,
) -> int:
    """Rows that are attacked at a time, likewise."""
    # A shared direction is followed in the batches that are scored.
    if shares_direction(attack):
        return score_rows
    if batch_size is not None:
        return round_up(min(batch_size, rows), mesh)
    return choose_slots(
        victim, attack, input_shape, rows=rows, score_rows=score_rows, mesh=mesh, loop=loop
    )


def planned_programs(
    victim: Victim,
    attack: Attack | AttackSequence,
    *,
    utterances: int,
    epsilons: int,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    most_members: int | None = None,
) -> Iterator[tuple[Program, Arguments]]:
    """The programs of :func:`jaxser.driver.run.attack_rows`, with what they are to be prepared for.

    Args:
      victim: what is attacked.
      attack: with what, within the victim's bounds.
      utterances, epsilons: how many there are.
      batch_size, devices: as there.
      most_members: of an attack sequence, of which the later ones may find fewer rows than this
        counts on; all by default.
    """
    mesh = make_mesh(checked_devices(devices))
    score_rows = score_rows_of(victim, batch_size, utterances, mesh, epsilons)
    for member in itertools.islice(members(attack, len(victim.labels)), most_members):
        slots = slots_of(
            victim,
            member,
            tuple(victim.input_shape),
            rows=utterances * (1 if member.minimal_norm else epsilons),
            batch_size=batch_size,
            score_rows=score_rows,
            mesh=mesh,
            loop=None,
        )
        machine = make_machine(
            victim,
            tuple(victim.input_shape),
            attack=member,
            mesh=mesh,
            slots=slots,
            score_rows=score_rows,
        )
        shapes = ProgramShapes(machine, tuple(victim.input_shape))
        yield from shapes.programs(shared_direction=shares_direction(member))
