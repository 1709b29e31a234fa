"""Finished rows: scored together on the device, then made into results on the host.

pending = Pending(machine, work, rows.utterance, finish, meter, in_flight=1)
yield from pending.add(state, held, done, queries)   # a block whenever they fill a batch
yield from pending.rest()                            # what is left
"""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxser.attacks.losses import is_successful
from jaxser.driver.machine import Machine
from jaxser.driver.meter import Meter
from jaxser.driver.program_shapes import COSTS
from jaxser.driver.programs import CLEAN_AGAIN, SCORE
from jaxser.driver.row_block import RowBlock
from jaxser.driver.work import Work
from jaxser.results.perturbation import MEASURES, perturbation_measures
from jaxser.runtime.sharding import batch_sharding

__all__ = ["Pending", "block_of", "no_change", "over_draws", "padded", "score"]

# Finished rows are scored when they fill a batch, or after so long.
_SECONDS_TO_WAIT = 10.0

# From rows of the stream, and the arrays that the host read of them, to results.
Finish = Callable[[Int[np.ndarray, " rows"], dict[str, np.ndarray]], RowBlock]


class Pending:
    """Finished rows that wait on the devices until they fill a batch, to be scored together.

    Rows finish a few at a time. Scored at once, each few would cost a forward pass of a whole
    batch, as its shape is fixed, and a transfer for which the devices wait. A row waits on the
    device that it finished on.

    Args:
      machine: where the rows are.
      work: what is attacked.
      utterance: of every row of the stream.
      finish: makes rows and what the host read of them into results.
      meter: told when the caller gives control back.
      in_flight: batches whose scores the host has not read yet while the devices go on.

    Attributes:
      machine: whose slots the rows come from; another one of the same batches may take over.
    """

    def __init__(
        self,
        machine: Machine,
        work: Work,
        utterance: Int[np.ndarray, " rows"],
        finish: Finish,
        meter: Meter,
        in_flight: int,
    ) -> None:
        self.machine, self._queries = machine, 0
        self._work, self._finish, self._meter = work, finish, meter
        self._utterance, self._in_flight = utterance, in_flight
        self._rows = np.full(machine.score_rows, -1)  # that wait, by place
        self._filled = np.zeros(machine.num_devices, int)
        self._arrays: Any = None
        self._unused: list[Any] = []
        self._scored: collections.deque[_Scored] = collections.deque()
        self._since = 0.0

    @property
    def queries(self) -> int:
        """Forward passes of the rows that are not results yet."""
        return self._queries + sum(each.queries for each in self._scored)

    def waited(self) -> bool:
        """Whether finished rows have been waiting for long."""
        return bool(self._filled.any()) and time.monotonic() - self._since > _SECONDS_TO_WAIT

    def add(
        self,
        state: Any,
        held: Int[np.ndarray, " slots"],
        done: Int[np.ndarray, " rows"],
        queries: Int[np.ndarray, " slots"],
    ) -> Iterator[RowBlock]:
        """Take the rows in the ``done`` slots; yields when a batch is full.

        Args:
          state: of the attack, on the devices.
          held: the row in each slot.
          done: slots whose rows are taken, in their order.
          queries: forward passes of the row in each slot, as far as they are known.
        """
        each = self.machine.score_rows // self.machine.num_devices
        slots_each = self.machine.slots // self.machine.num_devices
        while len(done):
            if not self._filled.any():
                self._since = time.monotonic()
            if self._arrays is None:
                self._arrays = self._unused.pop() if self._unused else self._reserve(state)
            device = done // slots_each
            place = self._filled[device] + np.arange(len(done)) - np.searchsorted(device, device)
            fits = place < each
            now, device, place = done[fits], device[fits], place[fits]
            destination = np.full(self.machine.slots, each, np.int32)
            destination[now] = place
            self._arrays = self.machine.collect(
                self._arrays,
                {name: getattr(state, name) for name in self._arrays},
                self.machine.put(destination),
            )
            self._rows[device * each + place] = held[now]
            self._queries += int(queries[now].sum())
            self._filled += np.bincount(device, minlength=len(self._filled))
            done = done[~fits]
            if len(done) or (self._filled == each).all():
                yield from self.flush()

    def flush(self) -> Iterator[RowBlock]:
        """Have what is there scored, and give what has been."""
        places = np.flatnonzero(self._rows >= 0)
        if len(places):
            rows = self._rows[places]
            # Of places that hold nothing, any will do.
            utterance = self._utterance[np.where(self._rows < 0, rows[0], self._rows)]
            machine, work, arrays = self.machine, self._work, self._arrays
            ids = machine.put(work.ids[utterance])
            found = score(machine, work, ids, arrays["x"], arrays["x_adv"])
            if work.keep_x_adv:
                found["x_adv"] = arrays["x_adv"]
            found |= {name: arrays[name] for name in COSTS}
            for values in found.values():
                values.copy_to_host_async()
            self._scored.append(_Scored(rows, places, found, arrays, self._queries))
            self._arrays, self._queries = None, 0
            self._rows[:], self._filled[:] = -1, 0
        while len(self._scored) > self._in_flight:
            yield self._results()
            self._meter.resume()

    def rest(self) -> Iterator[RowBlock]:
        """All that is left."""
        yield from self.flush()
        while self._scored:
            yield self._results()
            self._meter.resume()

    def _results(self) -> RowBlock:
        """Of the batch that was scored first; waits for it."""
        scored = self._scored.popleft()
        host = jax.device_get(scored.found)
        # Only now may rows that finish be put where these were.
        self._unused.append(scored.arrays)
        host = {name: values[scored.places] for name, values in host.items()}
        host = over_draws(host, self._work, self._utterance[scored.rows])
        return self._finish(scored.rows, host)

    def _reserve(self, state: Any) -> Any:
        """Room for a batch. Any valid inputs will do: what is not overwritten is not read."""
        machine, size = self.machine, self.machine.score_rows
        along = batch_sharding(machine.mesh)
        zeros = {name: np.zeros(size, getattr(state, name).dtype) for name in COSTS}
        x = self._work.source.batch(padded(self._utterance, size))
        # Copies, so that the room is not the host's memory when it is donated.
        return jax.device_put({"x": x, "x_adv": x, **zeros}, along, may_alias=False)


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A batch whose scores are under way.

    Attributes:
      rows: of the stream.
      places: theirs in the batch.
      found: on the devices.
      arrays: where they waited.
      queries: theirs.
    """

    rows: Int[np.ndarray, " rows"]
    places: Int[np.ndarray, " rows"]
    found: dict[str, Any]
    arrays: Any
    queries: int


@functools.cache
def no_change() -> dict[str, float]:
    """The measures of an input that is left as it was."""
    still = jnp.ones((1, 1), jnp.float32)
    return {name: float(values[0]) for name, values in perturbation_measures(still, still).items()}


def score(machine: Machine, work: Work, ids: Any, x: Any, x_adv: Any) -> dict[str, Any]:
    """Prediction, logits, measures and largest sample of adversarial inputs, still on the device.

    Where the victim has noise, "more" are the predictions ``[rows, draws - 1]`` under other noise.
    """
    variables, key = machine.variables, work.key
    scored = machine.victim.score(variables, key, SCORE, ids, x, x_adv)
    found = {name: scored[name] for name in ("prediction", "logits", "largest", *MEASURES)}
    if work.draws > 1:
        draws = [np.uint32(CLEAN_AGAIN - nth) for nth in range(1, work.draws)]
        more = [
            machine.victim.score(variables, key, draw, ids, x, x_adv)["prediction"]
            for draw in draws
        ]
        found["more"] = jnp.stack(more, axis=1)
    return found


def over_draws(
    host: dict[str, np.ndarray], work: Work, utterance: Int[np.ndarray, " rows"]
) -> dict[str, np.ndarray]:
    """What :func:`score` found under all noise as one prediction and a share of successes.

    A row withstood where it withstands under all noise; otherwise its prediction is the first that
    the attack wants.
    """
    each = host["prediction"][:, None]
    if "more" in host:
        each = np.concatenate([each, host.pop("more")], axis=1)
    reached = is_successful(each, work.labels[utterance][:, None], work.targeted)
    first = reached.argmax(axis=1)  # the first of all where none is
    return host | {
        "prediction": each[np.arange(len(each)), first],
        "success_share": reached.mean(axis=1, dtype=np.float32),
    }


def block_of(
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
    """Finished rows with their share of the time, which are booked with the meter.

    Args:
      host: arrays ``[rows]`` that the host read: those of :func:`score` after :func:`over_draws`,
        the costs, and ``x_adv`` where it is asked for.
      work: what is attacked.
      utterance, epsilon: the pair of each row.
      found_norm: see :class:`RowBlock`.
      meter: of the run.
      seconds: of all rows together.
      useful_steps, queries: what they are booked with.
    """
    rows = len(utterance)
    return RowBlock(
        utterance=utterance,
        epsilon_index=epsilon,
        epsilon_amplitude=work.budgets[utterance, epsilon],
        prediction=host["prediction"],
        success=is_successful(host["prediction"], work.labels[utterance], work.targeted),
        success_share=host["success_share"],
        logits=host["logits"],
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


def padded(rows: Int[np.ndarray, " rows"], size: int) -> Int[np.ndarray, " size"]:
    """``rows`` repeated until there are ``size``.

    Shapes are fixed, so what is left at the end of a run is filled up to a batch. Rows that are
    there anyway are padding that any victim can take: zeros are silence, of which a normalisation
    may make NaN.
    """
    return np.resize(rows, size)
