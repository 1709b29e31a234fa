"""The folder that holds a prepared corpus in the cache: built aside, published whole, opened.

with building_folder(cache) as folder:
    ...                                          # write what belongs into it
    publish(folder, final_folder(cache, fingerprint))
table, waveforms = open_prepared(cache, fingerprint, utterances, settings)

It is published with the digests of its files, which every process looks at when it first opens it.
"""

import contextlib
import dataclasses
import errno
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxser.corpora.audio_settings import AudioSettings, plain_settings
from jaxser.corpora.measurement import MeasuredFile
from jaxser.corpora.table import Corpus, Utterance
from jaxser.corpora.waveform_file import read_chunk_table, read_lengths
from jaxser.corpora.windows import Windows, window_starts
from jaxser.runtime.errors import InputError
from jaxser.runtime.integrity import DIGESTS, damage_in, write_digests

__all__ = ["building_folder", "describe_prepared", "final_folder", "open_prepared", "publish"]

# So old, a folder under construction has lost its process.
_STALE_SECONDS = 24 * 3600

# Waveforms are looked through in parts of this size.
_BLOCK_BYTES = 1 << 26


@contextlib.contextmanager
def building_folder(cache: Path) -> Iterator[Path]:
    """A folder to build in, removed at the end unless it was renamed."""
    parent = cache / "prepared"
    folder = parent / f".building-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
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


def publish(folder: Path, final: Path) -> None:
    """Give a folder that is whole its digests and its final name, which no reader sees before.

    Raises:
      OSError: the disk is full, for instance.
    """
    write_digests(folder)
    try:
        folder.rename(final)
    except OSError:
        # Another process was faster; what it wrote is the same.
        if not (final / "waveforms.npy").exists():
            raise


def describe_prepared(
    corpus: Corpus,
    settings: AudioSettings,
    kept: Sequence[tuple[Utterance, MeasuredFile]],
    skipped: Sequence[tuple[str, str]],
) -> str:
    """What lies in the folder, for people who find it: JSON, never read back."""
    description = {
        "corpus": corpus.name,
        "root": str(corpus.root),
        "settings": plain_settings(settings),
        "skipped": [list(pair) for pair in skipped],
        "files": [[utterance.id, measured.sha256] for utterance, measured in kept],
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    # The name of a folder need not be text.
    return text.encode("utf-8", "backslashreplace").decode()


def final_folder(cache: Path, fingerprint: str) -> Path:
    """Where the corpus of this fingerprint is kept."""
    return cache / "prepared" / fingerprint[:32]


def open_prepared(
    cache: Path, fingerprint: str, kept: Sequence[Utterance], settings: AudioSettings
) -> tuple[tuple[Utterance, ...], np.memmap | Windows] | None:
    """The cached table and waveforms, or None where they are absent.

    What has no digests, as it is of an older version, is absent as well where its files are not of
    the right form; it is made again.

    Raises:
      InputError: the files are not as they were written, or hold what is no speech.
    """
    folder = final_folder(cache, fingerprint)
    damage = damage_in(folder)
    if damage is not None:
        raise _damaged(folder, damage)
    if settings.windowing is not None:
        # Of no older version: what has no digests has lost them.
        return _windows(folder, kept, settings) if (folder / DIGESTS).exists() else None
    try:
        waveforms = np.load(folder / "waveforms.npy", mmap_mode="r", allow_pickle=False)
        utterances = tuple(kept) if settings.chunking is None else _chunk_table(folder, kept)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError):
        waveforms = None
    shape = (0, 0) if waveforms is None else (len(utterances), settings.num_samples)
    if waveforms is None or waveforms.shape != shape or waveforms.dtype != np.float32:
        shutil.rmtree(folder)
        return None
    if not (folder / DIGESTS).exists():
        _check_values(folder, waveforms)
    return utterances, waveforms


def _windows(
    folder: Path, kept: Sequence[Utterance], settings: AudioSettings
) -> tuple[tuple[Utterance, ...], Windows]:
    """One utterance per window, named after its own and the window's number, and the windows."""
    assert settings.windowing is not None
    flat = np.load(folder / "waveforms.npy", mmap_mode="r", allow_pickle=False)
    of = {utterance.id: utterance for utterance in kept}
    utterances: list[Utterance] = []
    starts, stops, begin = [], [], 0
    for source, length in read_lengths(folder).items():
        found = window_starts(
            length, settings.num_samples, settings.sample_rate, settings.windowing.stride_ms
        )
        starts.append(begin + found)
        begin += length
        stops.append(np.full(len(found), begin))
        utterances += [
            dataclasses.replace(of[source], id=f"{source}.{number}", source=source)
            for number in range(len(found))
        ]
    windows = Windows(flat, np.concatenate(starts), np.concatenate(stops), settings.num_samples)
    return tuple(utterances), windows


def _check_values(folder: Path, waveforms: np.memmap) -> None:
    """What can be said of waveforms without digests: all in [-1, 1], and not all of them zero."""
    rows = max(1, _BLOCK_BYTES // max(1, 4 * waveforms.shape[1]))
    heard = False
    for start in range(0, len(waveforms), rows):
        loudest = np.abs(waveforms[start : start + rows]).max(axis=1, initial=0.0)
        strange = np.flatnonzero(~(loudest <= 1))  # a NaN is not below anything
        if len(strange):
            raise _damaged(folder, f"row {start + strange[0]} of waveforms.npy is beyond [-1, 1]")
        heard = heard or bool(loudest.any())
    if len(waveforms) and not heard:
        raise _damaged(folder, "waveforms.npy holds zeros only")


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(
        f"the prepared audio in {folder} is damaged ({reason}); delete that folder, and the same "
        "command makes it again from the speech."
    )


def _chunk_table(folder: Path, kept: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """One utterance per chunk, named after its own and the chunk."""
    of = {utterance.id: utterance for utterance in kept}
    return tuple(
        dataclasses.replace(of[source], id=f"{source}.{name}", source=source, variant=variant)
        for source, name, variant in read_chunk_table(folder)
    )
