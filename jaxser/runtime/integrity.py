"""Digests beside what was written, and what is no longer as it was.

    write_digests(folder)                      # SHA256SUMS, which sha256sum -c reads as well
    damage = damage_in(folder)                 # None, or "its file x is not as it was written"
    not_finite({"params": variables})          # ["params.dense.kernel (3 of 6 values)"]

Disks, memory and copies flip bits now and then, and a weight of 3e38 gives a table like any other.
A folder from before there were digests has none, and nothing is said of it.
"""

import concurrent.futures
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.runtime.files import write_text

__all__ = ["DIGESTS", "damage_in", "not_finite", "path_name", "write_digests"]

DIGESTS = "SHA256SUMS"

# Larger files have a digest for every so many bytes, so that all cores read at once.
_PIECE_BYTES = 1 << 28
_CHUNK_BYTES = 1 << 20
_HEAD = "# SHA-256 of the lines below: "

_sound: set[tuple[Any, ...]] = set()
_sound_lock = threading.Lock()


def write_digests(folder: Path) -> None:
    """Write the digests of all files under ``folder`` into it; it must be whole.

    Raises:
      OSError: the disk is full, for instance.
    """
    pieces = [piece for file in _files(folder) for piece in _pieces(folder, file)]
    lines = "".join(f"{digest}  {name}\n" for name, digest in _digests(folder, pieces))
    write_text(folder / DIGESTS, f"{_HEAD}{hashlib.sha256(lines.encode()).hexdigest()}\n{lines}")


def damage_in(folder: Path) -> str | None:
    """What in ``folder`` is not as it was written, as the second half of a sentence.

    A process looks once at files that have not changed since.

    Returns:
      None where all is as it was, or where there are no digests.
    """
    try:
        text = (folder / DIGESTS).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"its list of digests {DIGESTS} cannot be read ({error.strerror})"
    head, _, lines = text.partition(b"\n")
    if head != f"{_HEAD}{hashlib.sha256(lines).hexdigest()}".encode():
        return f"its list of digests {DIGESTS} is not as it was written"
    written = {name: digest for digest, name in _parsed(lines.decode("utf-8"))}
    names = sorted({name.partition("@")[0] for name in written})
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        return f"its file {absent[0]} is missing"
    state = (folder, text, *(_state(folder / name) for name in names))
    with _sound_lock:
        if state in _sound:
            return None
    try:
        for name, digest in _digests(folder, list(written)):
            if digest != written[name]:
                return f"its file {name.partition('@')[0]} is not as it was written"
    except OSError as error:
        return f"its file {error.filename or names[0]} cannot be read ({error.strerror})"
    with _sound_lock:
        _sound.add(state)
    return None


def not_finite(tree: Any) -> list[str]:
    """Names of the arrays of a pytree that hold NaN or infinities, with how many."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        sound = int(np.count_nonzero(np.isfinite(np.asarray(leaf))))
        if sound < leaf.size:
            found.append(f"{path_name(path)} ({leaf.size - sound:,} of {leaf.size:,} values)")
    return found


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's place in a pytree: names alone, "params.dense.kernel"."""
    parts = (getattr(k, "name", getattr(k, "key", getattr(k, "idx", k))) for k in path)
    return ".".join(map(str, parts))


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != DIGESTS)


def _pieces(folder: Path, name: str) -> list[str]:
    """Names of a file's pieces: its own where it is small, else with where each begins."""
    size = (folder / name).stat().st_size
    if size <= _PIECE_BYTES:
        return [name]
    return [f"{name}@{start}" for start in range(0, size, _PIECE_BYTES)]


def _digests(folder: Path, pieces: list[str]) -> Iterator[tuple[str, str]]:
    # Of a file's last piece all is read, so that nothing may follow it.
    last = {name.partition("@")[0]: name for name in pieces}

    def digest(name: str) -> str:
        file, _, start = name.partition("@")
        left = None if last[file] == name else _PIECE_BYTES
        return _digest(folder / file, int(start or 0), left)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(pieces, pool.map(digest, pieces), strict=True)


def _digest(path: Path, start: int, left: int | None) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)):
            found.update(data)
            left = None if left is None else left - len(data)
    return found.hexdigest()


def _parsed(lines: str) -> Iterator[tuple[str, str]]:
    for line in lines.splitlines():
        digest, _, name = line.partition("  ")
        yield digest, name


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
