"""Files appear under their final name only when whole."""

from pathlib import Path

import pytest

from jaxser.runtime.files import atomic_file, write_text


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
