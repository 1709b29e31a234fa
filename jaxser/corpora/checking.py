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
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.corpora import get_spec, load
from jaxser.corpora.measurement import MeasuredFile, cut_to, describe_audio, map_files
from jaxser.corpora.spec import AUDIO_SUFFIXES, CorpusSpec, LeftOut, walk_files
from jaxser.corpora.table import Utterance
from jaxser.speech.audio import DamagedAudioError, DamageKind, decode_audio, read_bytes

__all__ = ["check", "report_text"]

# Peak to peak: -80 dB of full scale, above the dither of 16 bits.
_SILENCE = 2e-4
_SHOWN = 20
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
    "damaged", "empty", "non-finite", "silent", "duplicated", "misplaced", "copied", "stray",
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
    name: str, root: Path | str, *, workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Examine every file of a corpus.

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
        _probe, paths, workers=workers, progress=progress, description=f"checking {spec.title}"
    )
    table = list(zip(utterances, probes[: len(utterances)], strict=True))
    problems = _problems(
        spec, corpus.root, table, list(zip(left_out, probes[len(table) :], strict=True))
    )
    sound = [probe.measured for _, probe in table if probe.measured.damage is None]
    title, notes = describe_audio(spec, sound)
    departures = _departures(spec, utterances, sound)
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
        "speakers": _speakers(utterances),
        "sample_rates": _counts(file.sample_rate for file in sound),
        "channels": _counts(file.channels for file in sound),
        "equal_channels": _equal_channels(table),
        "duration": _durations(sound),
        "problems": problems,
        "departures": departures,
        "status": int(faults > known or bool(departures)),
    }


def _probe(path: Path) -> _Probe:
    data = b""
    try:
        data = read_bytes(path)
        samples, sample_rate = decode_audio(data, path)
    except DamagedAudioError as error:
        measured = MeasuredFile(hashlib.sha256(data).hexdigest(), 0, 0, 0, error.reason)
        return _Probe(measured, damage_kind=error.kind)
    channels = samples.shape[1]
    equal = channels > 1 and bool((samples[:, 1:] == samples[:, :1]).all())
    # The same recording stored once as mono and once with two equal channels is one recording.
    heard = np.ascontiguousarray(samples[:, :1] if equal else samples)
    audio = hashlib.sha256(f"{sample_rate} {heard.shape[1]} ".encode() + heard.tobytes())
    return _Probe(
        MeasuredFile(hashlib.sha256(data).hexdigest(), sample_rate, channels, len(samples)),
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
    genders = {u.speaker: u.gender for u in utterances}
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
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

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


def report_text(report: dict[str, Any]) -> str:
    """The report of :func:`check` as text for a terminal."""
    speakers = report["speakers"]
    genders = Counter(speaker["gender"] for speaker in speakers.values())
    who = ", ".join(f"{n} {gender}" for gender, n in sorted(genders.items()))
    lines = [
        f"{report['title']} ({report['language']}) at {report['root']}",
        *(f"note: {note}" for note in report["notes"]),
        "",
        f"{_number(report['utterances'], 'utterance')} by "
        f"{_number(len(speakers), 'speaker')} ({who})",
        "",
        *_class_lines(report),
        "",
        *_speaker_lines(report),
        "",
        *_format_lines(report),
        "",
        *_problem_lines(report["problems"]),
        "",
    ]
    if report["departures"]:
        lines += ["departures from the official corpus", *_bullets(report["departures"]), ""]
    return "\n".join([*lines, _verdict(report)])


def _verdict(report: dict[str, Any]) -> str:
    found = [
        f"{number} {kind}" for kind, number in _fault_counts(report["problems"]).items() if number
    ]
    departures = len(report["departures"])
    if departures:
        found.append(f"{_number(departures, 'departure')} from the official corpus")
    title = report["title"]
    if found:
        return f"{title} is not as it should be: {', '.join(found)}."
    if any(row["official"] is not None for row in report["classes"].values()):
        return f"{title} is as the official corpus: nothing is wrong."
    return f"Nothing is wrong with {title}."


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _fault_counts(problems: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    """How many of each kind, known duplicates not counted."""
    return {kind: sum(not x.get("known") for x in found) for kind, found in problems.items()}


def _table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Aligned columns; the first ``left`` ones to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _class_lines(report: dict[str, Any]) -> list[str]:
    classes = report["classes"]
    columns = ["utterances"]
    columns += ["official"] * any(row["official"] is not None for row in classes.values())
    columns += [g for g in ("female", "male", "unknown") if any(row[g] for row in classes.values())]
    rows = [["class", *columns]]
    for label, row in classes.items():
        values = ["?" if row[column] is None else f"{row[column]:,}" for column in columns]
        rows.append([label if row["used"] else f"{label} (left out)", *values])
    totals = [f"{sum(row[c] or 0 for row in classes.values()):,}" for c in columns]
    return _table([*rows, ["total", *totals]])


def _speaker_lines(report: dict[str, Any]) -> list[str]:
    classes = list(report["classes"])
    rows = [["speaker", "gender", "utterances", *classes]]
    for name, speaker in report["speakers"].items():
        counts = speaker["classes"]
        values = [str(counts.get(label, "-")) for label in classes]
        rows.append([name, speaker["gender"], f"{sum(counts.values()):,}", *values])
    return _table(rows, left=2)


def _format_lines(report: dict[str, Any]) -> list[str]:
    rates = ", ".join(
        f"{int(r):,} Hz ({_number(n, 'file')})" for r, n in report["sample_rates"].items()
    )
    channels = ", ".join(
        f"{'mono' if c == '1' else 'stereo' if c == '2' else c} ({_number(n, 'file')})"
        for c, n in report["channels"].items()
    )
    rows = [["sample rate", rates or "none"], ["channels", channels or "none"]]
    if report["equal_channels"]:
        equal = ", ".join(f"{label} {n}" for label, n in report["equal_channels"].items())
        rows.append(
            [
                "equal channels",
                f"{_number(sum(report['equal_channels'].values()), 'file')} ({equal})",
            ]
        )
    if duration := report["duration"]:
        total = round(duration["total"])
        rows.append(
            [
                "duration",
                f"min {duration['min']:.2f} s, median {duration['median']:.2f} s, "
                f"max {duration['max']:.2f} s, total {total // 3600}:{total // 60 % 60:02d}:"
                f"{total % 60:02d}",
            ]
        )
    return _table(rows, left=2)


def _problem_lines(problems: dict[str, list[dict[str, Any]]]) -> list[str]:
    width = max(map(len, _KINDS))
    lines = []
    for kind, found in problems.items():
        lines.append(f"  {kind.ljust(width)}  {len(found) or 'none'}")
        lines += _bullets([_problem_text(entry) for entry in found[:_SHOWN]])
        if len(found) > _SHOWN:
            lines.append(f"    and {len(found) - _SHOWN} more (--json lists all)")
    return lines


def _problem_text(entry: dict[str, Any]) -> str:
    if "files" not in entry:
        return f"{entry['file']}: {entry['reason']}"
    text = " = ".join(entry["files"])
    if len(entry["labels"]) > 1:
        text += f", labelled {' and '.join(entry['labels'])}"
    return text + (" (known: so in the official release)" if entry["known"] else "")


def _bullets(items: Iterable[str]) -> list[str]:
    return [f"    - {item}" for item in items]
