"""Votes of a victim under Gaussian noise: how often it answers with which class.

    for votes in noise_votes(victim, x, sigma=0.01, selection=100, samples=100_000, seed=0):
        votes.row, votes.selection, votes.counts        # [classes + 1], the last one for no answer

All (utterance, draw) pairs go as one stream of equal batches through one program, which makes the
noise and counts the classes where it is: waveforms go in once for every group of utterances, and
counts come out. The noise of a draw is that of ``fold_in(fold_in(key(seed), utterance), draw)``, so
that counts depend neither on the batch nor on the devices, and more draws have the same beginning.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, UInt

from jaxser.attacks.base import LogitsFn, row_keys, step_keys
from jaxser.attacks.losses import prediction
from jaxser.driver.ahead_of_time import Program
from jaxser.driver.arguments import check_victim, checked_count, checked_devices
from jaxser.driver.clean import run_key
from jaxser.driver.machine import Machine, make_machine
from jaxser.driver.memory import is_out_of_memory, round_up, smaller_batch
from jaxser.driver.programs import VictimFunction, per_device
from jaxser.driver.source import Source
from jaxser.runtime.errors import UsageError
from jaxser.runtime.sharding import batch_sharding, make_mesh, on_cpus, replicated
from jaxser.victims.smoothing import check_smoothing, noisy
from jaxser.victims.victim import Victim

__all__ = ["MOST_DRAWS", "Votes", "noise_votes"]

# Draws are counted from 0 up; those that choose the class from here up, so that neither depends on
# how many of the other there are.
MOST_DRAWS = 2**31 - 1
_SELECTION = np.uint32(2**31)

# Passes of a batch on one device, and batches in one call: a CPU runs a network no faster in larger
# batches and slower in a loop; an accelerator would wait for the host between shorter calls.
_CPU_ROWS = 16
_ACCELERATOR_ROWS = 256
_ACCELERATOR_BATCHES = 8

# Utterances that are on the devices at a time.
_GROUP = 32

# Calls whose counts have not come back yet, so that a device never waits for the host.
_IN_FLIGHT = 3


@dataclasses.dataclass(frozen=True)
class Votes:
    """What the draws of one input say.

    Attributes:
      row: of the input.
      selection: answers by class of the draws that choose one; the last is for logits that are not
        finite.
      counts: of the others, from which a bound is made.
    """

    row: int
    selection: Int[np.ndarray, " answers"]
    counts: Int[np.ndarray, " answers"]


def noise_votes(
    victim: Victim | LogitsFn,
    inputs: Float[Any, "batch ..."],
    *,
    sigma: float,
    selection: int,
    samples: int,
    seed: int = 0,
    ids: Sequence[str] | Sequence[int] | None = None,
    subset: Int[np.ndarray, " rows"] | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    watch: Callable[[int], bool] | None = None,
) -> Iterator[Votes]:
    """Count the answers of ``victim`` to every input under noise; an input as soon as it is done.

    Args:
      victim: a victim without noise of its own, or any function from ``[batch, ...]`` to logits.
        Noisy inputs are not clipped to its bounds.
      inputs: clean ones in its domain; a memory map is read group by group.
      sigma: standard deviation of the noise, in the units of an input.
      selection: draws that choose a class, counted apart from the others.
      samples: draws from which a bound is made.
      seed: of the noise.
      ids: one name or number per input, which its noise depends on; its position by default.
      subset: positions in ``inputs``; all by default.
      batch_size: passes at a time over all devices; by the device by default. Where memory runs out
        it is halved.
      devices: to run on; all local ones by default.
      watch: told how many passes are done; where it returns False the iterator ends.

    Raises:
      UsageError: noise of no size, no draws, more than 2³¹ - 1 of them, a randomised victim.
      InputError: inputs that the victim does not take, or no memory for one.
    """
    check_victim(victim)
    check_smoothing(sigma, checked_count("samples", samples))
    if max(checked_count("selection", selection), samples) > MOST_DRAWS:
        raise UsageError(f"there can be {MOST_DRAWS:,} draws of the noise at most; ask for fewer.")
    bounds = None
    if isinstance(victim, Victim):
        bounds = victim.bounds
        if victim.randomised:
            raise UsageError(f"{victim.name} has noise of its own; certify the victim behind it.")
    source = Source(inputs, subset, ids, bounds)
    mesh = make_mesh(checked_devices(devices))
    on_cpu = on_cpus(mesh)
    rows = mesh.size * (_CPU_ROWS if on_cpu else _ACCELERATOR_ROWS)
    if batch_size is not None:
        rows = checked_count("batch_size", batch_size)
    rows = round_up(min(rows, len(source) * (selection + samples)), mesh)
    draws = np.concatenate(
        [_SELECTION + np.arange(selection, dtype=np.uint32), np.arange(samples, dtype=np.uint32)]
    )
    first = done = 0
    while first < len(source):
        group = np.arange(first, min(first + _GROUP, len(source)))
        error = None
        try:
            stream = _Stream(victim, source, mesh, rows, 1 if on_cpu else _ACCELERATOR_BATCHES)
            for votes in stream.votes(group, run_key(seed, mesh), sigma, draws):
                if isinstance(votes, Votes):
                    first = votes.row + 1
                    yield votes
                elif watch is not None and not watch(done + votes):
                    return
            done += len(group) * len(draws)
            continue
        except Exception as raised:
            if not is_out_of_memory(raised):
                raise
            error = str(raised)
        # Only here has the error let go of the arrays that filled the memory. What has been
        # yielded is not counted again.
        done += (first - int(group[0])) * len(draws)
        rows = smaller_batch(rows, mesh, error)


class _Stream:
    """Batches of one size, of groups of utterances."""

    def __init__(
        self, victim: Victim | LogitsFn, source: Source, mesh: Mesh, rows: int, batches: int
    ) -> None:
        machine = make_machine(
            victim, source.input_shape, attack=None, mesh=mesh, slots=rows, score_rows=rows
        )
        self._machine, self._source = machine, source
        self._group = min(_GROUP, len(source))
        self._rows, self._batches = rows, batches
        if isinstance(victim, Victim):
            function = VictimFunction(victim.apply, takes_variables=True, randomised=False)
        else:
            function = VictimFunction(victim, takes_variables=False, randomised=False)
        self._count = _program(
            function, mesh, _structure(machine, source), self._group, rows, batches,
            machine.victim.num_classes,
        )  # fmt: skip

    def votes(
        self,
        group: Int[np.ndarray, " utterances"],
        key: Key[Array, ""],
        sigma: float,
        draws: UInt[np.ndarray, " draws"],
    ) -> Iterator[Votes | int]:
        """The votes of every utterance of a group, and between them how many passes are done."""
        answers = self._machine.victim.num_classes + 1
        totals = np.zeros((self._group, 2, answers), np.int64)
        told = 0
        for end, found in self._counted(group, key, sigma, draws):
            totals += found
            for place in range(told, end // len(draws)):
                yield Votes(int(group[place]), totals[place, 0], totals[place, 1])
            told = end // len(draws)
            yield end

    def _counted(
        self,
        group: Int[np.ndarray, " utterances"],
        key: Key[Array, ""],
        sigma: float,
        draws: UInt[np.ndarray, " draws"],
    ) -> Iterator[tuple[int, Int[np.ndarray, "group 2 answers"]]]:
        """What each call counts, and how many passes are done with it, a few calls later."""
        mesh = self._machine.mesh
        rows = np.resize(group, self._group)
        shared = jax.device_put(
            (np.float32(sigma), self._source.ids[rows], self._source.batch(rows)), replicated(mesh)
        )
        passes, at_once = len(group) * len(draws), self._rows * self._batches
        waiting: collections.deque[tuple[int, Array]] = collections.deque()
        for start in range(0, passes, at_once):
            places = np.arange(start, start + at_once)
            # An utterance past the end of the group stands for none.
            utterance = np.where(places < passes, places // len(draws), self._group)
            pairs = jax.device_put(
                (utterance.astype(np.int32), draws[places % len(draws)]), batch_sharding(mesh)
            )
            found = self._count(self._machine.variables, key, *shared, *pairs)
            waiting.append((min(start + at_once, passes), found))
            if len(waiting) == _IN_FLIGHT:
                end, found = waiting.popleft()
                yield end, np.asarray(found).sum(axis=0)
        for end, found in waiting:
            yield end, np.asarray(found).sum(axis=0)


def _structure(machine: Machine, source: Source) -> Any:
    """Shapes on which a program depends, beside its own."""
    leaves, tree = jax.tree.flatten(machine.variables)
    return source.input_shape, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


@functools.lru_cache(maxsize=32)
def _program(
    function: VictimFunction,
    mesh: Mesh,
    structure: Any,
    group: int,
    rows: int,
    batches: int,
    classes: int,
) -> Program:
    """From (utterance, draw) pairs to ``[devices, group, 2, classes + 1]``: answers by class."""
    del structure  # it is of the key alone
    each = rows // mesh.size

    def count(
        variables: Any,
        key: Key[Array, ""],
        sigma: Float[Array, ""],
        ids: UInt[Array, " group"],
        x: Float[Array, "group ..."],
        utterance: Int[Array, " pairs"],
        draw: UInt[Array, " pairs"],
    ) -> Int[Array, "1 group 2 answers"]:
        keys = row_keys(key, ids)

        def add(batch: Int[Array, ""] | int, counts: Array) -> Array:
            own = jax.lax.dynamic_slice_in_dim(utterance, batch * each, each)
            its = jax.lax.dynamic_slice_in_dim(draw, batch * each, each)
            x_own = x.at[own].get(mode="clip")
            noise_keys = step_keys(keys.at[own].get(mode="clip"), its)
            answer = prediction(function(variables, noisy(x_own, noise_keys, sigma)))
            answer = jnp.where(answer < 0, classes, answer)
            of_bound = (its < _SELECTION).astype(jnp.int32)
            return counts.at[own, of_bound, answer].add(1, mode="drop")

        counts = jnp.zeros((group, 2, classes + 1), jnp.int32)
        if batches == 1:
            return add(0, counts)[None]
        return jax.lax.fori_loop(0, batches, add, counts)[None]

    return Program(per_device(count, mesh, 5))
