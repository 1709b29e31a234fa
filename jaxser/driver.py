"""Run any attack over any number of (utterance, ε) rows, on any number of devices.

    result = run_attack(victim, waveforms, labels, PGD(steps=20), epsilons=[0.005, 0.01], seed=0)
    result.success                                   # [epsilons, batch] bool
    for block in attack_rows(victim, waveforms, labels, PGD(), [0.005, 0.01]):
        block.prediction, block.measures["snr_peak"]  # rows as they finish

All rows of a run, over all utterances and all ε, go as one stream of equally shaped batches
through one compiled step; ε, labels, seed and the victim's variables are its arguments, so none
of them compiles anew. Slots whose rows are done are refilled with the next rows of the stream.
Every device works on its own slice of the batch and needs nothing from the others.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.base import Attack, LogitsFn, SharedDirection
from jaxser.corpora.table import numeric_id
from jaxser.errors import InputError, UsageError
from jaxser.losses import is_successful
from jaxser.perturbation import MEASURES
from jaxser.programs import Loop, Machine, compile_seconds, make_machine
from jaxser.sharding import make_mesh, replicated
from jaxser.victim import Victim

__all__ = [
    "AttackResult",
    "Loop",
    "RowBlock",
    "Throughput",
    "attack_rows",
    "predict",
    "run_attack",
]

# Bounds of an attack that nobody set: the victim's own replace them.
_DEFAULT_BOUNDS = (-1.0, 1.0)

# A refill costs about a forward pass in attacks whose init has one, so it waits for some slots.
_REFILL_SHARE = 1 / 8

_ROWS_PER_CPU_DEVICE = 16
_ROWS_PER_ACCELERATOR = 64


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What a run has cost so far.

    Attributes:
      rows: finished rows.
      seconds: wall time of the stream, without compilation and without the caller's own time.
      compile_seconds: tracing and compilation; 0 when the programs were there from before.
      row_steps: attack steps times batch slots that the devices worked through.
      wasted_row_steps: those of slots that were done or empty.
    """

    rows: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    row_steps: int = 0
    wasted_row_steps: int = 0

    @property
    def rows_per_second(self) -> float:
        """Steady-state rate; NaN before the first row."""
        return self.rows / self.seconds if self.rows else float("nan")


@dataclasses.dataclass(frozen=True)
class RowBlock:
    """Rows that finished together, as host arrays; one entry per row.

    Attributes:
      utterance: position among the attacked utterances.
      epsilon_index: position in the list of ε.
      prediction: class of the adversarial input, -1 where its logits are not finite.
      success: the prediction is not the attacked label, or is the target.
      steps, queries, gradients, flags: as in the attack's state.
      measures: the entries of ``jaxser.perturbation.MEASURES``.
      seconds: steady-state time of the block shared out evenly over its rows.
      x_adv: the adversarial inputs, or None where they were not asked for.
      throughput: of the run up to and including this block.
    """

    utterance: Int[np.ndarray, " rows"]
    epsilon_index: Int[np.ndarray, " rows"]
    prediction: Int[np.ndarray, " rows"]
    success: Bool[np.ndarray, " rows"]
    steps: Int[np.ndarray, " rows"]
    queries: Int[np.ndarray, " rows"]
    gradients: Int[np.ndarray, " rows"]
    flags: Int[np.ndarray, " rows"]
    measures: Mapping[str, Float[np.ndarray, " rows"]]
    seconds: Float[np.ndarray, " rows"]
    x_adv: Float[np.ndarray, "rows ..."] | None
    throughput: Throughput


