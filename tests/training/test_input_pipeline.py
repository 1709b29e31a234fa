"""The grain pipeline: order by seed, every row once an epoch, resumable, sharded, padded."""

import contextlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import make_mesh
from jaxser.training.input_pipeline import WaveformSource, evaluation_batches, training_batches


@pytest.fixture
def source() -> WaveformSource:
    # Every waveform holds its own row number, so that a batch shows where it came from.
    waveforms = np.repeat(np.arange(20, dtype=np.float32)[:, None], 6, axis=1)
    waveforms += np.linspace(0, 0.5, 6, dtype=np.float32)
    return WaveformSource(waveforms, np.arange(20, dtype=np.int32) % 3, np.arange(4, 20))


@pytest.fixture
def mesh() -> Mesh:
    return make_mesh(jax.devices()[:2])


def take(source: WaveformSource, mesh: Mesh, count: int, **options: object) -> list[np.ndarray]:
    batches = training_batches(source, batch_size=4, mesh=mesh, **{"seed": 0, **options})
    with contextlib.closing(batches):
        return [np.asarray(next(batches)["x"]) for _ in range(count)]


def test_every_row_once_an_epoch_in_an_order_of_the_seed(
    source: WaveformSource, mesh: Mesh
) -> None:
    epochs = np.concatenate(take(source, mesh, 8))[:, 0].astype(int).reshape(2, 16)
    assert [sorted(epoch) for epoch in epochs] == [list(range(4, 20))] * 2
    assert not np.array_equal(*epochs)
    again = np.concatenate(take(source, mesh, 8))[:, 0].astype(int).reshape(2, 16)
    np.testing.assert_array_equal(epochs, again)
    other = np.concatenate(take(source, mesh, 4, seed=1))[:, 0].astype(int)
    assert not np.array_equal(epochs[0], other)


def test_batches_lie_on_all_devices_with_their_labels(source: WaveformSource, mesh: Mesh) -> None:
    batches = training_batches(source, batch_size=4, seed=0, mesh=mesh)
    with contextlib.closing(batches):
        batch = next(batches)
    assert len(batch["x"].sharding.device_set) == 2
    assert batch["x"].shape == (4, 6)
    np.testing.assert_array_equal(np.asarray(batch["x"])[:, 0].astype(int) % 3, batch["y"])


def test_position_can_be_saved_and_restored(source: WaveformSource, mesh: Mesh) -> None:
    options = {"batch_size": 4, "seed": 0, "mesh": mesh, "random_shift": True}
    batches, later = training_batches(source, **options), training_batches(source, **options)
    with contextlib.closing(batches), contextlib.closing(later):
        for _ in range(5):  # past the end of an epoch
            next(batches)
        position = batches.get_state()
        expected = [np.asarray(next(batches)["x"]) for _ in range(3)]
        later.set_state(position)
        np.testing.assert_array_equal(expected, [np.asarray(next(later)["x"]) for _ in range(3)])


def test_random_shift_rotates_and_keeps_the_samples(source: WaveformSource, mesh: Mesh) -> None:
    shifted = np.concatenate(take(source, mesh, 8, random_shift=True))
    np.testing.assert_allclose(np.sort(shifted, axis=1), np.sort(shifted.round(6), axis=1))
    starts = (shifted[:, 0] % 1).round(3)
    assert len(np.unique(starts)) > 3
    for row in shifted:
        assert sorted(row % 1) == pytest.approx(np.linspace(0, 0.5, 6), abs=1e-5)


def test_impossible_batches_are_refused(source: WaveformSource, mesh: Mesh) -> None:
    with pytest.raises(InputError, match="16 utterances, fewer than one batch of 20"):
        training_batches(source, batch_size=20, seed=0, mesh=mesh)
    with pytest.raises(InputError, match="cannot be split over 2 devices"):
        training_batches(source, batch_size=5, seed=0, mesh=mesh)


def test_evaluation_pads_the_last_batch_only(source: WaveformSource) -> None:
    batches = list(evaluation_batches(source, batch_size=6))
    assert [count for _, count in batches] == [6, 6, 4]
    assert all(batch["x"].shape == (6, 6) for batch, _ in batches)
    rows = np.concatenate([batch["x"][:count, 0] for batch, count in batches]).astype(int)
    np.testing.assert_array_equal(rows, np.arange(4, 20))
