"""Look through a corpus: what it holds, what is wrong with it, how it departs from the official.

    report = check("ravdess", Path("path/to/ravdess"))
    print(report_text(report))
    report["status"]                       # 0, or 1 if anything is wrong or not as released

Every audio file under the root is decoded, those that the table leaves out as well.
"""

import dataclasses
import fnmatch
import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.corpora import get_spec, load
from jaxser.corpora.audio_settings import SHORTEST
from jaxser.corpora.measurement import MeasuredFile, cut_to, describe_audio, map_files
from jaxser.corpora.spec import AUDIO_SUFFIXES, CorpusSpec, LeftOut, walk_files
from jaxser.corpora.table import UNKNOWN, Utterance, genders_of
from jaxser.corpora.table_faults import table_faults
from jaxser.speech.audio import DamagedAudioError, DamageKind, decode_audio, read_bytes

__all__ = ["check"]

# Peak to peak: -80 dB of full scale, above the dither of 16 bits.
_SILENCE = 2e-4
_COMPANIONS = (
    "*.txt",
    "*.md",
    "*.pdf",
    "*.csv",
    "*.json",
    "*.html",
    "*.doc*",
    "*.xls*",
    "LICENSE*",
)
_KINDS = (
    "damaged", "empty", "short", "non-finite", "too-loud", "silent",
    "duplicated", "misplaced", "copied", "stray",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class _Probe:
    """One decoded file."""

    measured: MeasuredFile
    damage_kind: DamageKind | None = None
    silent: bool = False
    equal_channels: bool = False
    audio: str = ""


def check(
    name: str,
    root: Path | str,
    *,
    workers: int | None = None,
    progress: bool = True,
    shortest: float = SHORTEST,
) -> dict[str, Any]:
    """Examine every file of a corpus, and its table.

    Args:
      name: of the corpus.
      root: as :func:`jaxser.corpora.load` takes it.
      workers: threads; as many as there are cores by default.
      progress: show a progress bar if stderr is a terminal.
      shortest: files that last less, in seconds, are named.

    Returns:
      A report of plain values, as ``--json`` prints it; "status" is 0 if nothing is wrong and
      nothing departs from the official corpus, else 1.

    Raises:
      InputError: as :func:`jaxser.corpora.load`.
    """
    spec = get_spec(name)
    corpus = load(name, root)
    utterances = sorted(spec.read(corpus.root), key=lambda u: u.id)
    left_out = spec.left_out(corpus.root)
    paths = [u.path for u in utterances] + [file.path for file in left_out]
    probes = map_files(
        partial(_probe, shortest=shortest),
        paths,
        workers=workers,
        progress=progress,
        description=f"checking {spec.title}",
    )
    table = list(zip(utterances, probes[: len(utterances)], strict=True))
    problems = _problems(
        spec, corpus.root, table, list(zip(left_out, probes[len(table) :], strict=True))
    )
    sound = [probe.measured for _, probe in table if probe.measured.damage is None]
    title, notes = describe_audio(spec, sound)
    departures = _departures(spec, utterances, sound)
    inconsistencies = table_faults(utterances)
    faults = sum(len(found) for found in problems.values())
    known = sum(bool(group["known"]) for group in problems["duplicated"])
    return {
        "corpus": name,
        "title": title or corpus.title,
        "language": corpus.language,
        "root": str(corpus.root),
        "notes": [*corpus.notes, *notes],
        "utterances": len(utterances),
        "classes": _classes(spec, corpus.labels, utterances),
        "speakers": _speakers([u for u in utterances if u.speaker != UNKNOWN]),
        "without_speaker": sum(u.speaker == UNKNOWN for u in utterances),
        "sample_rates": _counts(file.sample_rate for file in sound),
        "channels": _counts(file.channels for file in sound),
        "equal_channels": _equal_channels(table),
        "duration": _durations(sound),
        "problems": problems,
        "inconsistencies": inconsistencies,
        "departures": departures,
        "status": int(faults > known or bool(departures) or bool(inconsistencies)),
    }


def _probe(path: Path, shortest: float) -> _Probe:
    data = b""
    try:
        data = read_bytes(path)
        samples, sample_rate = decode_audio(data, path)
    except DamagedAudioError as error:
        return _Probe(MeasuredFile.of_damaged(data, error.reason), damage_kind=error.kind)
    measured = MeasuredFile.of(data, samples, sample_rate)
    if measured.shortness(shortest) is not None:
        return _Probe(measured.judged(shortest), damage_kind="short")
    channels = samples.shape[1]
    equal = channels > 1 and bool((samples[:, 1:] == samples[:, :1]).all())
    # The same recording stored once as mono and once with two equal channels is one recording.
    heard = np.ascontiguousarray(samples[:, :1] if equal else samples)
    audio = hashlib.sha256(f"{sample_rate} {heard.shape[1]} ".encode() + heard.tobytes())
    return _Probe(
        measured,
        silent=bool(np.ptp(samples, axis=0).max() <= _SILENCE),
        equal_channels=equal,
        audio=audio.hexdigest(),
    )


def _counts(values: Iterable[int]) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _classes(
    spec: CorpusSpec, labels: Sequence[str], utterances: Sequence[Utterance]
) -> dict[str, dict[str, Any]]:
    found = Counter((u.label, u.gender) for u in utterances)
    present = {u.label for u in utterances}
    shown = [*labels, *(x for x in spec.other_labels if x in present or x in spec.official_counts)]
    return {
        label: {
            "utterances": sum(found[label, gender] for gender in ("female", "male", "unknown")),
            "official": spec.official_counts.get(label),
            "used": label in labels,
            **{gender: found[label, gender] for gender in ("female", "male", "unknown")},
        }
        for label in shown
    }


def _speakers(utterances: Sequence[Utterance]) -> dict[str, dict[str, Any]]:
    genders = genders_of(utterances)
    counts = Counter((u.speaker, u.label) for u in utterances)
    return {
        speaker: {
            "gender": genders[speaker],
            "classes": {label: n for (s, label), n in sorted(counts.items()) if s == speaker},
        }
        for speaker in sorted(genders)
    }


def _equal_channels(table: Sequence[tuple[Utterance, _Probe]]) -> dict[str, int]:
    """Files of several channels that all hold the same signal, per class."""
    return dict(sorted(Counter(u.label for u, probe in table if probe.equal_channels).items()))


def _durations(sound: Sequence[MeasuredFile]) -> dict[str, float] | None:
    seconds = sorted(file.seconds for file in sound)
    if not seconds:
        return None
    return {
        "min": seconds[0],
        "median": statistics.median(seconds),
        "max": seconds[-1],
        "total": sum(seconds),
    }


def _problems(
    spec: CorpusSpec,
    root: Path,
    table: Sequence[tuple[Utterance, _Probe]],
    left_out: Sequence[tuple[LeftOut, _Probe]],
) -> dict[str, list[dict[str, Any]]]:
    def name(path: Path) -> str:
        text = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        # A name on disk need not be text.
        return text.encode("utf-8", "backslashreplace").decode()

    problems: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    same_audio = defaultdict(list)
    for utterance, probe in table:
        if probe.damage_kind is not None:
            entry = {"file": name(utterance.path), "reason": probe.measured.damage}
            problems[probe.damage_kind].append(entry)
            continue
        if probe.silent:
            reason = "no sample differs from the rest by more than -80 dB of full scale"
            problems["silent"].append({"file": name(utterance.path), "reason": reason})
        if probe.measured.beyond:
            entry = {"file": name(utterance.path), "reason": probe.measured.loudness}
            problems["too-loud"].append(entry)
        same_audio[probe.audio].append(utterance)
    for group in same_audio.values():
        if len(group) > 1:
            problems["duplicated"].append(
                {
                    "files": [name(u.path) for u in group],
                    "labels": sorted({u.label for u in group}),
                    "known": frozenset(u.id for u in group) in spec.known_duplicates,
                }
            )
    for file, probe in left_out:
        reason = file.reason
        if probe.measured.damage is not None:
            reason += f"; {probe.measured.damage}"
        elif twins := same_audio.get(probe.audio):
            reason += f"; same audio as {name(twins[0].path)}"
        elif file.kind == "copied":
            reason += ", but with other audio"
        problems[file.kind].append({"file": name(file.path), "reason": reason})
    for path in _stray_files(spec, root):
        problems["stray"].append({"file": name(path), "reason": "not a file of this corpus"})
    return problems


def _stray_files(spec: CorpusSpec, root: Path) -> Iterable[Path]:
    """Files beside the audio that do not come with the corpus."""
    if spec.recognises is None:
        # The root is whatever the user has there.
        return
    for path in walk_files(root):
        belongs = (*_COMPANIONS, *spec.companions)
        if path.suffix.lower() not in AUDIO_SUFFIXES and not any(
            fnmatch.fnmatch(path.name, pattern) for pattern in belongs
        ):
            yield path


def _departures(
    spec: CorpusSpec, utterances: Sequence[Utterance], sound: Sequence[MeasuredFile]
) -> list[str]:
    """Half a sentence for every count or format that is not the official one."""
    departures = []
    counts = Counter(u.label for u in utterances)
    off = {x: n for x, n in spec.official_counts.items() if counts[x] != n}
    if off:
        found = sum(counts[label] for label in spec.official_counts)
        official = sum(spec.official_counts.values())
        departures.append(
            f"{found:,} of {official:,} utterances: "
            + ", ".join(f"{label} {counts[label]:,} of {n:,}" for label, n in off.items())
        )
    speakers = len({u.speaker for u in utterances})
    if spec.official_speakers is not None and speakers != spec.official_speakers:
        departures.append(f"{speakers} of {spec.official_speakers} speakers")
    if spec.sample_rate is not None:
        for rate, count in Counter(file.sample_rate for file in sound).most_common():
            if rate != spec.sample_rate:
                departures.append(
                    f"{count:,} of {len(sound):,} files at {rate:,} Hz instead of "
                    f"{spec.sample_rate:,} Hz"
                )
    if spec.channels is not None:
        for channels, count in Counter(file.channels for file in sound).most_common():
            if channels != spec.channels and count > spec.odd_channels.get(channels, 0):
                departures.append(
                    f"{count:,} of {len(sound):,} files with {channels} channels instead of "
                    f"{spec.channels}"
                )
    return departures + _length_departures(spec, sound)


def _length_departures(spec: CorpusSpec, sound: Sequence[MeasuredFile]) -> list[str]:
    if spec.seconds is None or not sound:
        return []
    shortest, longest = spec.seconds
    official = f"the original lasts {shortest} to {longest} s"
    if (seconds := cut_to(spec, sound)) is not None:
        return [f"the files are cut to {seconds:.3g} s; {official}"]
    # The official figures are rounded to 0.01 s.
    outside = sum(not shortest - 0.01 < file.seconds < longest + 0.01 for file in sound)
    if not outside:
        return []
    return [f"{outside:,} files are shorter or longer than any original; {official}"]
