"""What was measured of a corpus' files when they were last read, by their sizes and times.

index = FileIndex.of(cache, corpus)
index.look_up(path)                              # None for a file that is new or has changed
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxser.corpora.audio_settings import VERSION
from jaxser.corpora.measurement import MeasuredFile
from jaxser.corpora.table import Corpus, Utterance
from jaxser.runtime.files import write_text
from jaxser.runtime.regular_files import UnreadableFileError, read_regular

__all__ = ["FileIndex", "Stat", "stat_of"]

# Size, and times of the last change of content and of the file's entry in nanoseconds.
Stat = tuple[int, int, int]

# The second number is raised with any change to what is measured; files are then measured again.
_VERSION = [VERSION, 2]
_LARGEST = 1 << 63


def stat_of(path: Path) -> Stat | None:
    """By what a change of the file is noticed; None where there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        # ValueError: a NUL character in the name.
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileIndex:
    """Sizes and times of a corpus' files, with what was measured when they were last read."""

    def __init__(self, file: Path, entries: dict[str, Any]) -> None:
        self._file = file
        self._entries = entries

    @classmethod
    def of(cls, cache: Path, corpus: Corpus) -> "FileIndex":
        """The index of a corpus folder; empty where there is none or it cannot be read."""
        key = f"{corpus.name}:{corpus.root.absolute()}".encode()
        file = cache / "index" / f"{hashlib.sha256(key).hexdigest()[:32]}.json"
        try:
            stored = json.loads(read_regular(file))
        except (UnreadableFileError, ValueError, RecursionError):
            stored = None
        files = None
        if isinstance(stored, dict) and stored.get("version") == _VERSION:
            files = stored.get("files")
        return cls(file, files if isinstance(files, dict) else {})

    def look_up(self, path: Path) -> MeasuredFile | None:
        """What is known of a file that has not changed since."""
        entry = self._entries.get(str(path.absolute()))
        found = _entry(entry)
        return found[1] if found is not None and found[0] == stat_of(path) else None

    def store(
        self,
        utterances: Sequence[Utterance],
        stats: Sequence[Stat | None],
        measured: Sequence[MeasuredFile],
    ) -> None:
        """Keep what was measured; ``stats`` are from before the files were read."""
        for utterance, stat, file in zip(utterances, stats, measured, strict=True):
            if stat is not None:
                path = str(utterance.path.absolute())
                self._entries[path] = [*stat, *dataclasses.astuple(file)]
        stored = {"version": _VERSION, "files": self._entries}
        write_text(self._file, json.dumps(stored, separators=(",", ":")))


def _entry(entry: Any) -> tuple[Stat, MeasuredFile] | None:
    """What :meth:`FileIndex.store` wrote for a file; None where it is damaged."""
    if not isinstance(entry, list) or len(entry) != 10:
        return None
    size, modified, changed, digest, rate, channels, frames, damage, beyond, peak = entry
    numbers = (size, modified, changed, rate, channels, frames, beyond)
    is_whole = (
        all(type(n) is int and 0 <= n < _LARGEST for n in numbers)
        and isinstance(digest, str)
        and (isinstance(damage, str) if damage is not None else min(rate, channels, frames) > 0)
        and isinstance(peak, float)
        and math.isfinite(peak)
    )
    file = MeasuredFile(digest, rate, channels, frames, damage, beyond, peak)
    return ((size, modified, changed), file) if is_whole else None