@dataclasses.dataclass(frozen=True, eq=False)
class AttackResult:
    """A whole run in memory.

    Attributes:
      epsilons: the budgets.
      labels: labels that were attacked, ``[batch]``.
      clean_prediction: of the clean inputs, ``[batch]``; -1 where logits are not finite.
      x_adv: adversarial inputs.
      prediction: class of each adversarial input; -1 where its logits are not finite.
      success: the prediction is not the attacked label, or is the target.
      steps, queries, gradients: spent per row; FGSM's gradient is shared by the row's ε.
      flags: union of the bits in ``jaxser.attacks.base.FLAG_NAMES``.
      measures: the entries of ``jaxser.perturbation.MEASURES``.
      throughput: what the run cost.
    """

    epsilons: tuple[float, ...]
    labels: Int[np.ndarray, " batch"]
    clean_prediction: Int[np.ndarray, " batch"]
    x_adv: Float[np.ndarray, "epsilons batch ..."]
    prediction: Int[np.ndarray, "epsilons batch"]
    success: Bool[np.ndarray, "epsilons batch"]
    steps: Int[np.ndarray, "epsilons batch"]
    queries: Int[np.ndarray, "epsilons batch"]
    gradients: Int[np.ndarray, "epsilons batch"]
    flags: Int[np.ndarray, "epsilons batch"]
    measures: Mapping[str, Float[np.ndarray, "epsilons batch"]]
    throughput: Throughput


