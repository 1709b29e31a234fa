"""Finished rows: scored together on the device, then made into results on the host.

pending = Pending(machine, work, rows.utterance, finish, meter)
yield from pending.add(state, held, done)        # a block whenever they fill a batch
yield from pending.flush()                       # what is left
"""

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
from jaxser.driver.programs import CLEAN_AGAIN, SCORE
from jaxser.driver.row_block import RowBlock
from jaxser.driver.work import Work
from jaxser.results.perturbation import MEASURES, perturbation_measures

__all__ = ["Pending", "block_of", "no_change", "over_draws", "padded", "score"]

# Finished rows are scored when they fill a batch, or after so long.
_SECONDS_TO_WAIT = 10.0

# From rows of the stream, and the arrays that the host read of them, to results.
Finish = Callable[[Int[np.ndarray, " rows"], dict[str, np.ndarray]], RowBlock]

# Leaves of an attack's state that leave with a finished row, beside its inputs.
_COSTS = ("steps", "queries", "gradients", "flags")


class Pending:
    """Finished rows that wait on the device until they fill a batch, to be scored together.

    Rows finish a few at a time. Scored at once, each few would cost a forward pass of a whole
    batch, as its shape is fixed, and a transfer for which the devices wait.

    Args:
      machine: where the rows are.
      work: what is attacked.
      utterance: of every row of the stream.
      finish: makes rows and what the host read of them into results.
      meter: told when the caller gives control back.

    Attributes:
      queries: forward passes of the rows that wait.
    """

    def __init__(
        self,
        machine: Machine,
        work: Work,
        utterance: Int[np.ndarray, " rows"],
        finish: Finish,
        meter: Meter,
    ) -> None:
        self._machine, self._work, self._finish, self._meter = machine, work, finish, meter
        self._utterance = utterance
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
        """Take the rows in the ``done`` slots; yields when a batch is full.

        Args:
          state: of the attack, on the devices.
          held: the row in each slot.
          done: slots whose rows are taken.
        """
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
        ids = work.ids[self._utterance[padded(rows, machine.score_rows)]]
        scored = score(machine, work, machine.put(ids), arrays["x"], arrays["x_adv"])
        if work.keep_x_adv:
            scored["x_adv"] = arrays["x_adv"]
        host = jax.device_get({**scored, **{name: arrays[name] for name in _COSTS}})
        host = {name: values[: len(rows)] for name, values in host.items()}
        yield self._finish(rows, over_draws(host, work, self._utterance[rows]))
        self._meter.resume()

    def _reserve(self, state: Any) -> Any:
        """Room for a batch. Any valid inputs will do: what is not overwritten is not read."""
        size = self._machine.score_rows
        x = self._work.source.batch(padded(self._utterance, size))
        zeros = {name: np.zeros(size, getattr(state, name).dtype) for name in _COSTS}
        # Copied on the device, so that the room is not the host's memory when it is donated.
        return jax.tree.map(jnp.copy, self._machine.put({"x": x, "x_adv": x, **zeros}))


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
