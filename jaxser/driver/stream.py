"""Rows through slots: one stream of equally shaped batches, whatever the attack.

    for block in attack_stream(machine, attack, work, left, with_slots=..., ...):
        block.utterance, block.epsilon_index, block.success

``left`` says which (utterance, ε) pairs are to be attacked. A slot whose row is done takes the next
row. Attacks that look for the smallest perturbation take one row per utterance, which becomes one
result per ε; attacks whose direction does not depend on ε take one gradient per utterance.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Int

from jaxser.attacks.base import Attack
from jaxser.attacks.losses import is_successful
from jaxser.driver.machine import Machine
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.row_block import RowBlock
from jaxser.driver.scoring import Pending, block_of, no_change
from jaxser.driver.shared_direction import shared_direction_stream, shares_direction
from jaxser.driver.slots import StreamRows, calls_in_flight, slot_stream
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
    with_slots: Callable[[int], Machine] | None,
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
      with_slots: the machine with another number of slots; None where the number has to stay.
      refill: whether slots of finished rows take the next rows while others are at work.
      meter: of the run.
      watcher: says when to stop.
    """
    if shares_direction(attack):
        return shared_direction_stream(machine, work, left, meter, watcher)
    rows = _rows(attack, work, left)
    finish = functools.partial(_finish, attack=attack, work=work, rows=rows, left=left, meter=meter)
    in_flight = calls_in_flight(attack, machine) - 1
    pending = Pending(machine, work, rows.utterance, finish, meter, in_flight)
    return slot_stream(
        machine,
        attack,
        work,
        rows,
        pending,
        with_slots=with_slots,
        refill=refill,
        meter=meter,
        watcher=watcher,
    )


def _rows(attack: Attack, work: Work, left: Bool[np.ndarray, "utterances epsilons"]) -> StreamRows:
    if attack.minimal_norm:
        utterance = np.flatnonzero(left.any(axis=1))
        return StreamRows(utterance, np.full(len(utterance), -1), np.full(len(utterance), np.inf))
    # ε is an entry of its row, as the label is: a batch holds rows of any ε, and a whole sweep runs
    # in one program. A loop over ε would pad a batch for each, and vmap over ε is slower than a
    # bigger batch.
    utterance, epsilon = np.nonzero(left)
    return StreamRows(utterance, epsilon, work.budgets[utterance, epsilon])


def _finish(
    which: Int[np.ndarray, " rows"],
    host: dict[str, np.ndarray],
    *,
    attack: Attack,
    work: Work,
    rows: StreamRows,
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
