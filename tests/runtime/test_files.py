"""Files appear under their final name only when whole; folders are held."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxser.runtime import files, locks
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import atomic_file, atomic_folder, remove_strays, write_text
from jaxser.runtime.locks import held
from jaxser.victims.weights_file import write_safetensors


def test_failure_keeps_what_was_there_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_text(path, "old")

    def fail_halfway() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_success_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_text(path, "old")
    with atomic_file(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_whoever_may_read_new_files_may_read_all_that_is_written(tmp_path: Path, mask: int) -> None:
    """Also where a library makes its file for its owner alone, as that of safetensors does."""

    def private(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(mask)
    try:
        for name, write in (("a.txt", lambda path: path.write_text("a")), ("b.bin", private)):
            with atomic_file(tmp_path / name) as temporary:
                write(temporary)
        write_safetensors({"x": np.zeros(2, np.float32)}, tmp_path / "c.safetensors")
        with atomic_folder(tmp_path / "d"):
            pass
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {
        **dict.fromkeys(("a.txt", "b.bin", "c.safetensors"), 0o666 & ~mask),
        "d": 0o777 & ~mask,
    }


def test_a_folder_that_fails_is_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "made") as temporary:
            (temporary / "a").write_text("a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def stray(folder: Path, name: str) -> Path:
    """What a killed process leaves in place of ``name``."""
    path = files._temporary_beside(folder / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    return path


def test_strays_are_removed_and_nothing_else(tmp_path: Path) -> None:
    names = (".lock", ".sweep.json", ".hidden.deadbee.json", "rows.12345678.parquet")
    own = [tmp_path / name for name in names]
    for path in own:
        path.write_text("mine")
    gone = [stray(tmp_path, "sweep.json"), stray(tmp_path / "a/b", "x.wav"), stray(tmp_path, "y")]
    folder = files._temporary_beside(tmp_path / ".description")
    folder.mkdir()
    others = stray(tmp_path / "attacks/pgd", "rows-1.parquet")
    remove_strays(tmp_path, apart=("attacks",))
    assert not any(path.exists() for path in [*gone, folder])
    assert all(path.exists() for path in [*own, others])


def test_old_strays_are_removed_where_something_is_written(tmp_path: Path) -> None:
    old, new = stray(tmp_path, "report.html"), stray(tmp_path, "report.html")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    write_text(tmp_path / "table.csv", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, "table.csv"])


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [(False, False, False), (False, True, False), (True, False, False), (True, True, True)],
)
def test_who_may_be_in_a_folder_with_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool, second: bool, free: bool
) -> None:
    monkeypatch.setattr(locks, "_SHARING_SECONDS", 0.1)
    inside = []

    def enter() -> None:
        with held(tmp_path, "swept", shared=second):
            inside.append(True)

    with held(tmp_path, "swept", shared=first):
        if free:
            enter()
        else:
            with pytest.raises(InputError, match="is being swept by another process"):
                enter()
    enter()
    assert len(inside) == 1 + free
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    for shared in (False, True):
        script = (
            "import os, signal; from pathlib import Path; from jaxser.runtime.files import held\n"
            f"with held(Path({str(tmp_path)!r}), 'swept', shared={shared}):\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
        assert any(tmp_path.iterdir())
        with held(tmp_path, "swept"):
            pass
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_only_made_to_be_held_goes(tmp_path: Path) -> None:
    with held(tmp_path / "new", "swept"):
        pass
    assert not (tmp_path / "new").exists()
    with held(tmp_path / "new", "swept"):
        (tmp_path / "new/rows").write_text("")
    assert (tmp_path / "new/rows").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, shared: bool
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        pytest.raises(InputError, match=r"has no locks \(.*\), so that .* give an --out"),
        held(tmp_path, "swept", shared=shared),
    ):
        pass


def test_a_file_server_that_never_answers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(fcntl, "flock", lambda *_: time.sleep(0.5))
    with pytest.raises(InputError, match="no answer to a lock"), held(tmp_path, "swept"):
        pass
