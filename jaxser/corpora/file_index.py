"""What was measured of a corpus' files when they were last read, by their sizes and times.

index = FileIndex.of(cache, corpus)
index.look_up(path)                              # None for a file that is new or has changed
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxser.corpora.audio_settings import VERSION
from jaxser.corpora.measurement import MeasuredFile
from jaxser.corpora.table import Corpus, Utterance
from jaxser.runtime.files import write_text

__all__ = ["FileIndex", "Stat", "stat_of"]

# Size, and times of the last change of content and of the file's entry in nanoseconds.
Stat = tuple[int, int, int]


def stat_of(path: Path) -> Stat | None:
    """By what a change of the file is noticed; None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileIndex:
    """Sizes and times of a corpus' files, with what was measured when they were last read."""

    def __init__(self, file: Path, entries: dict[str, list[Any]]) -> None:
        self._file = file
        self._entries = entries

    @classmethod
    def of(cls, cache: Path, corpus: Corpus) -> "FileIndex":
        """The index of a corpus folder; empty where there is none or it cannot be read."""
        key = f"{corpus.name}:{corpus.root.absolute()}".encode()
        file = cache / "index" / f"{hashlib.sha256(key).hexdigest()[:32]}.json"
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        return cls(file, stored["files"] if stored.get("version") == VERSION else {})

    def look_up(self, path: Path) -> MeasuredFile | None:
        """What is known of a file that has not changed since."""
        entry = self._entries.get(str(path.absolute()))
        if entry is None or tuple(entry[:3]) != stat_of(path):
            return None
        return MeasuredFile(*entry[3:])

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
        stored = {"version": VERSION, "files": self._entries}
        write_text(self._file, json.dumps(stored, separators=(",", ":")))
