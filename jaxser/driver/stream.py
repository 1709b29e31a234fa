"""Rows through slots: one stream of equally shaped batches, whatever the attack.

    for block in attack_stream(machine, attack, work, left, refill=True, meter=Meter(), watch=None):
        block.utterance, block.epsilon_index, block.success

``left`` says which (utterance, ε) pairs are to be attacked. A slot whose row is done takes the next
row. Attacks that look for the smallest perturbation take one row per utterance, which becomes one
result per ε; attacks whose direction does not depend on ε take one gradient per utterance.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.attacks.base import Attack, SharedDirection
from jaxser.attacks.losses import is_successful
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.programs import SCORE, Machine
from jaxser.driver.row_block import RowBlock
from jaxser.driver.work import Work
from jaxser.results.perturbation import MEASURES, perturbation_measures

__all__ = ["attack_stream", "no_change", "shares_direction"]

# Norms are float32 sums: a perturbation that was made to have a norm may miss it by so much.
_NORM_TOLERANCE = 1e-6

# Finished rows are scored when they fill a batch, or after so long.
_SECONDS_TO_WAIT = 10.0

# The scores of a sweep are read together, so many passes at a time.
_PASSES_IN_FLIGHT = 8


def shares_direction(attack: Attack) -> bool:
    """Whether one gradient of an utterance serves all its ε."""
    return isinstance(attack, SharedDirection) and not attack.minimal_norm


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
    """Attack the pairs that are ``left`` and yield them as they finish."""
    if shares_direction(attack):
        return _shared_direction_stream(machine, work, left, meter, watcher)
    return _slot_stream(machine, attack, work, left, refill, meter, watcher)


# --- rows through slots --------------------------------------------------------------------------


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
    """A slot takes the next row when its row is done."""
    rows = _rows(attack, work, left)
    finish = functools.partial(_finish, attack=attack, work=work, rows=rows, left=left, meter=meter)
    pending = _Pending(machine, work, rows, finish, meter)
    held = np.full(machine.slots, -1)  # row in each slot
    # Rows of fixed length finish together; others are taken out when a refill's worth is done.
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


def _spent(state: Any, occupied: Bool[np.ndarray, " slots"], pending: "_Pending") -> int:
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
        which = _padded(held[taken[now]], fresh)
        which[position] = held[taken[now]]
        real = np.zeros(fresh, bool)
        real[position] = True
        arrays = machine.put(work.arrays(rows.utterance[which], rows.budget[which], real))
        new = programs.init(machine.all_variables, work.key, arrays)
        if all_start and fresh == machine.slots:
            state = new  # each row is at its own slot already
            continue
        destination = np.full(fresh, slots_each, np.int32)
        destination[position] = slot[now]
        state = programs.blank(new) if state is None else state
        state = programs.place(state, new, machine.put(destination))
    return state


_Finish = Callable[[Int[np.ndarray, " rows"], dict[str, np.ndarray]], RowBlock]

# Leaves of an attack's state that leave with a finished row, beside its inputs.
_COSTS = ("steps", "queries", "gradients", "flags")


class _Pending:
    """Finished rows that wait on the device until they fill a batch, to be scored together."""

    def __init__(
        self, machine: Machine, work: Work, rows: _Rows, finish: _Finish, meter: Meter
    ) -> None:
        self._machine, self._work, self._finish, self._meter = machine, work, finish, meter
        self._utterance = rows.utterance
        self._rows: list[int] = []
        self._arrays: Any = None
        self._since = 0.0
        self.queries = 0

    def waited(self) -> bool:
        """Whether finished rows have been waiting for long."""
        return bool(self._rows) and time.monotonic() - self._since > _SECONDS_TO_WAIT

    def add(
        self, state: Any, held: Int[np.ndarray, " slots"], done: Int[np.ndarray, " rows"]
    ) -> Iterator[RowBlock]:
        """Take the rows in the ``done`` slots; yields when a batch is full."""
        if self._arrays is None:
            self._arrays = self._reserve(state)
        leaves = {name: getattr(state, name) for name in self._arrays}
        size = self._machine.score_rows
        while len(done):
            if not self._rows:
                self._since = time.monotonic()
            now, done = np.split(done, [size - len(self._rows)])
            # As many sources as slots; a destination past the end is dropped.
            source = np.zeros(self._machine.slots, np.int32)
            destination = np.full(self._machine.slots, size, np.int32)
            source[: len(now)] = now
            destination[: len(now)] = len(self._rows) + np.arange(len(now))
            self._arrays = self._machine.attack.collect(self._arrays, leaves, source, destination)
            self._rows += held[now].tolist()
            self.queries += int(np.asarray(state.queries)[now].sum())
            if len(self._rows) == size:
                yield from self.flush()

    def flush(self) -> Iterator[RowBlock]:
        """Score what is there."""
        if not self._rows:
            return
        rows, self._rows, self.queries = np.array(self._rows), [], 0
        machine, work, arrays = self._machine, self._work, self._arrays
        ids = work.ids[self._utterance[_padded(rows, machine.score_rows)]]
        scored = _score(machine, work, machine.put(ids), arrays["x"], arrays["x_adv"])
        if work.keep_x_adv:
            scored["x_adv"] = arrays["x_adv"]
        host = jax.device_get({**scored, **{name: arrays[name] for name in _COSTS}})
        yield self._finish(rows, {name: values[: len(rows)] for name, values in host.items()})
        self._meter.resume()

    def _reserve(self, state: Any) -> Any:
        """Room for a batch. Any valid inputs will do: what is not overwritten is not read."""
        size = self._machine.score_rows
        x = self._work.source.batch(_padded(self._utterance, size))
        zeros = {name: np.zeros(size, getattr(state, name).dtype) for name in _COSTS}
        # Copied on the device, so that the room is not the host's memory when it is donated.
        return jax.tree.map(jnp.copy, self._machine.put({"x": x, "x_adv": x, **zeros}))


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
    return _block(host, work, utterance, epsilon, found_norm, meter, meter.lap(), **costs)


def _put_clean(
    host: dict[str, np.ndarray],
    work: Work,
    utterance: Int[np.ndarray, " rows"],
    where: Bool[np.ndarray, " rows"],
) -> None:
    """Put the clean input in the place of an adversarial one."""
    host["prediction"][where] = work.clean.prediction[utterance[where]]
    for name, value in no_change().items():
        host[name][where] = value
    if "x_adv" in host:
        host["x_adv"][where] = work.source.batch(utterance[where])


@functools.cache
def no_change() -> dict[str, float]:
    """The measures of an input that is left as it was."""
    still = jnp.ones((1, 1))
    return {name: float(values[0]) for name, values in perturbation_measures(still, still).items()}


# --- one direction for all ε ---------------------------------------------------------------------


def _shared_direction_stream(
    machine: Machine,
    work: Work,
    left: Bool[np.ndarray, "utterances epsilons"],
    meter: Meter,
    watcher: Watcher,
) -> Iterator[RowBlock]:
    """One gradient per utterance, then one forward pass per ε."""
    programs, size = machine.attack, machine.score_rows
    count = left.sum(axis=1)
    order = np.argsort(~left, axis=1, kind="stable")  # an utterance's own ε first
    utterances = np.flatnonzero(count)
    for start in range(0, len(utterances), size):
        own = utterances[start : start + size]
        # A last, short batch holds several copies of its utterances, one for each of several ε.
        copies = size // len(own)
        slots, copy = _padded(own, size), np.arange(size) // len(own)
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
                scored = _score(machine, work, ids, x, x_adv)
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
            one = np.ones(len(utterance), np.int32)
            host |= {"steps": one, "queries": one, "gradients": one}
            # One step served all ε of an utterance: it is booked with the first.
            useful = len(own) if first == 0 else 0
            seconds = meter.lap() + gradient_seconds * len(one)
            nothing = np.full(len(one), np.nan)
            yield _block(host, work, utterance, epsilon, nothing, meter, seconds, useful, useful)
            meter.resume()
            watcher.look(lambda: 0)
            if watcher.stopped:
                return


# --- both ----------------------------------------------------------------------------------------


def _score(machine: Machine, work: Work, ids: Any, x: Any, x_adv: Any) -> dict[str, Any]:
    """Prediction, measures and largest sample, still on the device."""
    scored = machine.victim.score(machine.variables, work.key, SCORE, ids, x, x_adv)
    return {name: scored[name] for name in ("prediction", "largest", *MEASURES)}


def _block(
    host: dict[str, np.ndarray],
    work: Work,
    utterance: Int[np.ndarray, " rows"],
    epsilon: Int[np.ndarray, " rows"],
    found_norm: Float[np.ndarray, " rows"],
    meter: Meter,
    seconds: float,
    useful_steps: int,
    queries: int,
) -> RowBlock:
    """Finished rows with their share of the time."""
    rows = len(utterance)
    return RowBlock(
        utterance=utterance,
        epsilon_index=epsilon,
        epsilon_amplitude=work.budgets[utterance, epsilon],
        prediction=host["prediction"],
        success=is_successful(host["prediction"], work.labels[utterance], work.targeted),
        steps=host["steps"],
        queries=host["queries"],
        gradients=host["gradients"],
        flags=host["flags"] | work.clean.flags[utterance],
        stage=np.full(rows, -1),
        found_norm=found_norm,
        measures={name: host[name] for name in MEASURES},
        seconds=np.full(rows, seconds / rows),
        x_adv=host.get("x_adv"),
        throughput=meter.book(rows, useful_steps, queries, seconds),
    )


def _padded(rows: Int[np.ndarray, " rows"], size: int) -> Int[np.ndarray, " size"]:
    """``rows`` repeated until there are ``size``: padding that any victim can take."""
    return np.resize(rows, size)
