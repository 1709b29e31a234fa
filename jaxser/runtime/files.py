"""Files that appear under their final name only when whole, and folders held by one process.

with atomic_file("runs/demo/results.json") as temporary:
    temporary.write_text("...")
with held(Path("runs/demo"), "trained"):
    ...                                              # nobody else writes there
"""

import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxser.runtime.locks import held

__all__ = [
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "held",
    "remove_strays",
    "write_text",
]

# Names of temporary files and folders, as _temporary_beside makes them.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]+)?")

# So old, a temporary file has lost its process, even where nobody holds the folder.
_STALE_SECONDS = 24 * 3600


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that is synced and renamed to it at the end.

    Missing parent folders are made. On an error the temporary file is removed and what ``path``
    held before stays. The suffix is kept, as some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_strays(path.parent.absolute())
    temporary = _temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which must not be there, that gets its name at the end.

    What is written into it must be synced by its writer. On an error it is removed.
    """
    temporary = _temporary_beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_strays(folder: Path, apart: Collection[str] = ()) -> None:
    """Remove what killed processes left under the temporary names of this module.

    Args:
      folder: held alone, so that nobody writes there now.
      apart: folders in it that others may hold; they are not looked into.
    """
    for parent, folders, files in os.walk(folder):
        for name in [name for name in folders if _TEMPORARY.fullmatch(name)]:
            shutil.rmtree(Path(parent) / name)
            folders.remove(name)
        for name in files:
            if _TEMPORARY.fullmatch(name):
                (Path(parent) / name).unlink(missing_ok=True)
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in apart]


@functools.cache
def _remove_old_strays(folder: Path) -> None:
    """Once for each folder that this process writes to: it may have many files."""
    for entry in os.scandir(folder):
        if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            # Another process may be as tidy.
            with suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                    Path(entry.path).unlink()


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


def cache_folder() -> Path:
    """Where prepared audio, made corpora and compiled programs are kept between runs.

    ``$JAXSER_CACHE``, or ``~/.cache/jaxser``.
    """
    return Path(os.environ.get("JAXSER_CACHE") or Path.home() / ".cache" / "jaxser").expanduser()
