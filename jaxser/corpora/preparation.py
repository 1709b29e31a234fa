"""Decode, resample and unify a corpus once, into a memory-mapped cache.

    prepared = prepare(corpus, AudioSettings(sample_rate=16_000, seconds=2.0))
    prepared.waveforms[0]              # [samples] float32, the first utterance of the table
    prepared.corpus.title              # says so where the audio is not the original

The cache is keyed by the content of the files and the settings, not by names or times: a changed
file is noticed, a moved corpus is found again. A small index of sizes and times beside it spares
the second start from reading any audio.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxser.corpora import get_spec
from jaxser.corpora.audio_settings import AudioSettings, audio_fingerprint
from jaxser.corpora.file_index import FileIndex, stat_of
from jaxser.corpora.measurement import MeasuredFile, describe_audio
from jaxser.corpora.prepared_folder import (
    building_folder,
    describe_prepared,
    final_folder,
    open_prepared,
    publish,
)
from jaxser.corpora.table import Corpus, Utterance
from jaxser.corpora.waveform_file import (
    close_gaps,
    read_chunk_table,
    read_lengths,
    write_chunks,
    write_header,
    write_speech,
    write_waveforms,
)
from jaxser.corpora.windows import Windows
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import cache_folder, usable_cache, write_text
from jaxser.runtime.text import counted

__all__ = ["Prepared", "prepare"]

# Damaged files that an error lists; check lists all.
_SHOWN = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A corpus with its audio.

    Attributes:
      corpus: the utterances (or their chunks or windows) that are there, in the order of
        ``waveforms``, with notes on the audio.
      waveforms: [utterances, samples] float32 in [-1, 1], memory-mapped and read-only.
      fingerprint: SHA-256 of ids, file contents and settings.
      skipped: (id, reason) of every damaged file that was left out.
      clipped: (id, how many and how far) of every file with samples beyond full scale.
      folder: where it is cached.
      cut: into what utterances are cut ("windows of 1 s, one every 10 ms"); "" of whole ones.

    Examples:
      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> settings = jaxser.corpora.AudioSettings(sample_rate=8_000, seconds=0.25)
      >>> prepared = jaxser.corpora.prepare(corpus, settings, cache_dir="cache", progress=False)
      >>> prepared.skipped, prepared.clipped
      ((), ())
    """

    corpus: Corpus
    waveforms: Float[np.memmap, "utterances samples"] | Windows
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]
    folder: Path
    clipped: tuple[tuple[str, str], ...] = ()
    cut: str = ""


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
    waveform outside is none that could be played or attacked within bounds. So are those that a
    file of floats holds beyond full scale, but these are counted and the files named.

    Args:
      corpus: from :func:`jaxser.corpora.load`.
      settings: AudioSettings() by default.
      cache_dir: ``$JAXSER_CACHE`` or ``~/.cache/jaxser`` by default; where the latter cannot be
        written, a temporary folder until the process ends, with a warning.
      skip_damaged: leave damaged files out instead of stopping.
      workers: threads; as many as there are cores by default.
      progress: show a progress bar if stderr is a terminal.

    Raises:
      InputError: files are damaged (the message lists the first fifty), or the cache folder
        cannot be written.
      OSError: the disk is full; nothing half-written is left under a final name.

    Examples:
      >>> import jaxser
      >>> corpus = jaxser.corpora.load("csv", "speech/table.csv")
      >>> settings = jaxser.corpora.AudioSettings(sample_rate=8_000, seconds=0.25)
      >>> prepared = jaxser.corpora.prepare(corpus, settings, cache_dir="cache", progress=False)
      >>> prepared.waveforms.shape, prepared.waveforms.dtype
      ((12, 2000), dtype('float32'))
    """
    settings = settings or AudioSettings()
    cache = Path(cache_dir) if cache_dir is not None else cache_folder()
    index = FileIndex.of(cache, corpus)
    measured = [index.look_up(utterance.path) for utterance in corpus.utterances]
    known = [file.judged(settings.shortest) for file in measured if file is not None]
    if len(known) == len(measured):
        kept = _kept(corpus, known, skip_damaged)
        fingerprint = audio_fingerprint([u for u, _ in kept], [m for _, m in kept], settings)
        cached = open_prepared(cache, fingerprint, [u for u, _ in kept], settings)
        if cached is not None:
            return _prepared(corpus, settings, known, cached, fingerprint, cache)

    if cache_dir is None and usable_cache() != cache:
        cache = usable_cache()
        index = FileIndex.of(cache, corpus)
    with building_folder(cache) as folder:
        stats = [stat_of(utterance.path) for utterance in corpus.utterances]
        file = folder / "waveforms.npy"
        write = _writer(settings)
        known = write(file, corpus.utterances, settings, workers, progress)
        index.store(corpus.utterances, stats, known)
        known = [file.judged(settings.shortest) for file in known]
        kept = _kept(corpus, known, skip_damaged)
        fingerprint = audio_fingerprint([u for u, _ in kept], [m for _, m in kept], settings)
        write_header(file, _shape(file, known, settings))
        skipped = _skipped(corpus, known)
        write_text(folder / "prepared.json", describe_prepared(corpus, settings, kept, skipped))
        publish(folder, final_folder(cache, fingerprint))
    cached = open_prepared(cache, fingerprint, [u for u, _ in kept], settings)
    if cached is None:
        raise InputError(f"{cache} was changed while it was written; run the same command again.")
    return _prepared(corpus, settings, known, cached, fingerprint, cache)


def _writer(settings: AudioSettings) -> Callable[..., list[MeasuredFile]]:
    if settings.windowing is not None:
        return write_speech
    return write_waveforms if settings.chunking is None else write_chunks


def _shape(
    file: Path, measured: Sequence[MeasuredFile], settings: AudioSettings
) -> tuple[int, ...]:
    """Shape of what has been written, without the gaps that damaged files have left."""
    if settings.windowing is not None:
        return (sum(read_lengths(file.parent).values()),)
    if settings.chunking is not None:
        return len(read_chunk_table(file.parent)), settings.num_samples
    rows = close_gaps(file, [m.damage is None for m in measured], settings.num_samples)
    return rows, settings.num_samples


def _kept(
    corpus: Corpus, measured: Sequence[MeasuredFile], skip_damaged: bool
) -> list[tuple[Utterance, MeasuredFile]]:
    pairs = list(zip(corpus.utterances, measured, strict=True))
    damaged = [(u, m) for u, m in pairs if m.damage is not None]
    if damaged and not skip_damaged:
        raise InputError(
            f"{len(damaged)} of {len(pairs)} files of {corpus.title} are damaged; mend them, or "
            "leave them out with --skip-damaged (--corpus.skip_damaged in a run).\n"
            + "\n".join(f"  {u.path}: {m.damage}" for u, m in damaged[:_SHOWN])
            + (f"\n  and {len(damaged) - _SHOWN:,} more" if len(damaged) > _SHOWN else "")
        )
    if len(damaged) == len(pairs):
        raise InputError(f"all {len(pairs)} files of {corpus.title} are damaged; none is left.")
    return [(u, m) for u, m in pairs if m.damage is None]


def _skipped(corpus: Corpus, measured: Sequence[MeasuredFile]) -> tuple[tuple[str, str], ...]:
    pairs = zip(corpus.utterances, measured, strict=True)
    return tuple((u.id, m.damage) for u, m in pairs if m.damage is not None)


def _prepared(
    corpus: Corpus,
    settings: AudioSettings,
    measured: Sequence[MeasuredFile],
    cached: tuple[tuple[Utterance, ...], np.memmap | Windows],
    fingerprint: str,
    cache: Path,
) -> Prepared:
    spec = get_spec(corpus.name)
    skipped = _skipped(corpus, measured)
    title, notes = describe_audio(spec, measured)
    if settings.channel == "mean" and spec.downmix_note:
        notes += (spec.downmix_note,)
    if skipped:
        notes += (f"{counted(len(skipped), 'damaged file')} left out of {corpus.title}",)
    loud = [(u.id, m) for u, m in zip(corpus.utterances, measured, strict=True) if m.beyond]
    if loud:
        notes += (_clipping_note(corpus, loud),)
    cut = _cut(settings)
    if cut:
        count = len(corpus.utterances) - len(skipped)
        comma = "," * ("," in cut)
        notes += (f"{len(cached[0]):,} {cut}{comma} of {counted(count, 'utterance')}",)
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
        folder=final_folder(cache, fingerprint),
        clipped=tuple((name, file.loudness) for name, file in loud),
        cut=cut,
    )


def _cut(settings: AudioSettings) -> str:
    if settings.chunking is not None:
        return f"chunks of {settings.seconds:g} s"
    if settings.windowing is not None:
        every = f"one every {settings.windowing.stride_ms} ms"
        return f"windows of {settings.seconds:g} s, {every}"
    return ""


def _clipping_note(corpus: Corpus, loud: Sequence[tuple[str, MeasuredFile]]) -> str:
    peak = max(file.peak for _, file in loud)
    names = ", ".join(name for name, _ in loud[:3]) + (", ..." if len(loud) > 3 else "")
    count = sum(file.beyond for _, file in loud)
    return (
        f"{count:,} samples beyond full scale (peak {peak:,.6g}) were clipped in {len(loud)} of "
        f"{len(corpus.utterances)} files of {corpus.title}: {names}"
    )
