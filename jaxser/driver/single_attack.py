"""One attack over the pairs that are left, with what memory there is.

run = Run(victim=victim, work=work, mesh=mesh, batch_size=None, score_rows=64, ...)
for block in run.rows(attack, left):
    block.utterance, block.epsilon_index, block.success
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from jaxser.attacks.base import Attack, LogitsFn
from jaxser.driver.machine import Loop, make_machine
from jaxser.driver.memory import choose_slots, is_out_of_memory, round_up, smaller_batch
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.row_block import RowBlock
from jaxser.driver.shared_direction import shares_direction
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
                machine = make_machine(
                    self.victim,
                    self.work.source.input_shape,
                    attack=attack,
                    mesh=self.mesh,
                    slots=slots,
                    score_rows=score_rows,
                    loop=self.loop,
                )
                for block in attack_stream(
                    machine,
                    attack,
                    self.work,
                    left.copy(),
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

    def _slots(self, attack: Attack, left: Bool[np.ndarray, "utterances epsilons"]) -> int:
        # A shared direction is followed in the batches that are scored.
        if shares_direction(attack):
            return self.score_rows
        rows = left.any(axis=1).sum() if attack.minimal_norm else left.sum()
        if self.batch_size is not None:
            return round_up(min(self.batch_size, int(rows)), self.mesh)
        return choose_slots(
            self.victim,
            attack,
            self.work.source.input_shape,
            rows=int(rows),
            mesh=self.mesh,
            loop=self.loop,
        )
