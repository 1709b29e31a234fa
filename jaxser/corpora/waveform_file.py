"""The file of waveforms: decoded, resampled and of one length, written row by row as ``.npy``.

measured = write_waveforms(file, utterances, settings, workers=None, progress=True)
rows = close_gaps(file, [m.damage is None for m in measured], settings.num_samples)
write_header(file, (rows, settings.num_samples))
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxser.corpora.audio_settings import AudioSettings
from jaxser.corpora.chunks import Chunk, chunks_of
from jaxser.corpora.measurement import MeasuredFile, map_files, stream_files
from jaxser.corpora.table import Utterance
from jaxser.runtime.files import write_text
from jaxser.speech.audio import (
    DamagedAudioError,
    decode_audio,
    read_bytes,
    resample,
    to_mono,
    unify_length,
)

__all__ = [
    "close_gaps",
    "read_chunk_table",
    "read_lengths",
    "write_chunks",
    "write_header",
    "write_speech",
    "write_waveforms",
]

# NumPy pads a header of version 1.0 to a multiple of 64 bytes; these shapes take two.
_HEADER_BYTES = 128


def write_waveforms(
    file: Path,
    utterances: Sequence[Utterance],
    settings: AudioSettings,
    workers: int | None,
    progress: bool,
) -> list[MeasuredFile]:
    """Write one row per utterance after a gap for the header; damaged ones are left as zeros.

    The header comes last (:func:`write_header`), as only then is known how many rows there are.

    Returns:
      What each utterance's file held.
    """
    row_bytes = 4 * settings.num_samples
    # Rows are written, not mapped: on a full disk a mapped page kills the process.
    with file.open("wb") as out:
        # A disk that is too small says so now, before anything is decoded.
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


def write_chunks(
    file: Path,
    utterances: Sequence[Utterance],
    settings: AudioSettings,
    workers: int | None,
    progress: bool,
) -> list[MeasuredFile]:
    """Write the chunks of all utterances in order after a gap for the header, and their table.

    How many chunks an utterance has is known once it is decoded, so rows have no places of their
    own to be written to, as in :func:`write_waveforms`.

    Returns:
      What each utterance's file held.
    """
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


def read_chunk_table(folder: Path) -> list[list[str]]:
    """[utterance, name of the chunk, variant] of every row of waveforms."""
    table: list[list[str]] = json.loads((folder / "chunks.json").read_text(encoding="utf-8"))
    return table


def write_speech(
    file: Path,
    utterances: Sequence[Utterance],
    settings: AudioSettings,
    workers: int | None,
    progress: bool,
) -> list[MeasuredFile]:
    """Write whole utterances one after the other after a gap for the header, and their lengths.

    Returns:
      What each utterance's file held.
    """
    lengths: list[tuple[str, int]] = []
    known = []
    with file.open("wb") as out:
        out.seek(_HEADER_BYTES)
        results = stream_files(
            lambda utterance: _read(utterance.path, settings),
            utterances,
            workers=workers,
            progress=progress,
            description="preparing",
        )
        for utterance, (x, measured) in zip(utterances, results, strict=True):
            if x is not None:
                out.write(_full_scale(x).tobytes())
                lengths.append((utterance.id, len(x)))
            known.append(measured)
    write_text(file.parent / "lengths.json", json.dumps(lengths, ensure_ascii=False))
    return known


def read_lengths(folder: Path) -> dict[str, int]:
    """Samples of every utterance, in the order in which they lie in the flat file."""
    return dict(json.loads((folder / "lengths.json").read_text(encoding="utf-8")))


def close_gaps(file: Path, sound: Sequence[bool], num_samples: int) -> int:
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


def write_header(file: Path, shape: tuple[int, ...]) -> None:
    """Write the header of the .npy format, and sync."""
    with file.open("r+b") as out:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        assert len(header.getvalue()) == _HEADER_BYTES
        out.seek(0)
        out.write(header.getvalue())
        out.flush()
        os.fsync(out.fileno())


def _read(path: Path, settings: AudioSettings) -> tuple[np.ndarray | None, MeasuredFile]:
    """One channel at the wanted rate, not yet of one length.

    None where the file is damaged or shorter than the settings allow.
    """
    data = b""
    try:
        data = read_bytes(path)
        samples, sample_rate = decode_audio(data, path)
        measured = MeasuredFile.of(data, samples, sample_rate)
        if measured.shortness(settings.shortest) is not None:
            # Sound, for a shorter length: what is measured does not depend on the settings.
            return None, measured
        x = resample(to_mono(samples, settings.channel), sample_rate, settings.sample_rate)
        if not len(x):
            raise DamagedAudioError(path, f"{len(samples)} samples are too few to resample")
    except DamagedAudioError as error:
        return None, MeasuredFile.of_damaged(data, error.reason)
    return x, measured


def _full_scale(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1.0, 1.0).astype(np.float32)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of it, which one call need not do; threads share no position in the file."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
