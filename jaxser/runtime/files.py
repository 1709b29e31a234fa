"""Files that appear under their final name only when whole, and folders held by one process.

with atomic_file("runs/demo/results.json") as temporary:
    temporary.write_text("...")
with held(Path("runs/demo"), "trained"):
    ...                                              # nobody else writes there
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.locks import held
from jaxser.runtime.text import one_line

__all__ = [
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "check_writable",
    "held",
    "read_json",
    "remove_strays",
    "usable_cache",
    "write_text",
]

_LOG = logging.getLogger(__name__)

# Names of temporary files and folders, as _temporary_beside makes them.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]+)?")

# So old, a temporary file has lost its process, even where nobody holds the folder.
_STALE_SECONDS = 24 * 3600


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that is synced and renamed to it at the end.

    Missing parent folders are made. On an error the temporary file is removed and what ``path``
    held before stays. The suffix is kept, as some writers choose the format by it; whoever may read
    new files there may read this one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_strays(path.parent.absolute())
    temporary = _temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _as_others(temporary)
        temporary.replace(path)
    except OSError as error:
        # A failed write bears no name, and nobody knows the temporary one.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        # On a disk that can be written no longer, what has happened is told, and not that as well.
        with contextlib.suppress(OSError):
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
    """Write a small text file atomically, as UTF-8; what that cannot hold is escaped."""
    with atomic_file(path) as temporary:
        # Names of files that are not UTF-8 are in Python's strings as halves of surrogate pairs.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, advice: str) -> Any:
    """What a small JSON file holds.

    Args:
      path: of the file.
      advice: what to do about one that is damaged; it ends the sentence.

    Raises:
      InputError: it is not JSON.
      OSError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON, or nested without end
        raise InputError(f"{path} is damaged ({one_line(error)}); {advice}.") from None


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


def _as_others(path: Path) -> None:
    """Give a file that its writer made for its owner alone the mode of any new file there.

    Some writers, that of safetensors among them, make files as temporary ones are made.
    """
    if path.stat().st_mode & 0o077:
        return
    # The mask of a process cannot be read without changing it for all threads.
    probe = _temporary_beside(path)
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        path.chmod(probe.stat().st_mode & 0o777)
    finally:
        probe.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


def cache_folder() -> Path:
    """Where prepared audio, made corpora and compiled programs are kept between runs.

    ``$JAXSER_CACHE``, or ``~/.cache/jaxser``.

    Raises:
      InputError: there is no home folder to put it into.
    """
    asked = os.environ.get("JAXSER_CACHE")
    try:
        return Path(asked).expanduser() if asked else Path.home() / ".cache" / "jaxser"
    except RuntimeError as error:  # a container's user without an entry among the users
        raise InputError(
            f"there is no folder for the cache ({one_line(error)}); name one with the environment "
            "variable JAXSER_CACHE."
        ) from None


def usable_cache() -> Path:
    """:func:`cache_folder`, or a folder for this process alone where none was named or it cannot be
    written: what is made there is made again by the next one, and a warning says so."""
    if os.environ.get("JAXSER_CACHE"):
        return cache_folder()
    try:
        folder = cache_folder()
        check_writable(folder)
    except (InputError, OSError) as error:
        return _own_cache(one_line(error))
    return folder


def check_writable(folder: Path) -> None:
    """Make a folder, and a file in it, which is removed at once.

    Raises:
      OSError: that cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


@functools.cache
def _own_cache(reason: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jaxser-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _LOG.warning(
        "the cache cannot be written (%s); what is prepared is kept until this command ends: name "
        "another folder with the environment variable JAXSER_CACHE",
        reason,
    )
    return folder
