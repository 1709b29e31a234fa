"""A small folder of Hugging Face's layout."""

from pathlib import Path

import pytest
import written_folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the folder, written once."""
    folder = tmp_path_factory.mktemp("written") / "out"
    written_folder.write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(files: dict[str, bytes], tmp_path: Path) -> Path:
    """A copy of it."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path
