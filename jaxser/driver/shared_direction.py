"""Attacks whose direction does not depend on ε: one gradient serves all ε of an utterance.

for block in shared_direction_stream(machine, work, left, meter, watcher):
    block.utterance, block.epsilon_index, block.success
"""

from collections.abc import Iterator

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

# The scores of a sweep are read together, so many passes at a time: a read for each pass would have
# the devices wait for the host in between.
_PASSES_IN_FLIGHT = 8


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
    programs, size = machine.attack, machine.score_rows
    count = left.sum(axis=1)
    order = np.argsort(~left, axis=1, kind="stable")  # an utterance's own ε first
    utterances = np.flatnonzero(count)
    for start in range(0, len(utterances), size):
        own = utterances[start : start + size]
        # A last, short batch holds several copies of its utterances, one for each of several ε.
        copies = size // len(own)
        slots, copy = padded(own, size), np.arange(size) // len(own)
        x, y, ids = machine.put((work.source.batch(slots), work.labels[slots], work.ids[slots]))
        along, on_device = programs.direction(machine.variables, work.key, ids, x, y)
        flags = np.asarray(on_device)
        meter.row_steps += size
        # Every row that uses the gradient bears its share of the time.
        gradient_seconds = meter.lap() / count[own].sum()
        passes = -(-int(count[own].max()) // copies)
        for first in range(0, passes, _PASSES_IN_FLIGHT):
            rows, scores = [], []
            for turn in range(first, min(first + _PASSES_IN_FLIGHT, passes)):
                nth = turn * copies + copy
                valid = (copy < copies) & (nth < count[slots])
                epsilon = order[slots, np.minimum(nth, left.shape[1] - 1)]
                x_adv = programs.move(x, along, machine.put(work.budgets[slots, epsilon]))
                scored = score(machine, work, ids, x, x_adv)
                rows.append((valid, slots[valid], epsilon[valid], flags[valid]))
                scores.append(scored | ({"x_adv": x_adv} if work.keep_x_adv else {}))
            # All passes are under way before the first is waited for.
            each = [
                {name: values[valid] for name, values in host.items()}
                for (valid, *_), host in zip(rows, jax.device_get(scores), strict=True)
            ]
            host = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
            _, *columns = zip(*rows, strict=True)
            utterance, epsilon, host["flags"] = map(np.concatenate, columns)
            host = over_draws(host, work, utterance)
            one = np.ones(len(utterance), np.int32)
            host |= {"steps": one, "queries": one, "gradients": one}
            # One step served all ε of an utterance: it is booked with the first.
            useful = len(own) if first == 0 else 0
            seconds = meter.lap() + gradient_seconds * len(one)
            nothing = np.full(len(one), np.nan)
            yield block_of(host, work, utterance, epsilon, nothing, meter, seconds, useful, useful)
            meter.resume()
            watcher.look(lambda: 0)
            if watcher.stopped:
                return
