"""The grain pipeline: order by seed, every row once an epoch, resumable, sharded, padded."""

import contextlib
import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import make_mesh, put_batch
from jaxser.training import input_pipeline
from jaxser.training.input_pipeline import (
    WaveformSource,
    evaluation_batches,
    training_batches,
    unpadded,
)


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


def test_batches_of_any_size_are_filled_up_with_their_last_row(
    source: WaveformSource, mesh: Mesh
) -> None:
    batches = training_batches(source, batch_size=5, seed=0, mesh=mesh)
    alone = training_batches(source, batch_size=5, seed=0, mesh=make_mesh(jax.devices()[:1]))
    with contextlib.closing(batches), contextlib.closing(alone):
        for _ in range(4):  # past the end of an epoch
            padded, plain = (np.asarray(next(each)["x"]) for each in (batches, alone))
            np.testing.assert_array_equal(padded[:5], plain)
            np.testing.assert_array_equal(padded[5:], plain[4:])


def test_several_processes_read_the_batches_of_one(
    source: WaveformSource, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six rows on four devices each of two processes has four; two of these are copies."""
    four = types.SimpleNamespace(devices=np.arange(4))
    monkeypatch.setattr(input_pipeline, "put_batch", lambda batch, mesh: batch)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parts = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(training_batches(source, batch_size=6, seed=0, mesh=four, random_shift=True))
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    whole = training_batches(source, batch_size=6, seed=0, mesh=mesh, random_shift=True)
    with contextlib.closing(parts[0]), contextlib.closing(parts[1]), contextlib.closing(whole):
        for _ in range(4):
            own = np.concatenate([next(part)["x"] for part in parts])
            np.testing.assert_array_equal(own[:6], np.asarray(next(whole)["x"]))


def test_what_is_computed_over_a_batch_is_of_its_rows_alone(mesh: Mesh) -> None:
    """Statistics of five rows on two devices, of which the sixth must not be seen."""
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    padded = put_batch({"x": np.concatenate([x, np.full((1, 3), 1e6, np.float32)])}, mesh)

    def step(state: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        return state + batch["x"].std(axis=0)

    found = jax.jit(unpadded(step, 5, mesh))(np.zeros(3, np.float32), padded)
    np.testing.assert_allclose(found, x.std(axis=0), rtol=1e-6)


def test_evaluation_pads_the_last_batch_only(source: WaveformSource) -> None:
    batches = list(evaluation_batches(source, batch_size=6))
    assert [count for _, count in batches] == [6, 6, 4]
    assert all(batch["x"].shape == (6, 6) for batch, _ in batches)
    rows = np.concatenate([batch["x"][:count, 0] for batch, count in batches]).astype(int)
    np.testing.assert_array_equal(rows, np.arange(4, 20))
