"""Decode, resample and unify a corpus once, into a memory-mapped cache.

    prepared = prepare(corpus, AudioSettings(sample_rate=16_000, seconds=2.0))
    prepared.waveforms[0]              # [samples] float32, the first utterance of the table
    prepared.corpus.title              # says so where the audio is not the original

The cache is keyed by the content of the files and the settings, not by names or times: a changed
file is noticed, a moved corpus is found again. A small index of sizes and times beside it spares
the second start from reading any audio.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from jaxtyping import Float

from jaxser.corpora import get_spec
from jaxser.corpora.chunks import Chunk, Chunking, chunks_of
from jaxser.corpora.measurement import MeasuredFile, describe_audio, map_files, stream_files
from jaxser.corpora.table import Corpus, Utterance
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import cache_folder, write_text
from jaxser.speech.audio import (
    Channel,
    DamagedAudioError,
    LengthMode,
    decode_audio,
    read_bytes,
    resample,
    to_mono,
    unify_length,
)

__all__ = ["AudioSettings", "Prepared", "prepare"]

# Raise it with any change that alters a sample.
_VERSION = 1
_HEADER_BYTES = 128
_STALE_SECONDS = 24 * 3600


@dataclasses.dataclass(frozen=True)
class AudioSettings:
    """What every utterance is turned into.

    Attributes:
      sample_rate: in Hz.
      seconds: length of every waveform.
      channel: "left", or "mean" of all channels.
      length: how shorter utterances are lengthened: "repeat" them, or "pad" with zeros.
      chunking: trim every utterance and cut it into waveforms of this length, each of them an
        utterance of its own; None: one waveform per utterance, cut at its end.
    """

    sample_rate: int = 16_000
    seconds: float = 2.0
    channel: Channel = "left"
    length: LengthMode = "repeat"
    chunking: Chunking | None = None

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or not math.isfinite(self.seconds) or self.num_samples < 1:
            raise InputError(
                f"{self.seconds} s at {self.sample_rate} Hz is no length for a waveform; "
                "both must be positive."
            )
        for name, valid in (("channel", get_args(Channel)), ("length", get_args(LengthMode))):
            if getattr(self, name) not in valid:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(valid)}."
                )

    @property
    def num_samples(self) -> int:
        """Samples per waveform."""
        return round(self.seconds * self.sample_rate)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A corpus with its audio.

    Attributes:
      corpus: the utterances (or their chunks) that are there, in the order of ``waveforms``, with
        notes on the audio.
      waveforms: [utterances, samples] float32 in [-1, 1], memory-mapped and read-only.
      fingerprint: SHA-256 of ids, file contents and settings.
      skipped: (id, reason) of every damaged file that was left out.
      folder: where it is cached.
    """

    corpus: Corpus
    waveforms: Float[np.memmap, "utterances samples"]
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]
    folder: Path


