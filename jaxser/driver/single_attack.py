"""One attack over the pairs that are left, with what memory there is.

run = Run(victim=victim, work=work, mesh=mesh, batch_size=None, score_rows=64, ...)
for block in run.rows(attack, left):
    block.utterance, block.epsilon_index, block.success
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from jaxser.attacks.base import Attack, LogitsFn
from jaxser.driver.machine import Loop, Machine, make_machine
from jaxser.driver.memory import is_out_of_memory, round_up, smaller_batch
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.plan import slots_of
from jaxser.driver.row_block import RowBlock
from jaxser.driver.stream import attack_stream
from jaxser.driver.work import Work
from jaxser.victims.victim import Victim

__all__ = ["Run"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as all attacks that it is made of share it.

    Attributes:
      victim: what is attacked.
      work: inputs, labels and budgets.
      mesh: the devices.
      batch_size: rows at a time that the caller asked for; None: by the device and its memory.
      score_rows: rows of a batch that is only looked at.
      loop: as in :func:`jaxser.driver.machine.make_machine`.
      refill: whether slots of finished rows take the next rows.
      meter: of the run.
      watcher: says when to stop.
    """

    victim: Victim | LogitsFn
    work: Work
    mesh: Mesh
    batch_size: int | None
    score_rows: int
    loop: Loop | None
    refill: bool
    meter: Meter
    watcher: Watcher

    def rows(
        self, attack: Attack, left: Bool[np.ndarray, "utterances epsilons"]
    ) -> Iterator[RowBlock]:
        """Attack the pairs that are ``left``; where memory runs out, in smaller batches."""
        left, slots, score_rows = left.copy(), self._slots(attack, left), self.score_rows
        while True:
            error = None
            try:
                with_slots = functools.partial(self._machine, attack, score_rows)
                for block in attack_stream(
                    with_slots(slots),
                    attack,
                    self.work,
                    left.copy(),
                    # Where a size was asked for every row is computed in batches of that size, so
                    # that it is the same to the bit whatever rows are beside it.
                    with_slots=None if self.batch_size else with_slots,
                    refill=self.refill,
                    meter=self.meter,
                    watcher=self.watcher,
                ):
                    left[block.utterance, block.epsilon_index] = False
                    yield block
                return
            except Exception as raised:
                if not is_out_of_memory(raised):
                    raise
                error = str(raised)
            # Only here has the error let go of the arrays that filled the memory.
            slots, score_rows = (
                smaller_batch(slots, self.mesh, error),
                max(self.mesh.size, round_up(score_rows // 2, self.mesh)),
            )

    def _machine(self, attack: Attack, score_rows: int, slots: int) -> Machine:
        return make_machine(
            self.victim,
            self.work.source.input_shape,
            attack=attack,
            mesh=self.mesh,
            slots=slots,
            score_rows=score_rows,
            loop=self.loop,
        )

    def _slots(self, attack: Attack, left: Bool[np.ndarray, "utterances epsilons"]) -> int:
        rows = left.any(axis=1).sum() if attack.minimal_norm else left.sum()
        return slots_of(
            self.victim,
            attack,
            self.work.source.input_shape,
            rows=int(rows),
            batch_size=self.batch_size,
            score_rows=self.score_rows,
            mesh=self.mesh,
            loop=self.loop,
        )
