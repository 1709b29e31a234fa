"""Checkpoints: exact round trips, and one sentence where they cannot be used."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faults import Kind, fail_in_turn, faults

from jaxser.runtime.checkpoint import Checkpoints, load_variables
from jaxser.runtime.errors import InputError
from jaxser.runtime.integrity import DIGESTS, damage_in


def state(scale: float = 1.0) -> dict[str, Any]:
    return {
        "params": {"dense": {"kernel": scale * jnp.arange(6.0).reshape(2, 3)}},
        "count": jnp.int32(3),
    }


def numbers() -> grain.DatasetIterator:
    return iter(grain.MapDataset.source(list(range(50))).shuffle(seed=1).to_iter_dataset())


@pytest.fixture
def checkpoints(tmp_path: Path) -> Iterator[Checkpoints]:
    opened = Checkpoints(tmp_path)
    yield opened
    opened.close()


def test_last_round_trip_with_the_data_position(checkpoints: Checkpoints) -> None:
    data = numbers()
    for _ in range(7):
        next(data)
    checkpoints.save_last(7, state(), data, {"history": [1.5]})
    expected = next(data)
    fresh = numbers()
    step, restored, record = checkpoints.restore_last(state(0.0), fresh)
    assert step == 7
    assert record == {"history": [1.5]}
    assert next(fresh) == expected
    jax.tree.map(np.testing.assert_array_equal, restored, state())


def test_nothing_saved_yet(checkpoints: Checkpoints) -> None:
    like = state()
    assert checkpoints.restore_last(like, numbers()) == (0, like, {})


def test_only_the_newest_is_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save_best(step, state(step))
    assert [p.name for p in (tmp_path / "best").iterdir() if p.name.isdigit()] == ["3"]
    jax.tree.map(np.testing.assert_array_equal, load_variables(tmp_path, state()), state(3))


def test_another_architecture_is_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save_best(1, state())
    other = {"params": {"dense": {"kernel": jnp.zeros((2, 4))}}, "count": jnp.int32(0)}
    with pytest.raises(
        InputError, match=r"another architecture .*kernel \[2, 3\] instead of \[2, 4\]"
    ):
        load_variables(tmp_path, other)
    with pytest.raises(InputError, match=r"\[2, 3\] instead of absent"):
        load_variables(tmp_path, {"count": jnp.int32(0)})


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished checkpoint"):
        load_variables(tmp_path, state())


def test_damaged_checkpoint(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save_best(1, state())
    for file in (tmp_path / "best" / "1" / "variables").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or incomplete"):
        load_variables(tmp_path, state())


def test_full_disk_becomes_enospc_and_keeps_the_checkpoint_before(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save_best(1, state())
    writer = checkpoints._writer("best")

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: Error writing x: No space left on device")

    monkeypatch.setattr(writer, "save", fail)
    with pytest.raises(OSError, match="No space left") as error:
        checkpoints.save_best(2, state(2.0))
    assert error.value.errno == errno.ENOSPC
    jax.tree.map(np.testing.assert_array_equal, load_variables(tmp_path, state()), state())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("kill", range(0, 1000, 5)),
        pytest.param("kill", range(1000), marks=pytest.mark.long),
        pytest.param("full", range(1000), marks=pytest.mark.long),
    ],
)
def test_what_is_there_has_its_digests_whatever_fails(
    tmp_path: Path, kind: Kind, chosen: range
) -> None:
    """At every write, fsync and rename in turn: the one before or the new one, whole."""

    def again() -> Path:
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        opened = Checkpoints(folder)
        opened.save_best(1, state())
        opened.close()
        return folder

    def save(folder: Path) -> None:
        opened = Checkpoints(folder)
        try:
            opened.save_best(2, state(2.0))
        finally:
            opened.close()

    with faults(again(), None) as disk:
        save(disk.root)
    ends = len(disk.asked)
    # Counted from the last one: from the digests on everything is always tried.
    wanted = {at for at in range(1, ends + 1) if ends - at < 6 or at in chosen}
    seen = set()
    for at, folder, disk in fail_in_turn(again, save, kind, wanted.__contains__):
        for path in (each for each in (folder / "best").iterdir() if each.name.isdecimal()):
            assert (path / DIGESTS).exists(), (at, disk.asked[-1])
            assert damage_in(path) is None
        found = load_variables(folder, state())["params"]["dense"]["kernel"]
        seen.add(float(found[1, 2]))
        save(folder)
        jax.tree.map(np.testing.assert_array_equal, load_variables(folder, state()), state(2.0))
    assert 5.0 in seen
    assert seen <= {5.0, 10.0}


@pytest.mark.parametrize(
    "name",
    [
        *("a b", "a'b", "a#b", "a%20b", "ü", "a:b", "{x}"),
        *("a\\b", "a[b]", "a*b", "a?b", "gs:/b", "a\udcfcb"),
    ],
)
def test_a_folder_of_any_name_is_read_back_or_refused(tmp_path: Path, name: str) -> None:
    """What is written must be what is read, wherever the folder lies."""
    folder = tmp_path / name
    try:
        opened = Checkpoints(folder)
    except InputError as error:
        assert "rename the folder" in str(error)  # noqa: PT017
        assert list(tmp_path.iterdir()) == []
        folder.mkdir(parents=True)
        with pytest.raises(InputError, match="rename the folder"):
            load_variables(folder, state())
        return
    opened.save_best(1, state())
    opened.close()
    jax.tree.map(np.testing.assert_array_equal, load_variables(folder, state()), state())
