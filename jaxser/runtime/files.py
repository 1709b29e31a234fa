"""Files that appear under their final name only when whole.

with atomic_file("runs/demo/results.json") as temporary:
    temporary.write_text("...")
"""

import atexit
import contextlib
import fcntl
import functools
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import one_line

__all__ = [
    "atomic_file",
    "cache_folder",
    "check_writable",
    "held",
    "read_json",
    "usable_cache",
    "write_text",
]

_LOG = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that is synced and renamed to it at the end.

    Missing parent folders are made. On an error the temporary file is removed and what ``path``
    held before stays. The suffix is kept, as some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
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


@contextmanager
def held(folder: Path, use: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, so that two processes never write there.

    Args:
      folder: to hold.
      use: what is done with it, "trained" for instance; for the error.
      shared: hold it with others that share it, too, and keep out those that want it alone.

    Raises:
      InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being {use} by another process; wait for it or give another --out."
            ) from None
        yield


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
