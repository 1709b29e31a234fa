"""Files that appear under their final name only when whole.

with atomic_file("runs/demo/results.json") as temporary:
    temporary.write_text("...")
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_file", "cache_folder", "write_text"]


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


def cache_folder() -> Path:
    """Where prepared audio, made corpora and compiled programs are kept between runs.

    ``$JAXSER_CACHE``, or ``~/.cache/jaxser``.
    """
    return Path(os.environ.get("JAXSER_CACHE") or Path.home() / ".cache" / "jaxser").expanduser()
