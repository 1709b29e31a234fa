"""Writes, fsyncs and renames that fail in turn: on a full disk, or as the process is killed.

    with faults(tmp_path, at=3, kind="kill") as disk:
        ...                                      # the third of them ends it; disk.tripped says so

What fails is counted under one folder, in the order in which it is asked for: opening a file to
write, each write to it, fsync, rename, and pyarrow's and soundfile's writing of a file. After a
kill nothing more reaches the disk, whatever Python code still runs. A full disk stays full: what
follows may rename and remove, but not write.
"""

import builtins
import errno
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pyarrow.parquet as pq
import soundfile

Kind = Literal["kill", "full"]


class Killed(BaseException):
    """In place of SIGKILL."""


class Disk:
    """What was asked of it, and whether it has failed.

    Attributes:
      asked: operations so far, such as ("rename", ".../run.json").
    """

    def __init__(self, root: Path, at: int | None, kind: Kind) -> None:
        self.root = root.resolve()
        self._at, self._kind = at, kind
        self.asked: list[tuple[str, str]] = []
        self.tripped = False
        self._lock = threading.RLock()

    @property
    def dead(self) -> bool:
        return self.tripped and self._kind == "kill"

    def counts(self, path: Any) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        path = Path(path).absolute()
        # The event file is written by a thread, at times of its own; nothing is read from it.
        return path.is_relative_to(self.root) and "tensorboard" not in path.parts

    def ask(self, what: str, path: Any, half: Callable[[], Any] | None = None) -> bool:
        """Whether to do it; raises where it fails."""
        with self._lock:
            if self.tripped:
                if self._kind == "full" and what in ("open", "write"):
                    raise self._full(path)
                if self.dead and what in ("open", "rename"):
                    self._die()
                return not self.dead
            self.asked.append((what, str(path)))
            if len(self.asked) != self._at:
                return True
            if half is not None:
                half()
            self.tripped = True
            if self._kind == "full":
                raise self._full(path)
            self._die()
            return False

    def _full(self, path: Any) -> OSError:
        return OSError(errno.ENOSPC, "No space left on device", str(path))

    def _die(self) -> None:
        # Other threads end with the process: what they do next has no effect.
        if threading.current_thread() is threading.main_thread():
            raise Killed


class _File(io.FileIO):
    disk: Disk

    def write(self, data: Any, /) -> int:
        raw = memoryview(data).cast("B")
        if self.disk.ask("write", self.name, lambda: io.FileIO.write(self, raw[: len(raw) // 2])):
            return io.FileIO.write(self, raw)
        return len(raw)


@contextmanager
def faults(root: Path, at: int | None, kind: Kind = "kill") -> Iterator[Disk]:
    """Let operation number ``at`` (from 1) below ``root`` fail; none where it is None."""
    disk = Disk(root, at, kind)
    real_open = builtins.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        if not disk.counts(file) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, *more, **named)
        disk.ask("open", file)
        raw = _File(file, mode.replace("b", "").replace("t", ""))
        raw.disk = disk
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *more, **named)

    def two(real: Callable[..., Any]) -> Callable[..., Any]:
        def moved(source: Any, target: Any, **named: Any) -> Any:
            if not disk.counts(target) or disk.ask("rename", target):
                return real(source, target, **named)
            return None

        return moved

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not disk.counts(path) or disk.ask("fsync", path):
            real_sync(descriptor)

    def alive(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: None if disk.dead else real(*given, **named)

    def whole_file(real: Callable[..., Any], place: int) -> Callable[..., Any]:
        def written(*given: Any, **named: Any) -> Any:
            path = given[place]
            if not disk.counts(path) or disk.ask(
                "write", path, lambda: Path(path).write_bytes(b"half")
            ):
                return real(*given, **named)
            return None

        return written

    real_sync = os.fsync
    with (
        mock.patch.object(builtins, "open", opened),
        mock.patch.object(io, "open", opened),
        mock.patch.object(os, "fsync", synced),
        mock.patch.object(os, "rename", two(os.rename)),
        mock.patch.object(os, "replace", two(os.replace)),
        mock.patch.object(os, "unlink", alive(os.unlink)),
        mock.patch.object(os, "remove", alive(os.remove)),
        mock.patch.object(os, "rmdir", alive(os.rmdir)),
        mock.patch.object(shutil, "rmtree", alive(shutil.rmtree)),
        mock.patch.object(pq, "write_table", whole_file(pq.write_table, 1)),
        mock.patch.object(soundfile, "write", whole_file(soundfile.write, 0)),
    ):
        yield disk


def fail_in_turn(
    again: Callable[[], Path],
    act: Callable[[Path], Any],
    kind: Kind,
    chosen: Callable[[int], bool] = lambda at: True,
) -> Iterator[tuple[int, Path, Disk]]:
    """Do ``act`` in a fresh folder each time, with the next operation failing, until none is left.

    Args:
      again: makes a folder to act in.
      act: what is to be stopped; after a kill it may end in any way, on a full disk with OSError.
      kind: of failure.
      chosen: which operations fail; all by default.

    Yields:
      (number of the operation that failed, a copy of the folder that it left, disk)
    """
    last = _count(again, act)
    for at in filter(chosen, range(1, last + 1)):
        folder = again()
        with faults(folder, at, kind) as disk:
            try:
                act(folder)
            except Killed:
                pass
            except Exception as error:
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                if not (disk.dead or (disk.tripped and full)):
                    raise
            left = folder.with_name(f"{folder.name}-{at}")
            _copy(folder, left)
        assert disk.tripped, f"operation {at} of {last} was not asked for again"
        yield at, left, disk
        shutil.rmtree(left)


def kinds_of(asked: list[tuple[str, str]], last: bool = True) -> set[int]:
    """Numbers of the operations that are the first of their kind, or where asked for the last.

    Of one kind are operations of one sort on one file, whatever its numbers and the random part of
    its name are: of every epoch, say. All that happens in a hidden folder is of one kind as well,
    as none of it is seen before the folder is renamed.
    """
    first: dict[tuple[str, str], int] = {}
    final: dict[tuple[str, str], int] = {}
    for number, (what, path) in enumerate(asked, 1):
        kind = (what, re.sub(r"[0-9a-f]{8}|\d+", "#", _until_hidden(path)))
        first.setdefault(kind, number)
        final[kind] = number
    return {*first.values(), *(final.values() if last else ())}


def _until_hidden(path: str) -> str:
    """The path up to its first hidden folder or file."""
    parts = Path(path).parts
    ends = [index for index, part in enumerate(parts, 1) if part.startswith(".")]
    return "/".join(parts[: min(ends, default=len(parts))])


def _copy(folder: Path, to: Path) -> None:
    """What is there at once: threads that a kill would have ended go on in the old place."""
    for _ in range(3):
        try:
            shutil.copytree(folder, to, dirs_exist_ok=True)
        except (shutil.Error, FileNotFoundError):
            continue  # one of them has just removed something
        return


def _count(again: Callable[[], Path], act: Callable[[Path], Any]) -> int:
    with faults(again(), None) as disk:
        act(disk.root)
    return len(disk.asked)
