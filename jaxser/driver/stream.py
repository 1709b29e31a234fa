"""Rows through slots: one stream of equally shaped batches, whatever the attack.

    for block in attack_stream(machine, attack, work, left, refill=True, meter=m, watcher=w):
        block.utterance, block.epsilon_index, block.success

``left`` says which (utterance, ε) pairs are to be attacked. A slot whose row is done takes the next
row. Attacks that look for the smallest perturbation take one row per utterance, which becomes one
result per ε; attacks whose direction does not depend on ε take one gradient per utterance.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.attacks.base import Attack
from jaxser.attacks.losses import is_successful
from jaxser.driver.machine import Machine
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.row_block import RowBlock
from jaxser.driver.scoring import Pending, block_of, no_change, padded
from jaxser.driver.shared_direction import shared_direction_stream, shares_direction
from jaxser.driver.work import Work

__all__ = ["attack_stream"]

# Norms are float32 sums: a perturbation that was made to have a norm may miss it by so much.
_NORM_TOLERANCE = 1e-6


def attack_stream(
    machine: Machine,
    attack: Attack,
    work: Work,
    left: Bool[np.ndarray, "utterances epsilons"],
    *,
    refill: bool,
    meter: Meter,
    watcher: Watcher,
) -> Iterator[RowBlock]:
    """Attack the pairs that are ``left`` and yield them as they finish.

    Args:
      machine: the programs of the attack, and the devices.
      attack: what is run.
      work: what is attacked.
      left: pairs to attack.
      refill: whether slots of finished rows take the next rows while others are at work.
      meter: of the run.
      watcher: says when to stop.
    """
    if shares_direction(attack):
        return shared_direction_stream(machine, work, left, meter, watcher)
    return _slot_stream(machine, attack, work, left, refill, meter, watcher)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The stream's rows: a pair each, or an utterance each where one row serves all its ε.

    Attributes:
      utterance: position among the attacked utterances.
      epsilon_index: position in the list of ε; -1 where the row serves all.
      budget: ε as an amplitude; infinite where the row serves all.
    """

    utterance: Int[np.ndarray, " rows"]
    epsilon_index: Int[np.ndarray, " rows"]
    budget: Float[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.utterance)


def _rows(attack: Attack, work: Work, left: Bool[np.ndarray, "utterances epsilons"]) -> _Rows:
    if attack.minimal_norm:
        utterance = np.flatnonzero(left.any(axis=1))
        return _Rows(utterance, np.full(len(utterance), -1), np.full(len(utterance), np.inf))
    # ε is an entry of its row, as the label is: a batch holds rows of any ε, and a whole sweep runs
    # in one program. A loop over ε would pad a batch for each, and vmap over ε is slower than a
    # bigger batch.
    utterance, epsilon = np.nonzero(left)
    return _Rows(utterance, epsilon, work.budgets[utterance, epsilon])


def _slot_stream(
    machine: Machine,
    attack: Attack,
    work: Work,
    left: Bool[np.ndarray, "utterances epsilons"],
    refill: bool,
    meter: Meter,
    watcher: Watcher,
) -> Iterator[RowBlock]:
    """A slot takes the next row when its row is done.

    Without that, a batch takes as long as its slowest row. Where rows end at random times
    (``tests/driver/test_run.py``), over 40 % of the slots' steps would be for nothing instead of
    under 15 %. Slots stand empty only when no row is left to start.
    """
    rows = _rows(attack, work, left)
    finish = functools.partial(_finish, attack=attack, work=work, rows=rows, left=left, meter=meter)
    pending = Pending(machine, work, rows.utterance, finish, meter)
    held = np.full(machine.slots, -1)  # row in each slot
    # Rows of fixed length finish together; others are taken out when a refill's worth is done. That
    # is counted per device, each of which counts its own.
    wanted = machine.slots
    if attack.finishes_early:
        wanted = machine.fresh_rows // machine.num_devices
    state, queued = None, 0
    while not watcher.stopped:
        free = np.flatnonzero(held < 0)
        taken = free[: len(rows) - queued]
        if len(taken) and (refill or len(free) == len(held)):
            held[taken] = np.arange(queued, queued + len(taken))
            queued += len(taken)
            state = _start(machine, work, rows, held, taken, state)
        occupied = held >= 0
        if state is None or not occupied.any():
            break
        done = occupied & np.asarray(state.done)
        # Rows may be done before their first step, where init finds nothing to do.
        if done.sum() >= wanted or (done == occupied).all():
            yield from pending.add(state, held, np.flatnonzero(done))
            held[done] = -1
            continue
        state, taken_steps = machine.attack.advance(machine.all_variables, np.int32(wanted), state)
        steps = 1 if machine.inner_steps == 1 else int(np.asarray(taken_steps).max())
        meter.row_steps += steps * machine.slots
        watcher.look(functools.partial(_spent, state, occupied, pending))
        if pending.waited():
            yield from pending.flush()
    if watcher.stopped and state is not None:
        yield from pending.add(state, held, np.flatnonzero((held >= 0) & np.asarray(state.done)))
    yield from pending.flush()


