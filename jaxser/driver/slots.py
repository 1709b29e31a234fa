"""The slots of an attack: a slot whose row is done takes the next row.

    for block in slot_stream(machine, attack, work, rows, pending, ...):
        block.utterance, block.epsilon_index, block.success

The host hands calls to the devices and looks at what an earlier one reported while they work on the
next, so that an accelerator never waits for it. Rows that are done stay as they are, so a row that
is seen late is the same row. A CPU, where the host takes the place of a device, is looked at after
every call where rows may be done.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.base import Attack
from jaxser.driver.machine import Machine
from jaxser.driver.memory import power_of_two_from
from jaxser.driver.meter import Meter, Watcher
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.driver.programs import Report
from jaxser.driver.row_block import RowBlock
from jaxser.driver.scoring import Pending
from jaxser.driver.work import Work

__all__ = ["StreamRows", "calls_in_flight", "empty_state", "slot_stream"]

# Steps of empty slots that a CPU can still save by going on with fewer slots, from which it is
# worth another program; and how many have gone before: rows that end soon after each other cost
# one.
_WORTH_A_PROGRAM = 256
_GONE_BEFORE = 128


@dataclasses.dataclass(frozen=True)
class StreamRows:
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


def calls_in_flight(attack: Attack, machine: Machine) -> int:
    """Calls that the devices have, one of them at work, while the host looks at an earlier one.

    Where it is known when rows are done, a second one costs nothing. Where they may be done at any
    step, a device that does not wait may take a few steps for nothing.
    """
    return 1 if attack.finishes_early and machine.on_cpu else 2


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call whose report the host has not read yet.

    Attributes:
      number: of the calls.
      report: on the devices.
      advances: whether it takes steps.
      slots: that were there.
    """

    number: int
    report: Any
    advances: bool
    slots: int


class _Slots:
    """What the host knows of the slots; arrays ``[slots]``.

    Attributes:
      held: the row in each, or -1.
      since: the first call that tells of that row.
      steps: that the row is known to have taken, or to take in calls under way.
      done: whether the row is known to be done.
      queries: of the row, as far as they are known.
    """

    def __init__(self, count: int) -> None:
        self.held = np.full(count, -1)
        self.since, self.steps, self.queries = (np.zeros(count, int) for _ in range(3))
        self.done = np.zeros(count, bool)

    @property
    def occupied(self) -> Bool[np.ndarray, " slots"]:
        return self.held >= 0

    def take(self, slots: Int[np.ndarray, " taken"], rows: Int[np.ndarray, " taken"]) -> None:
        """Rows come into slots."""
        self.held[slots], self.done[slots] = rows, False
        self.steps[slots] = self.queries[slots] = 0

    def hear(self, number: int, report: Report) -> None:
        """What a call tells, of the rows that were there then."""
        there = self.occupied & (self.since <= number)
        self.done[there] |= report.done[there]
        self.steps[there] = np.maximum(self.steps, report.steps)[there]
        self.queries[there] = report.queries[there]

    def moved(
        self, source: Int[np.ndarray, " slots"], real: Bool[np.ndarray, " slots"]
    ) -> "_Slots":
        """The rows of the ``source`` slots in slots of their own."""
        new = _Slots(len(source))
        for name, values in vars(self).items():
            setattr(new, name, values[source])
        new.held[~real] = -1
        return new


def slot_stream(
    machine: Machine,
    attack: Attack,
    work: Work,
    rows: StreamRows,
    pending: Pending,
    *,
    with_slots: Callable[[int], Machine] | None,
    refill: bool,
    meter: Meter,
    watcher: Watcher,
) -> Iterator[RowBlock]:
    """Attack the ``rows`` and yield results as they finish.

    Without refilling, a batch takes as long as its slowest row. Where rows end at random times
    (``tests/driver/test_run.py``), over 40 % of the slots' steps would be for nothing instead of
    under 15 %. Slots stand empty only when no row is left to start, and on a CPU the last rows go
    on in fewer slots where the number may change.

    Args:
      machine: the programs of the attack, and the devices.
      attack: what is run.
      work: what is attacked.
      rows: the stream's.
      pending: takes finished rows.
      with_slots: the machine with another number of slots; None where the number has to stay.
      refill: whether slots of finished rows take the next rows while others are at work.
      meter: of the run.
      watcher: says when to stop.
    """
    stream = _Stream(machine, attack, work, rows, pending, with_slots, meter, watcher)
    while not watcher.stopped:
        if refill or not stream.slots.occupied.any():
            stream.start()
        stream.hear(calls_in_flight(attack, machine) - 1)
        if not stream.slots.occupied.any() or watcher.stopped:
            break
        if stream.enough_done():
            yield from stream.collect()
            continue
        stream.pack()
        stream.advance()
        if pending.waited():
            yield from pending.flush()
    if watcher.stopped:
        stream.hear(0)
        yield from stream.collect()
    stream.hear(0)
    yield from pending.rest()


