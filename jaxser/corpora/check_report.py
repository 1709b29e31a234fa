"""What a check of a corpus found, as text for a terminal.

print(report_text(check("ravdess", Path("path/to/ravdess"))))
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["report_text"]

# Entries that are listed of each kind of problem.
_SHOWN = 20


def report_text(report: dict[str, Any]) -> str:
    """The report of :func:`check` as text for a terminal."""
    speakers = report["speakers"]
    genders = Counter(speaker["gender"] for speaker in speakers.values())
    who = ", ".join(f"{n} {gender}" for gender, n in sorted(genders.items()))
    by = [f"by {_number(len(speakers), 'speaker')} ({who})"] if speakers else []
    if missing := report["without_speaker"]:
        by.append(f"{missing:,} of them without a speaker" if speakers else "without a speaker")
    lines = [
        f"{report['title']} ({report['language']}) at {report['root']}",
        *(f"note: {note}" for note in report["notes"]),
        "",
        f"{_number(report['utterances'], 'utterance')} {' and '.join(by)}",
        "",
        *_class_lines(report),
        "",
        *([*_speaker_lines(report), ""] if speakers else []),
        *_format_lines(report),
        "",
        *_problem_lines(report["problems"]),
        "",
    ]
    if report["inconsistencies"]:
        lines += ["the table contradicts itself", *_bullets(report["inconsistencies"]), ""]
    if report["departures"]:
        lines += ["departures from the official corpus", *_bullets(report["departures"]), ""]
    return "\n".join([*lines, _verdict(report)])


def _verdict(report: dict[str, Any]) -> str:
    found = [
        f"{number} {kind}" for kind, number in _fault_counts(report["problems"]).items() if number
    ]
    if inconsistencies := len(report["inconsistencies"]):
        found.append(f"{_number(inconsistencies, 'fault')} of the table")
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
    width = max(map(len, problems))
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