def prepare(
    corpus: Corpus,
    settings: AudioSettings | None = None,
    *,
    cache_dir: Path | str | None = None,
    skip_damaged: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Waveforms of all utterances, from the cache where they are there already.

    Resampling overshoots full scale now and then; such samples are clipped to [-1, 1], since a
    waveform outside is none that could be played or attacked within bounds.

    Args:
      corpus: from :func:`jaxser.corpora.load`.
      settings: AudioSettings() by default.
      cache_dir: ``$JAXSER_CACHE`` or ``~/.cache/jaxser`` by default.
      skip_damaged: leave damaged files out instead of stopping.
      workers: threads; as many as there are cores by default.
      progress: show a progress bar if stderr is a terminal.

    Raises:
      InputError: files are damaged (the message lists them all), or the cache folder cannot be
        written.
      OSError: the disk is full; nothing half-written is left under a final name.
    """
    settings = settings or AudioSettings()
    cache = Path(cache_dir) if cache_dir is not None else cache_folder()
    index = _Index.of(cache, corpus)
    measured = [index.look_up(utterance.path) for utterance in corpus.utterances]
    known = [file for file in measured if file is not None]
    if len(known) == len(measured):
        kept = _kept(corpus, known, skip_damaged)
        fingerprint = _fingerprint([u for u, _ in kept], [m for _, m in kept], settings)
        cached = _open(cache, fingerprint, [u for u, _ in kept], settings)
        if cached is not None:
            return _prepared(corpus, settings, known, cached, fingerprint, cache)

    with _building_folder(cache) as folder:
        stats = [_stat(utterance.path) for utterance in corpus.utterances]
        file = folder / "waveforms.npy"
        write = _write_waveforms if settings.chunking is None else _write_chunks
        known = write(file, corpus.utterances, settings, workers, progress)
        index.store(corpus.utterances, stats, known)
        kept = _kept(corpus, known, skip_damaged)
        fingerprint = _fingerprint([u for u, _ in kept], [m for _, m in kept], settings)
        if settings.chunking is None:
            rows = _close_gaps(file, [m.damage is None for m in known], settings.num_samples)
        else:
            rows = len(_read_table(folder))
        _write_header(file, rows, settings.num_samples)
        skipped = _skipped(corpus, known)
        write_text(folder / "prepared.json", _description(corpus, settings, kept, skipped))
        _publish(folder, _final_folder(cache, fingerprint))
    cached = _open(cache, fingerprint, [u for u, _ in kept], settings)
    if cached is None:
        raise InputError(f"{cache} was changed while it was written; run the same command again.")
    return _prepared(corpus, settings, known, cached, fingerprint, cache)


def _kept(
    corpus: Corpus, measured: Sequence[MeasuredFile], skip_damaged: bool
) -> list[tuple[Utterance, MeasuredFile]]:
    pairs = list(zip(corpus.utterances, measured, strict=True))
    damaged = [(u, m) for u, m in pairs if m.damage is not None]
    if damaged and not skip_damaged:
        raise InputError(
            f"{len(damaged)} of {len(pairs)} files of {corpus.title} are damaged; mend them, or "
            "leave them out with --skip-damaged (--corpus.skip_damaged in a run).\n"
            + "\n".join(f"  {u.path}: {m.damage}" for u, m in damaged)
        )
    if len(damaged) == len(pairs):
        raise InputError(f"all {len(pairs)} files of {corpus.title} are damaged; none is left.")
    return [(u, m) for u, m in pairs if m.damage is None]


def _skipped(corpus: Corpus, measured: Sequence[MeasuredFile]) -> tuple[tuple[str, str], ...]:
    pairs = zip(corpus.utterances, measured, strict=True)
    return tuple((u.id, m.damage) for u, m in pairs if m.damage is not None)


def _fingerprint(
    utterances: Sequence[Utterance], measured: Sequence[MeasuredFile], settings: AudioSettings
) -> str:
    description = {
        "version": _VERSION,
        "settings": _settings(settings),
        "files": [[u.id, m.sha256] for u, m in zip(utterances, measured, strict=True)],
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _settings(settings: AudioSettings) -> dict[str, Any]:
    """The settings as plain values; what is not used is left out."""
    return {k: v for k, v in dataclasses.asdict(settings).items() if v is not None}


def _prepared(
    corpus: Corpus,
    settings: AudioSettings,
    measured: Sequence[MeasuredFile],
    cached: tuple[tuple[Utterance, ...], np.memmap],
    fingerprint: str,
    cache: Path,
) -> Prepared:
    spec = get_spec(corpus.name)
    skipped = _skipped(corpus, measured)
    title, notes = describe_audio(spec, measured)
    if settings.channel == "mean" and spec.downmix_note:
        notes += (spec.downmix_note,)
    if skipped:
        notes += (f"{len(skipped)} damaged files left out of {corpus.title}",)
    if settings.chunking is not None:
        count = len(corpus.utterances) - len(skipped)
        notes += (f"{len(cached[0]):,} chunks of {settings.seconds:g} s of {count:,} utterances",)
    return Prepared(
        corpus=dataclasses.replace(
            corpus,
            title=title or corpus.title,
            utterances=cached[0],
            notes=corpus.notes + notes,
        ),
        waveforms=cached[1],
        fingerprint=fingerprint,
        skipped=skipped,
        folder=_final_folder(cache, fingerprint),
    )


def _final_folder(cache: Path, fingerprint: str) -> Path:
    return cache / "prepared" / fingerprint[:32]


def _open(
    cache: Path, fingerprint: str, kept: Sequence[Utterance], settings: AudioSettings
) -> tuple[tuple[Utterance, ...], np.memmap] | None:
    """The cached table and waveforms, or None where they are absent or were damaged by someone."""
    folder = _final_folder(cache, fingerprint)
    try:
        waveforms = np.load(folder / "waveforms.npy", mmap_mode="r", allow_pickle=False)
        utterances = tuple(kept) if settings.chunking is None else _chunk_table(folder, kept)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        waveforms = None
    shape = (0, 0) if waveforms is None else (len(utterances), settings.num_samples)
    if waveforms is None or waveforms.shape != shape or waveforms.dtype != np.float32:
        shutil.rmtree(folder)
        return None
    return utterances, waveforms


def _chunk_table(folder: Path, kept: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """One utterance per chunk, named after its own and the chunk."""
    of = {utterance.id: utterance for utterance in kept}
    return tuple(
        dataclasses.replace(of[source], id=f"{source}.{name}", source=source, variant=variant)
        for source, name, variant in _read_table(folder)
    )


def _read_table(folder: Path) -> list[list[str]]:
    """[utterance, name of the chunk, variant] of every row of waveforms."""
    table: list[list[str]] = json.loads((folder / "chunks.json").read_text(encoding="utf-8"))
    return table


def _read(path: Path, settings: AudioSettings) -> tuple[np.ndarray | None, MeasuredFile]:
    """One channel at the wanted rate, not yet of one length; None where the file is damaged."""
    data = b""
    try:
        data = read_bytes(path)
        samples, sample_rate = decode_audio(data, path)
        x = resample(to_mono(samples, settings.channel), sample_rate, settings.sample_rate)
        if not len(x):
            raise DamagedAudioError(path, f"{len(samples)} samples are too few to resample")
    except DamagedAudioError as error:
        return None, MeasuredFile(hashlib.sha256(data).hexdigest(), 0, 0, 0, error.reason)
    digest = hashlib.sha256(data).hexdigest()
    return x, MeasuredFile(digest, sample_rate, samples.shape[1], len(samples))


def _full_scale(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1.0, 1.0).astype(np.float32)


def _write_waveforms(
    file: Path,
    utterances: Sequence[Utterance],
    settings: AudioSettings,
    workers: int | None,
    progress: bool,
) -> list[MeasuredFile]:
    """Write one row per utterance after a gap for the header; damaged ones are left as zeros."""
    row_bytes = 4 * settings.num_samples
    # Rows are written, not mapped: on a full disk a mapped page kills the process.
    with file.open("wb") as out:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(out.fileno(), 0, _HEADER_BYTES + row_bytes * len(utterances))

        def work(row: int) -> MeasuredFile:
            x, measured = _read(utterances[row].path, settings)
            if x is not None:
                x = _full_scale(unify_length(x, settings.num_samples, settings.length))
                _write_at(out.fileno(), x.tobytes(), _HEADER_BYTES + row_bytes * row)
            return measured

        return map_files(
            work,
            range(len(utterances)),
            workers=workers,
            progress=progress,
            description="preparing",
        )


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _write_chunks(
    file: Path,
    utterances: Sequence[Utterance],
    settings: AudioSettings,
    workers: int | None,
    progress: bool,
) -> list[MeasuredFile]:
    """Write the chunks of all utterances in order after a gap for the header, and their table."""
    table: list[list[str]] = []

    def work(utterance: Utterance) -> tuple[MeasuredFile, list[Chunk]]:
        x, measured = _read(utterance.path, settings)
        if x is None:
            return measured, []
        assert settings.chunking is not None
        chunks = chunks_of(x, settings.sample_rate, settings.num_samples, settings.chunking)
        return measured, list(chunks)

    def write(out: BinaryIO, utterance: Utterance, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            out.write(_full_scale(chunk.samples).tobytes())
            table.append([utterance.id, chunk.name, chunk.variant])

    known = []
    with file.open("wb") as out:
        out.seek(_HEADER_BYTES)
        results = stream_files(
            work, utterances, workers=workers, progress=progress, description="preparing"
        )
        for utterance, (measured, chunks) in zip(utterances, results, strict=True):
            write(out, utterance, chunks)
            known.append(measured)
    write_text(file.parent / "chunks.json", json.dumps(table, ensure_ascii=False))
    return known


def _close_gaps(file: Path, sound: Sequence[bool], num_samples: int) -> int:
    """Move rows over those of damaged files; returns how many are left."""
    row_bytes = 4 * num_samples
    with file.open("r+b") as out:
        rows = [row for row, is_sound in enumerate(sound) if is_sound]
        for new, old in enumerate(rows):
            if new != old:
                out.seek(_HEADER_BYTES + row_bytes * old)
                data = out.read(row_bytes)
                out.seek(_HEADER_BYTES + row_bytes * new)
                out.write(data)
        out.truncate(_HEADER_BYTES + row_bytes * len(rows))
    return len(rows)


def _write_header(file: Path, rows: int, num_samples: int) -> None:
    """Write the header of the .npy format, and sync."""
    with file.open("r+b") as out:
        header = io.BytesIO()
        shape = (rows, num_samples)
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        assert len(header.getvalue()) == _HEADER_BYTES
        out.seek(0)
        out.write(header.getvalue())
        out.flush()
        os.fsync(out.fileno())


def _description(
    corpus: Corpus,
    settings: AudioSettings,
    kept: Sequence[tuple[Utterance, MeasuredFile]],
    skipped: Sequence[tuple[str, str]],
) -> str:
    description = {
        "corpus": corpus.name,
        "root": str(corpus.root),
        "settings": _settings(settings),
        "skipped": [list(pair) for pair in skipped],
        "files": [[utterance.id, measured.sha256] for utterance, measured in kept],
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _building_folder(cache: Path) -> Iterator[Path]:
    """A folder to build in, removed at the end unless it was renamed."""
    parent = cache / "prepared"
    folder = parent / f".building-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"the cache folder {parent} cannot be written ({error.strerror}); name another with "
            "the environment variable JAXSER_CACHE."
        ) from error
    for other in parent.glob(".building-*"):
        # Left by a process that was killed.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - other.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, final: Path) -> None:
    try:
        folder.rename(final)
    except OSError:
        # Another process was faster; what it wrote is the same.
        if not (final / "waveforms.npy").exists():
            raise


_Stat = tuple[int, int, int]


def _stat(path: Path) -> _Stat | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Index:
    """Sizes and times of a corpus' files, with what was measured when they were last read."""

    def __init__(self, file: Path, entries: dict[str, list[Any]]) -> None:
        self._file = file
        self._entries = entries

    @classmethod
    def of(cls, cache: Path, corpus: Corpus) -> "_Index":
        """The index of a corpus folder; empty where there is none or it cannot be read."""
        key = f"{corpus.name}:{corpus.root.absolute()}".encode()
        file = cache / "index" / f"{hashlib.sha256(key).hexdigest()[:32]}.json"
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            stored = {}
        return cls(file, stored["files"] if stored.get("version") == _VERSION else {})

    def look_up(self, path: Path) -> MeasuredFile | None:
        """What is known of a file that has not changed since."""
        entry = self._entries.get(str(path.absolute()))
        if entry is None or tuple(entry[:3]) != _stat(path):
            return None
        return MeasuredFile(*entry[3:])

    def store(
        self,
        utterances: Sequence[Utterance],
        stats: Sequence[_Stat | None],
        measured: Sequence[MeasuredFile],
    ) -> None:
        """Keep what was measured; ``stats`` are from before the files were read."""
        for utterance, stat, file in zip(utterances, stats, measured, strict=True):
            if stat is not None:
                path = str(utterance.path.absolute())
                self._entries[path] = [*stat, *dataclasses.astuple(file)]
        stored = {"version": _VERSION, "files": self._entries}
        write_text(self._file, json.dumps(stored, separators=(",", ":")))
