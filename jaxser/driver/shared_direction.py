"""Attacks whose direction does not depend on ε: one gradient serves all ε of an utterance.

for block in shared_direction_stream(machine, work, left, meter, watcher):
    block.utterance, block.epsilon_index, block.success
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from jaxser.attacks.base import Attack, SharedDirection
from jaxser.driver.machine import Machine
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.row_block import RowBlock
from jaxser.driver.scoring import block_of, over_draws, padded, score
from jaxser.driver.work import Work

__all__ = ["shared_direction_stream", "shares_direction"]

# Passes whose scores are read together, and groups of these that are under way: the devices go on
# with the next one while the host reads.
_PASSES_TOGETHER = 8
_IN_FLIGHT = 2


def shares_direction(attack: Attack) -> bool:
    """Whether one gradient of an utterance serves all its ε."""
    return isinstance(attack, SharedDirection) and not attack.minimal_norm


def shared_direction_stream(
    machine: Machine,
    work: Work,
    left: Bool[np.ndarray, "utterances epsilons"],
    meter: Meter,
    watcher: Watcher,
) -> Iterator[RowBlock]:
    """One gradient per utterance, then one forward pass per ε.

    Args:
      machine: the programs of the attack, and the devices.
      work: what is attacked.
      left: pairs to attack.
      meter: of the run.
      watcher: says when to stop.
    """
    groups = _groups(machine, work, left, meter)
    under_way = collections.deque(itertools.islice(groups, _IN_FLIGHT))
    while under_way:
        yield _results(under_way.popleft(), work, meter)
        meter.resume()
        watcher.look(lambda: 0)
        if not watcher.stopped:
            under_way.extend(itertools.islice(groups, 1))


@dataclasses.dataclass(frozen=True)
class _Group:
    """Passes that are under way.

    Attributes:
      valid: of every pass, which places of its batch are rows.
      utterance, epsilon: of these rows, of all passes.
      scores: of every pass, on the devices.
      flags: of the gradient, on the devices.
      seconds: of the gradient, for every row that uses it.
      useful: utterances that the group's gradient is new for.
    """

    valid: list[np.ndarray]
    utterance: np.ndarray
    epsilon: np.ndarray
    scores: list[dict[str, Any]]
    flags: Any
    seconds: float
    useful: int


def _groups(
    machine: Machine, work: Work, left: Bool[np.ndarray, "utterances epsilons"], meter: Meter
) -> Iterator[_Group]:
    """Gradients and passes, handed to the devices."""
    programs, size = machine.attack, machine.score_rows
    count = left.sum(axis=1)
    order = np.argsort(~left, axis=1, kind="stable")  # an utterance's own ε first
    utterances = np.flatnonzero(count)
    for start in range(0, len(utterances), size):
        own = utterances[start : start + size]
        # A last, short batch holds several copies of its utterances, one for each of several ε.
        copies = size // len(own)
        slots, copy = padded(own, size), np.arange(size) // len(own)
        y, ids = machine.put((work.labels[slots], work.ids[slots]))
        x = work.inputs.at(slots)
        along, flags = programs.direction(machine.variables, work.key, ids, x, y)
        meter.row_steps += size
        # Every row that uses the gradient bears its share of the time.
        seconds = meter.lap() / count[own].sum()
        passes = -(-int(count[own].max()) // copies)
        for first in range(0, passes, _PASSES_TOGETHER):
            nth = np.arange(first, min(first + _PASSES_TOGETHER, passes))[:, None] * copies + copy
            valid = (copy < copies) & (nth < count[slots])
            epsilon = order[slots, np.minimum(nth, left.shape[1] - 1)]
            scores = []
            for budgets in work.budgets[slots, epsilon]:
                x_adv = programs.move(x, along, machine.put(budgets))
                found = score(machine, work, ids, x, x_adv)
                scores.append(found | ({"x_adv": x_adv} if work.keep_x_adv else {}))
            for values in jax.tree.leaves((scores, flags)):
                values.copy_to_host_async()
            yield _Group(
                valid=list(valid),
                utterance=np.broadcast_to(slots, valid.shape)[valid],
                epsilon=epsilon[valid],
                scores=scores,
                flags=flags,
                seconds=seconds,
                # One step served all ε of an utterance: it is booked with the first.
                useful=len(own) if first == 0 else 0,
            )


def _results(group: _Group, work: Work, meter: Meter) -> RowBlock:
    """The results of passes; waits for them."""
    scores, flags = jax.device_get((group.scores, group.flags))
    host = {
        name: np.concatenate(
            [values[name][valid] for values, valid in zip(scores, group.valid, strict=True)]
        )
        for name in scores[0]
    }
    host = over_draws(host, work, group.utterance)
    one = np.ones(len(group.utterance), np.int32)
    host |= {"steps": one, "queries": one, "gradients": one}
    host["flags"] = np.concatenate([flags[valid] for valid in group.valid])
    seconds = meter.lap() + group.seconds * len(one)
    nothing = np.full(len(one), np.nan)
    return block_of(
        host,
        work,
        group.utterance,
        group.epsilon,
        nothing,
        meter,
        seconds,
        group.useful,
        group.useful,
    )
