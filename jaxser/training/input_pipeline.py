"""Batches for training and evaluation.

    batches = training_batches(source, batch_size=8, seed=0, mesh=mesh)
    for batch in batches: ...                        # {"x": [8, time], "y": [8]} on the devices

Training batches come from grain: shuffled by seed, sharded by process, with a position that a
checkpoint can hold, decoded and put on the devices ahead of time. Evaluation goes once through
the rows in order, the last batch padded.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import batch_sharding, put_batch
from jaxser.runtime.text import counted

__all__ = ["WaveformSource", "evaluation_batches", "training_batches", "unpadded"]


@dataclasses.dataclass(frozen=True, eq=False)
class WaveformSource:
    """Random access to labelled rows of a (memory-mapped) waveform array, as grain wants it.

    Attributes:
      waveforms: ``[utterances, samples]`` float32, memory-mapped or not, or windows that are cut
        when they are read; or the features that a
        spectrogram victim reads of them, ``[utterances, frames, bins]``.
      labels: class index of every utterance.
      rows: the utterances that belong to this source.
    """

    waveforms: Float[Any, "utterances ..."]
    labels: Int[np.ndarray, " utterances"]
    rows: Int[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        row = self.rows[index]
        return {"x": np.array(self.waveforms[row]), "y": np.asarray(self.labels[row])}


class _RandomShift(grain.transforms.RandomMap):
    """Rotate the waveform in time by a random amount.

    Utterances are repeated up to one length, so a rotation is nearly another cut of the same
    speech; it keeps a victim from learning where things are.
    """

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        x = element["x"]
        return {**element, "x": np.roll(x, rng.integers(len(x)))}


def training_batches(
    source: WaveformSource,
    *,
    batch_size: int,
    seed: int,
    mesh: Mesh,
    random_shift: bool = False,
) -> grain.DatasetIterator:
    """An endless, checkpointable iterator of shuffled batches, already on the devices.

    Args:
      source: training rows.
      batch_size: rows of a global batch, over all processes.
      seed: of order and augmentation; each epoch has another order.
      mesh: devices that share a batch.
      random_shift: rotate each waveform by a random amount.

    Returns:
      Iterator of ``{"x": [rows, ...] float32, "y": [rows] int32}``; close it after use. ``rows`` is
      the batch, filled up to a multiple of the devices by repeating its last row
      (:func:`unpadded` takes it off again).

    Raises:
      InputError: a batch is larger than the training part.
    """
    if len(source) < batch_size:
        raise InputError(
            f"the training part has {counted(len(source), 'utterance')}, fewer than one batch of "
            f"{batch_size}; use a smaller training.batch_size."
        )
    # The slice takes all; it is among what the order is drawn from, which runs go on with.
    dataset = grain.MapDataset.source(source).seed(seed)[0:None].shuffle().repeat()
    if random_shift:
        dataset = dataset.random_map(_RandomShift())
    rows = -(-batch_size // mesh.devices.size) * mesh.devices.size
    own = rows // jax.process_count()
    if own != batch_size:
        dataset = _OwnRows(dataset, batch_size, jax.process_index() * own, own)
    dataset = dataset.batch(own, drop_remainder=True)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    stream = dataset.to_iter_dataset(options).map(lambda batch: put_batch(batch, mesh))
    return iter(grain.experimental.ThreadPrefetchIterDataset(stream, prefetch_buffer_size=2))


class _OwnRows(grain.MapDataset):
    """The rows of every batch that this process reads, of an endless dataset.

    All processes shuffle alike, so that together they read the batches that one would read alone.

    Args:
      parent: rows of all batches.
      batch_size: rows of a batch.
      first: of the rows of a batch, where places past its end stand for its last row.
      count: how many.
    """

    def __init__(self, parent: grain.MapDataset, batch_size: int, first: int, count: int) -> None:
        super().__init__(parent)
        self._batch_size, self._first, self._count = batch_size, first, count

    def __len__(self) -> int:
        # An endless one has as many as Python counts.
        return min(len(self._parent) // self._batch_size * self._count, sys.maxsize)

    def __getitem__(self, index: Any) -> Any:
        batch, place = divmod(index, self._count)
        place = min(self._first + place, self._batch_size - 1)
        return self._parent[batch * self._batch_size + place]


def unpadded(step: Callable[..., Any], batch_size: int, mesh: Mesh) -> Callable[..., Any]:
    """``step(state, batch, ...)`` of a padded batch; traced, within a compiled program.

    The rows beyond ``batch_size`` are cut off and what is left is shared among the devices again,
    unevenly: the compiler masks what a device has too few of, so that whatever is computed over the
    batch (statistics of batch norm, the loss) is that of its rows alone.
    """
    if batch_size % mesh.devices.size == 0:
        return step
    shared = batch_sharding(mesh)

    def cut(rows: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(rows[:batch_size], shared)

    @functools.wraps(step)
    def on_its_rows(state: Any, batch: Any, *others: Any) -> Any:
        return step(state, jax.tree.map(cut, batch), *others)

    return on_its_rows


def evaluation_batches(
    source: WaveformSource, *, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """All rows once, in order, in equally shaped batches.

    Args:
      source: rows to evaluate.
      batch_size: rows of a batch.

    Yields:
      (batch of host arrays, number of its rows that count): the last batch is filled up by
      repeating its first row.
    """
    for start in range(0, len(source), batch_size):
        rows = source.rows[start : start + batch_size]
        padded = np.concatenate([rows, np.repeat(rows[:1], batch_size - len(rows))])
        batch = {"x": np.array(source.waveforms[padded]), "y": source.labels[padded]}
        yield batch, len(rows)