def _spent(state: Any, occupied: Bool[np.ndarray, " slots"], pending: Pending) -> int:
    """Forward passes of rows that are not booked yet."""
    return int(np.asarray(state.queries)[occupied].sum()) + pending.queries


def _start(
    machine: Machine,
    work: Work,
    rows: _Rows,
    held: Int[np.ndarray, " slots"],
    taken: Int[np.ndarray, " taken"],
    state: Any,
) -> Any:
    """The state with the rows that the ``taken`` slots hold, at their first step."""
    programs, fresh = machine.attack, machine.fresh_rows
    slots_each, fresh_each = machine.slots // machine.num_devices, fresh // machine.num_devices
    device, slot = np.divmod(taken, slots_each)
    rank = np.arange(len(taken)) - np.searchsorted(device, device)  # among its device's own
    all_start = len(taken) == (held >= 0).sum()
    for group in range(int(rank.max()) // fresh_each + 1):
        now = rank // fresh_each == group
        position = device[now] * fresh_each + rank[now] % fresh_each
        which = padded(held[taken[now]], fresh)
        which[position] = held[taken[now]]
        real = np.zeros(fresh, bool)
        real[position] = True
        arrays = machine.put(work.arrays(rows.utterance[which], rows.budget[which], real))
        new = programs.init(machine.all_variables, work.key, arrays)
        if all_start and fresh == machine.slots:
            state = new  # each row is at its own slot already
            continue
        # Rows start on the device that holds their slot, so that placing them moves nothing.
        destination = np.full(fresh, slots_each, np.int32)
        destination[position] = slot[now]
        state = programs.blank(new) if state is None else state
        state = programs.place(state, new, machine.put(destination))
    return state


def _finish(
    which: Int[np.ndarray, " rows"],
    host: dict[str, np.ndarray],
    *,
    attack: Attack,
    work: Work,
    rows: _Rows,
    left: Bool[np.ndarray, "utterances epsilons"],
    meter: Meter,
) -> RowBlock:
    """The results of the stream's rows ``which``."""
    costs = {"useful_steps": int(host["steps"].sum()), "queries": int(host["queries"].sum())}
    utterance, epsilon = rows.utterance[which], rows.epsilon_index[which]
    found_norm = np.full(len(which), np.nan)
    if attack.minimal_norm:
        norm = host[attack.epsilon_norm].astype(np.float64)
        reached = is_successful(host["prediction"], work.labels[utterance], work.targeted)
        row, epsilon = np.nonzero(left[utterance])
        utterance, found_norm = utterance[row], np.where(reached, norm, np.nan)[row]
        limit = work.budgets[utterance, epsilon].astype(np.float64) * (1 + _NORM_TOLERANCE)
        if attack.epsilon_norm == "linf":
            # Every sample of x + δ is rounded to float32, and the largest δ is what counts.
            limit += np.spacing(host["largest"])[row]
        host = {name: values[row] for name, values in host.items()}
        _put_clean(host, work, utterance, ~(norm[row] <= limit))
    return block_of(host, work, utterance, epsilon, found_norm, meter, meter.lap(), **costs)


def _put_clean(
    host: dict[str, np.ndarray],
    work: Work,
    utterance: Int[np.ndarray, " rows"],
    where: Bool[np.ndarray, " rows"],
) -> None:
    """Put the clean input in the place of an adversarial one."""
    own = utterance[where]
    host["prediction"][where] = work.clean.prediction[own]
    host["success_share"][where] = is_successful(
        work.clean.prediction[own], work.labels[own], work.targeted
    )
    host["logits"][where] = work.clean.logits[own]
    for name, value in no_change().items():
        host[name][where] = value
    if "x_adv" in host:
        host["x_adv"][where] = work.source.batch(own)