class _Stream:
    """One run of :func:`slot_stream`, whose arguments it has."""

    def __init__(
        self,
        machine: Machine,
        attack: Attack,
        work: Work,
        rows: StreamRows,
        pending: Pending,
        with_slots: Callable[[int], Machine] | None,
        meter: Meter,
        watcher: Watcher,
    ) -> None:
        self._machine, self._attack, self._work, self._rows = machine, attack, work, rows
        self._pending, self._with_slots = pending, with_slots
        self._meter, self._watcher = meter, watcher
        self._state: Any = None
        self._queued = self._number = self._idle = 0
        self._calls: collections.deque[_Call] = collections.deque()
        self.slots = _Slots(machine.slots)

    def start(self) -> None:
        """The next rows into the free slots."""
        slots, rows = self.slots, self._rows
        free = np.flatnonzero(~slots.occupied)
        taken = free[: len(rows) - self._queued]
        if not len(taken):
            return
        slots.take(taken, np.arange(self._queued, self._queued + len(taken)))
        self._queued += len(taken)
        slots.since[taken] = self._number
        machine = self._machine
        if not machine.attack.places:
            self._state = None  # its memory is for the new one
            self._state, report = self._started(np.arange(machine.slots), None)
            self._called(report, advances=False)
            return
        if self._state is None:
            # In the slots that no row has come into, valid inputs are at work for nothing.
            shapes = ProgramShapes(machine, self._work.source.input_shape)
            self._state, taken = empty_state(shapes.state), np.arange(machine.slots)
        for group in _groups(taken, machine):
            self._state, report = self._started(group, self._state)
        self._called(report, advances=False)

    def _started(self, group: Int[np.ndarray, " fresh"], state: Any) -> tuple[Any, Any]:
        """The state with the rows of a group of slots at their first step; -1 is for no slot."""
        machine, work, rows = self._machine, self._work, self._rows
        held = np.where(group < 0, -1, self.slots.held[group])
        real = held >= 0
        which = np.where(real, held, held.max())
        put = {
            "y": work.labels[rows.utterance[which]],
            "ids": work.ids[rows.utterance[which]],
            "epsilon": rows.budget[which].astype(np.float32),
            "real": real,
        }
        each = machine.slots // machine.num_devices
        if state is not None:
            put["slot"] = np.where(group < 0, each, group % each).astype(np.int32)
        fresh = machine.put(put) | {"x": work.inputs.at(rows.utterance[which])}
        before = () if state is None else (state,)
        started: tuple[Any, Any] = machine.attack.start(
            machine.all_variables, work.key, fresh, *before
        )
        return started

    def advance(self) -> None:
        """The next steps."""
        machine = self._machine
        wanted = np.int32(machine.fresh_rows // machine.num_devices)
        self._state, report = machine.attack.advance(machine.all_variables, wanted, self._state)
        self._called(report, advances=True)
        if not self._attack.finishes_early:
            self.slots.steps += machine.inner_steps
            self.slots.done = self.slots.steps >= self._attack.max_steps

    def _called(self, report: Any, *, advances: bool) -> None:
        if self._attack.finishes_early:
            report.copy_to_host_async()
        self._calls.append(_Call(self._number, report, advances, self._machine.slots))
        self._number += 1

    def hear(self, under_way: int) -> None:
        """Read reports until no more than so many calls that take steps are under way."""
        while self._calls and (not under_way or sum(c.advances for c in self._calls) > under_way):
            call = self._calls.popleft()
            taken = self._machine.inner_steps
            if self._attack.finishes_early or self._watcher.due:
                report = Report.read(call.report)
                self.slots.hear(call.number, report)
                taken = int(report.taken.max())
            else:
                # It says nothing new, but that the devices are so far: no more than a call or two
                # wait for them, so that Ctrl-C is heard.
                jax.block_until_ready(call.report)
            if call.advances:
                self._meter.row_steps += taken * call.slots
                self._watcher.look(self._spent)

    def _spent(self) -> int:
        """Forward passes of rows that are not booked yet."""
        slots = self.slots
        return int(slots.queries[slots.occupied].sum()) + self._pending.queries

    def enough_done(self) -> bool:
        """Whether it is time to take rows out.

        Rows of fixed length finish together; others are taken out when a refill's worth is done.
        That is counted per device, each of which counts its own.
        """
        occupied, machine = self.slots.occupied, self._machine
        done = occupied & self.slots.done
        if done.sum() == occupied.sum():
            return True
        wanted = machine.fresh_rows // machine.num_devices
        return self._attack.finishes_early and bool(done.sum() >= wanted)

    def collect(self) -> Iterator[RowBlock]:
        """Rows that are done leave their slots."""
        slots = self.slots
        done = np.flatnonzero(slots.occupied & slots.done)
        held = slots.held.copy()
        slots.held[done] = -1
        yield from self._pending.add(self._state, held, done, slots.queries)

    def pack(self) -> None:
        """Fewer slots for the rows that are left, where it is worth another program.

        An empty slot of an accelerator costs next to nothing.
        """
        slots, machine = self.slots, self._machine
        each, occupied = machine.slots // machine.num_devices, self.slots.occupied
        if self._with_slots is None or not machine.on_cpu:
            return
        if self._queued < len(self._rows) or not occupied.any():
            return
        self._idle += int((~occupied).sum()) * machine.inner_steps
        by_device = occupied.reshape(-1, each)
        fewer = _few_sizes(int(by_device.sum(axis=1).max())) * machine.num_devices
        left = self._attack.max_steps - int(slots.steps[occupied].min())
        if self._idle < _GONE_BEFORE or (machine.slots - fewer) * left < _WORTH_A_PROGRAM:
            return
        self.hear(0)
        self._idle = 0
        own = fewer // machine.num_devices
        # The rows of each device first; what is left over is filled up with slots that are not.
        source = np.argsort(~by_device, axis=1, kind="stable")[:, :own]
        real = np.take_along_axis(by_device, source, axis=1).ravel()
        packed = machine.attack.packed(fewer)
        self._state = packed(
            self._state, machine.put(source.ravel().astype(np.int32)), machine.put(real)
        )
        first = np.arange(machine.num_devices)[:, None] * each
        self.slots = slots.moved((first + source).ravel(), real)
        self._machine = self._pending.machine = self._with_slots(fewer)


def _few_sizes(rows: int) -> int:
    """Slots for so many rows: a power of two, or three quarters of one."""
    size = power_of_two_from(rows)
    return size * 3 // 4 if size > 2 and rows <= size * 3 // 4 else size


def empty_state(shapes: Any) -> Any:
    """A state of these shapes to put rows into, on the devices.

    Its memory is not the host's, as it is donated.
    """
    own = functools.partial(jax.device_put, may_alias=False)

    def zeros(of: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(of.dtype, jax.dtypes.prng_key):
            data = own(np.zeros((*of.shape, 2), np.uint32), of.sharding)
            return jax.random.wrap_key_data(data, impl="threefry2x32")
        return own(np.zeros(of.shape, of.dtype), of.sharding)

    return jax.tree.map(zeros, shapes)


def _groups(
    taken: Int[np.ndarray, " taken"], machine: Machine
) -> Iterator[Int[np.ndarray, " fresh"]]:
    """Slots to start rows in, at their devices' places of a batch of fresh rows; else -1.

    Rows start on the device that holds their slot, so that placing them moves nothing.
    """
    fresh_each = machine.fresh_rows // machine.num_devices
    device = taken // (machine.slots // machine.num_devices)
    rank = np.arange(len(taken)) - np.searchsorted(device, device)  # among its device's own
    for group in range(int(rank.max()) // fresh_each + 1):
        now = rank // fresh_each == group
        slots = np.full(machine.fresh_rows, -1)
        slots[device[now] * fresh_each + rank[now] % fresh_each] = taken[now]
        yield slots