def run_attack(
    victim: Victim | LogitsFn,
    waveforms: Float[np.ndarray, "batch ..."] | Float[Array, "batch ..."],
    labels: Sequence[int] | Int[np.ndarray, " batch"] | None,
    attack: Attack,
    epsilons: Sequence[float],
    *,
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    batch_size: int | None = None,
    loop: Loop | None = None,
    refill: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> AttackResult:
    """Attack every input at every ε and return everything.

    Args:
      victim: a :class:`Victim`, whose bounds replace the attack's default ones, or any function
        from ``[batch, ...]`` to logits ``[batch, classes]``.
      waveforms: clean inputs.
      labels: labels to leave, or targets of a targeted attack; None attacks the clean
        predictions.
      attack: what to run.
      epsilons: budgets, positive and finite, in the units of the attack's norm.
      seed: of all randomness.
      ids: one name or number per input, which its randomness depends on; its position by default.
      batch_size: rows per batch over all devices; changes no result beyond float reordering.
      loop: "host" calls the step from the host, "device" loops in the compiled program; the
        faster one for the backend by default.
      refill: give the slots of finished rows to the next rows.
      devices: to run on; all local ones by default.

    Raises:
      InputError: inputs or labels that do not fit the victim, or are not finite.
      UsageError: an ε that is not positive and finite, or another bad argument.
    """
    waveforms = np.asarray(waveforms, np.float32)
    if waveforms.ndim < 2 or len(waveforms) == 0:
        raise InputError(
            f"waveforms must be [batch, ...] with at least one row, but have shape "
            f"{waveforms.shape}; add an axis for the batch."
        )
    bad = ~np.isfinite(waveforms).reshape(len(waveforms), -1).all(axis=1)
    if bad.any():
        raise InputError(
            f"waveforms[{int(bad.argmax())}] holds NaN or infinity ({int(bad.sum())} rows do); "
            "leave such rows out."
        )
    compiled_before = compile_seconds()
    clean = predict(victim, waveforms, batch_size=batch_size, devices=devices)
    if labels is None:
        if (clean < 0).any():
            raise InputError(
                f"the victim's logits for waveforms[{int((clean < 0).argmax())}] are not finite, "
                "so there is no prediction to attack; leave such rows out or give labels."
            )
        labels = clean
    attacked = np.asarray(labels)
    shape = (len(epsilons), len(waveforms))
    x_adv = np.zeros(shape + waveforms.shape[1:], np.float32)
    columns: dict[str, np.ndarray] = {}
    throughput = Throughput()
    for block in attack_rows(
        victim,
        waveforms,
        attacked,
        attack,
        epsilons,
        seed=seed,
        ids=ids,
        batch_size=batch_size,
        keep_x_adv=True,
        loop=loop,
        refill=refill,
        devices=devices,
    ):
        where = (block.epsilon_index, block.utterance)
        x_adv[where] = block.x_adv
        for name in (*_BLOCK_COLUMNS, *MEASURES):
            values = block.measures[name] if name in MEASURES else getattr(block, name)
            columns.setdefault(name, np.zeros(shape, values.dtype))[where] = values
        throughput = block.throughput
    return AttackResult(
        epsilons=tuple(float(epsilon) for epsilon in epsilons),
        labels=attacked,
        clean_prediction=clean,
        x_adv=x_adv,
        measures={name: columns[name] for name in MEASURES},
        throughput=dataclasses.replace(
            throughput, compile_seconds=compile_seconds() - compiled_before
        ),
        **{name: columns[name] for name in _BLOCK_COLUMNS},
    )


def predict(
    victim: Victim | LogitsFn,
    waveforms: Float[np.ndarray, "batch ..."],
    *,
    subset: Int[np.ndarray, " rows"] | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Int[np.ndarray, " rows"]:
    """Clean predictions, -1 where logits are not finite.

    Args:
      victim: see :func:`run_attack`.
      waveforms: clean inputs; a memory map is read batch by batch.
      subset: positions to predict; all by default.
      batch_size: rows per batch over all devices.
      devices: to run on; all local ones by default.
    """
    source = _Source(waveforms, subset)
    mesh = _mesh(devices)
    size = _batch_size(batch_size, len(source), mesh)
    machine = make_machine(victim, (size, *source.input_shape), attack=None, mesh=mesh)
    predictions = []
    for start in range(0, len(source), size):
        rows = np.arange(start, min(start + size, len(source)))
        x = machine.put(source.batch(_padded(rows, size)))
        # The program that scores adversarial inputs, so that there is one less to compile.
        scored = machine.victim.score(machine.variables, x, x)
        predictions.append(np.asarray(scored["prediction"])[: len(rows)])
    return np.concatenate(predictions)


def attack_rows(
    victim: Victim | LogitsFn,
    waveforms: Float[np.ndarray, "batch ..."],
    labels: Int[np.ndarray, " rows"],
    attack: Attack,
    epsilons: Sequence[float],
    *,
    subset: Int[np.ndarray, " rows"] | None = None,
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    batch_size: int | None = None,
    keep_x_adv: bool = False,
    loop: Loop | None = None,
    refill: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[RowBlock]:
    """Attack every input at every ε and yield rows as they finish, in no particular order.

    Memory does not grow with the number of rows: ``waveforms`` may be a memory map, of which
    only the batch at work is read.

    Args:
      subset: positions in ``waveforms`` to attack; ``labels``, ``ids`` and the blocks'
        ``utterance`` count along it. All by default.
      keep_x_adv: bring the adversarial inputs to the host.

    The other arguments and the errors are those of :func:`run_attack`.
    """
    if not isinstance(attack, Attack):
        raise UsageError(f"{attack!r} is not an attack; give one such as jaxser.attacks.PGD().")
    source = _Source(waveforms, subset)
    budgets = _checked_epsilons(epsilons)
    if isinstance(victim, Victim) and attack.bounds == _DEFAULT_BOUNDS:
        attack = dataclasses.replace(attack, bounds=victim.bounds)  # type: ignore[type-var]
    shared = isinstance(attack, SharedDirection)
    rows = len(source) * (1 if shared else len(budgets))
    mesh = _mesh(devices)
    shape = (_batch_size(batch_size, rows, mesh), *source.input_shape)
    machine = make_machine(victim, shape, attack=attack, mesh=mesh, loop=loop)
    work = _Work(
        source=source,
        labels=_checked_labels(labels, len(source), machine.victim.num_classes),
        ids=_numeric_ids(ids, len(source)),
        epsilons=budgets,
        key=jax.device_put(jax.random.key(seed), replicated(machine.mesh)),
        targeted=attack.targeted,
        keep_x_adv=keep_x_adv,
    )
    stream = _shared_direction_stream if shared else functools.partial(_stream, refill=refill)
    return stream(machine, attack, work)


# --- host side -----------------------------------------------------------------------------------


class _Source:
    """The attacked inputs, read batch by batch."""

    def __init__(
        self,
        waveforms: Float[np.ndarray, "batch ..."],
        subset: Int[np.ndarray, " rows"] | None,
    ) -> None:
        self._waveforms = waveforms
        self._subset = np.arange(len(waveforms)) if subset is None else np.asarray(subset)
        if len(self._subset) == 0:
            raise InputError("there is nothing to attack: the selection has no utterance.")

    def __len__(self) -> int:
        return len(self._subset)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._waveforms.shape[1:])

    def batch(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows ..."]:
        return np.asarray(self._waveforms[self._subset[rows]], np.float32)


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is to be attacked; row ``r`` is utterance ``r // epsilons`` at ε ``r % epsilons``."""

    source: _Source
    labels: Int[np.ndarray, " rows"]
    ids: Int[np.ndarray, " rows"]
    epsilons: Float[np.ndarray, " epsilons"]
    key: Array
    targeted: bool
    keep_x_adv: bool

    @property
    def rows(self) -> int:
        return len(self.source) * len(self.epsilons)

    def arrays(
        self, rows: Int[np.ndarray, " batch"], fresh: Bool[np.ndarray, " batch"]
    ) -> dict[str, np.ndarray]:
        """Arguments of the programs for ``rows``; only those marked ``fresh`` count."""
        utterance, epsilon = np.divmod(rows, len(self.epsilons))
        return {
            "x": self.source.batch(utterance),
            "y": self.labels[utterance],
            "ids": self.ids[utterance],
            "epsilon": self.epsilons[epsilon],
            "fresh": fresh,
        }


class _Meter:
    """Keeps the stream's clock, without compilation and without the caller's time."""

    def __init__(self) -> None:
        self._throughput = Throughput()
        self.row_steps = 0
        self.resume()

    def resume(self) -> None:
        """The caller has given control back."""
        self._since, self._compiled = time.perf_counter(), compile_seconds()

    def lap(self) -> float:
        """Seconds since the last lap, without compilation, which is booked."""
        compiled = compile_seconds() - self._compiled
        seconds = time.perf_counter() - self._since - compiled
        self._throughput = dataclasses.replace(
            self._throughput, compile_seconds=self._throughput.compile_seconds + compiled
        )
        self.resume()
        return seconds

    def book(self, rows: int, useful_steps: int, seconds: float) -> Throughput:
        """Book finished rows; returns the totals."""
        before = self._throughput
        useful = before.row_steps - before.wasted_row_steps + useful_steps
        self._throughput = dataclasses.replace(
            before,
            rows=before.rows + rows,
            seconds=before.seconds + seconds,
            row_steps=self.row_steps,
            wasted_row_steps=self.row_steps - useful,
        )
        return self._throughput


_BLOCK_COLUMNS = ("prediction", "success", "steps", "queries", "gradients", "flags")

# Leaves of an attack's state that leave with a finished row.
_FINISHED = ("x", "x_adv", "y", "steps", "queries", "gradients", "flags")


def _stream(machine: Machine, attack: Attack, work: _Work, refill: bool) -> Iterator[RowBlock]:
    """Rows through slots: a slot takes the next row when its row is done."""
    programs, batch_size = machine.attack, machine.batch_size
    meter = _Meter()
    slots = _padded(np.arange(min(batch_size, work.rows)), batch_size)
    occupied = np.arange(batch_size) < work.rows
    queued = min(batch_size, work.rows)
    state = programs.init(machine.variables, work.key, machine.put(work.arrays(slots, occupied)))
    pending = _Pending(machine, work, meter, state)
    inner = machine.inner_steps
    # Where all rows take the same number of steps, there is nothing to look at in between.
    steps_between_looks = 1 if attack.finishes_early else -(-attack.max_steps // inner)
    while occupied.any():
        for _ in range(steps_between_looks):
            state = programs.advance(machine.variables, state)
        meter.row_steps += steps_between_looks * inner * batch_size
        done = occupied & np.asarray(state.done)
        running = occupied & ~done
        enough = refill and done.sum() >= max(1, _REFILL_SHARE * batch_size)
        if running.any() and not (enough and queued < work.rows):
            continue
        yield from pending.add(state, slots, np.flatnonzero(done))
        occupied = running
        free = np.flatnonzero(~occupied)
        taken = free[: work.rows - queued]
        if len(taken):
            slots[taken] = np.arange(queued, queued + len(taken))
            occupied[taken] = True
            queued += len(taken)
            fresh = np.zeros(batch_size, bool)
            fresh[taken] = True
            rows = machine.put(work.arrays(slots, fresh))
            new = programs.init(machine.variables, work.key, rows)
            state = programs.merge(state, new, rows["fresh"])
    yield from pending.flush()


class _Pending:
    """Finished rows that wait on the device until they fill a batch, to be scored together."""

    def __init__(self, machine: Machine, work: _Work, meter: _Meter, state: Any) -> None:
        self._machine, self._work, self._meter = machine, work, meter
        self._rows: list[int] = []
        # Any valid rows will do as a start: what is not overwritten is not read.
        self._arrays = jax.tree.map(jnp.copy, _finished(state))

    def add(
        self, state: Any, slots: Int[np.ndarray, " batch"], done: Int[np.ndarray, " rows"]
    ) -> Iterator[RowBlock]:
        """Take the rows at the ``done`` positions; yields when a batch is full."""
        size = self._machine.batch_size
        while len(done):
            now, done = np.split(done, [size - len(self._rows)])
            source, destination = np.zeros(size, np.int32), np.full(size, size, np.int32)
            source[: len(now)] = now
            destination[: len(now)] = len(self._rows) + np.arange(len(now))
            self._arrays = self._machine.victim.collect(
                self._arrays, _finished(state), source, destination
            )
            self._rows += slots[now].tolist()
            if len(self._rows) == size:
                yield from self.flush()

    def flush(self) -> Iterator[RowBlock]:
        """Score what is there."""
        if not self._rows:
            return
        rows, self._rows = np.array(self._rows), []
        machine, arrays = self._machine, self._arrays
        scored = machine.victim.score(machine.variables, arrays["x"], arrays["x_adv"])
        columns = {name: arrays[name] for name in ("steps", "queries", "gradients", "flags")}
        if self._work.keep_x_adv:
            columns["x_adv"] = arrays["x_adv"]
        host = jax.device_get({**scored, **columns})
        utterance, epsilon = np.divmod(rows, len(self._work.epsilons))
        host = {name: values[: len(rows)] for name, values in host.items()}
        useful = int(host["steps"].sum())
        seconds = self._meter.lap()
        yield _block(host, self._work, utterance, epsilon, self._meter, useful, seconds)
        self._meter.resume()


def _shared_direction_stream(machine: Machine, attack: Attack, work: _Work) -> Iterator[RowBlock]:
    """One gradient per utterance, then one forward pass per ε."""
    programs, batch_size, num_epsilons = machine.attack, machine.batch_size, len(work.epsilons)
    meter = _Meter()
    for start in range(0, len(work.source), batch_size):
        utterances = np.arange(start, min(start + batch_size, len(work.source)))
        # A last, short batch holds several copies of its utterances, one for each of several ε.
        copies = batch_size // len(utterances)
        slots = _padded(utterances, batch_size)
        copy = np.arange(batch_size) // len(utterances)
        x = machine.put(work.source.batch(slots))
        y = machine.put(work.labels[slots])
        along, on_device = programs.direction(machine.variables, x, y)
        flags = np.asarray(on_device)
        meter.row_steps += batch_size
        # Every row that uses the gradient bears its share of the time.
        gradient_seconds = meter.lap() / (len(utterances) * num_epsilons)
        for first in range(0, num_epsilons, copies):
            epsilon = first + copy
            valid = (copy < copies) & (epsilon < num_epsilons)
            values = work.epsilons[np.minimum(epsilon, num_epsilons - 1)]
            x_adv = programs.move(x, along, machine.put(values))
            scored = machine.victim.score(machine.variables, x, x_adv)
            if work.keep_x_adv:
                scored["x_adv"] = x_adv
            host = {name: array[valid] for name, array in jax.device_get(scored).items()}
            one = np.ones(valid.sum(), np.int32)
            host |= {"steps": one, "queries": one, "gradients": one, "flags": flags[valid]}
            # One step served all ε of an utterance: it is booked with the first.
            useful = int((epsilon[valid] == 0).sum())
            seconds = meter.lap() + gradient_seconds * len(one)
            yield _block(host, work, slots[valid], epsilon[valid], meter, useful, seconds)
            meter.resume()


def _block(
    host: dict[str, np.ndarray],
    work: _Work,
    utterance: Int[np.ndarray, " rows"],
    epsilon: Int[np.ndarray, " rows"],
    meter: _Meter,
    useful_steps: int,
    seconds: float,
) -> RowBlock:
    """Finished rows with their share of the time."""
    throughput = meter.book(len(utterance), useful_steps, seconds)
    success = is_successful(host["prediction"], work.labels[utterance], work.targeted)
    return RowBlock(
        utterance=utterance,
        epsilon_index=epsilon,
        success=success,
        measures={name: host[name] for name in MEASURES},
        seconds=np.full(len(utterance), seconds / len(utterance)),
        x_adv=host.get("x_adv"),
        throughput=throughput,
        **{name: host[name] for name in _BLOCK_COLUMNS if name != "success"},
    )


def _finished(state: Any) -> dict[str, Array]:
    return {name: getattr(state, name) for name in _FINISHED}


def _padded(rows: Int[np.ndarray, " rows"], size: int) -> Int[np.ndarray, " size"]:
    """``rows`` repeated until there are ``size``: padding that any victim can take."""
    return np.resize(rows, size)


# --- arguments -----------------------------------------------------------------------------------


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh:
    return make_mesh(jax.local_devices() if devices is None else list(devices))


def _batch_size(asked: int | None, rows: int, mesh: Mesh) -> int:
    """Rows per batch: as asked, or by the device, rounded up to a multiple of the devices."""
    if asked is None:
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        asked = min(rows, mesh.size * (_ROWS_PER_CPU_DEVICE if on_cpu else _ROWS_PER_ACCELERATOR))
    if asked < 1:
        raise UsageError(f"batch_size must be at least 1, not {asked}.")
    return -(-asked // mesh.size) * mesh.size


def _checked_epsilons(epsilons: Sequence[float]) -> Float[np.ndarray, " epsilons"]:
    if len(epsilons) == 0:
        raise UsageError("there is no epsilon; give at least one.")
    for epsilon in epsilons:
        if not 0 < epsilon < float("inf"):
            raise UsageError(f"epsilon must be positive and finite, not {epsilon}.")
    return np.asarray(epsilons, np.float32)


def _checked_labels(
    labels: Int[np.ndarray, " rows"], count: int, num_classes: int
) -> Int[np.ndarray, " rows"]:
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise InputError(
            f"there are {count} inputs but labels of shape {labels.shape}; give one per input."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be class indices, not {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise InputError(
            f"label {wrong} is not a class of the victim, which has 0 to {num_classes - 1}."
        )
    return labels.astype(np.int32)


def _numeric_ids(ids: Sequence[str] | Sequence[int] | None, count: int) -> Int[np.ndarray, " rows"]:
    if ids is None:
        return np.arange(count, dtype=np.uint32)
    if len(ids) != count:
        raise InputError(f"there are {count} inputs but {len(ids)} ids; give one per input.")
    numbers = [numeric_id(each) if isinstance(each, str) else int(each) for each in ids]
    return np.array([number % 2**32 for number in numbers], np.uint32)
