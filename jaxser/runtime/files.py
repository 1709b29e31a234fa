"""Files that appear under their final name only when whole.

with atomic_file("runs/demo/results.json") as temporary:
    temporary.write_text("...")
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxser.runtime.errors import InputError

__all__ = ["atomic_file", "cache_folder", "held", "write_text"]


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
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    """
    return Path(os.environ.get("JAXSER_CACHE") or Path.home() / ".cache" / "jaxser").expanduser()
