"""Tables, statements and pictures of evaluated victims, as text and as a folder.

print(format_evaluation(evaluation))
write_report(Path("report"), evaluations)        # report.md, settings.csv, *.png
"""

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.papers.table import Published
from jaxser.reporting.evaluated import (
    GROUPS,
    METRICS,
    Difference,
    Evaluation,
    Line,
    Outcomes,
    accuracy_at_snr,
    difference,
)
from jaxser.reporting.figures import bars_figure, save_figure, spectrograms_figure
from jaxser.runtime.errors import InputError
from jaxser.runtime.files import write_text

__all__ = ["format_evaluation", "write_report"]

Cells = list[list[str]]


def format_evaluation(evaluation: Evaluation) -> str:
    """Aligned text: the strongest setting of each attack, with the paper's figures."""
    parts = [f"{evaluation.table.title}: {evaluation.victim}, {evaluation.corpus.title}"]
    parts += [f"note: {note}" for note in _notes(evaluation)]
    parts.append(_aligned(_strongest(evaluation)))
    if evaluation.table.snr:
        parts.append("\naccuracy at a power SNR of so many dB or more, best setting per utterance:")
        parts.append(_aligned(_at_snr(evaluation)))
    return "\n".join(parts)


def _notes(evaluation: Evaluation) -> list[str]:
    notes = evaluation.speech.notes
    if not set(evaluation.clean.genders) & set(GROUPS):
        notes.append(
            f"{evaluation.corpus.name} does not say its speakers' gender, so there are no figures "
            "by gender"
        )
    return notes


def _strongest(evaluation: Evaluation) -> Cells:
    table = evaluation.table
    published = table.published.get(evaluation.corpus.name, {})
    head = ["attack", "setting", "rows", "accuracy (95 %)", "female", "male", "paper"]
    head += ["mean |Δ|", "female", "male", "paper", "seconds", "compile", "paper"]
    by_group = {group: evaluation.clean.figures(group)["accuracy"] for group in GROUPS}
    cells = [head]
    cells.append(
        [
            *("original", "", str(len(evaluation.clean.truth))),
            *(_figure(by_group[group]) for group in GROUPS),
            _published(published.get("original"), "accuracy"),
            *[""] * 7,
        ]
    )
    for line in evaluation.best:
        low, high = line.interval
        figures = published.get(line.attack)
        spent = table.published_seconds.get(line.attack)
        cells.append(
            [
                line.attack,
                line.setting,
                str(len(line.outcomes.utterances)),
                f"{line.accuracy():.3f} ({low:.3f}–{high:.3f})",
                *(_figure(line.accuracy(group)) for group in GROUPS[1:]),
                _published(figures, "accuracy"),
                *(_figure(line.mean_abs(group), ".3g") for group in GROUPS),
                _published(figures, "mean_abs"),
                f"{line.seconds:.1f}",
                f"{line.compile_seconds:.1f}",
                "" if spent is None else f"{spent[0]:,.0f}–{spent[1]:,.0f}",
            ]
        )
    return cells


def _at_snr(evaluation: Evaluation) -> Cells:
    levels = evaluation.table.snr
    cells = [["attack", "rows", *(f"{level:g} dB" for level in levels)]]
    for attack, lines in _by_attack(evaluation.lines).items():
        left = [_figure(accuracy_at_snr(lines, level)) for level in levels]
        cells.append([attack, str(len(lines[0].outcomes.utterances)), *left])
    return cells


def _by_attack(lines: Iterable[Line]) -> dict[str, list[Line]]:
    attacks: dict[str, list[Line]] = {}
    for line in lines:
        attacks.setdefault(line.attack, []).append(line)
    return attacks


def write_report(folder: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write ``report.md``, ``settings.csv`` with every setting, and pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "settings.csv", _settings_csv(evaluations))
    parts = ["# Evaluation", *_victims(evaluations)]
    for table, group in _grouped(evaluations, lambda each: each.table.title).items():
        parts.append(f"## {table}")
        for evaluation in group:
            parts.append(f"### {evaluation.title}")
            parts += [f"- {note}" for note in _notes(evaluation)]
            parts.append(_markdown(_strongest(evaluation)))
            if evaluation.table.snr:
                parts.append(
                    "Accuracy at a power SNR of so many dB or more, with the best setting for each "
                    "utterance:"
                )
                parts.append(_markdown(_at_snr(evaluation)))
        parts += _pictures(folder, group)
        parts += _genders(group)
        parts += _languages(group)
    parts += _leak(evaluations)
    parts += _domains(evaluations)
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")


def _grouped(
    evaluations: Iterable[Evaluation], key: Callable[[Evaluation], Any]
) -> dict[Any, list[Evaluation]]:
    groups: dict[Any, list[Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(key(evaluation), []).append(evaluation)
    return groups


def _one_each(
    evaluations: Iterable[Evaluation], key: Callable[[Evaluation], Any]
) -> dict[Any, Evaluation]:
    return {name: group[0] for name, group in _grouped(evaluations, key).items()}


def _victims(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Every victim before any attack; of several seeds also mean and standard deviation."""
    yield "## Victims"
    victims = _one_each(evaluations, lambda each: each.victim).values()
    names = [(metric, group) for metric in METRICS for group in GROUPS]
    cells = [
        ["run", "corpus", "protocol", "utterances", "speakers"]
        + [metric if group == "all" else f"{metric}, {group}" for metric, group in names]
    ]

    def kind(each: Evaluation) -> tuple[str, str, str]:
        return each.corpus.name, each.protocol, each.trained.model.name

    for (corpus, protocol, _), group in _grouped(victims, kind).items():
        figures = []
        for each in group:
            by_group = {name: each.clean.figures(name) for name in GROUPS}
            figures.append([by_group[name][metric] for metric, name in names])
            counts = [str(len(each.clean.truth)), str(len(set(each.clean.speakers)))]
            cells.append([str(each.victim), corpus, protocol, *counts, *map(_figure, figures[-1])])
        if len(group) > 1:
            mean, deviation = np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1)
            both = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
            cells.append([f"mean of {len(group)}", corpus, protocol, "", "", *both])
    yield _markdown(cells)


def _genders(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Whether female and male speech suffer differently."""
    cells = [["victim", "attack", "female − male", "95 %", "speakers", ""]]
    for evaluation in evaluations:
        for line in evaluation.best:
            sides = [line.outcomes.only(group) for group in GROUPS[1:]]
            cells += _compared([evaluation.title, line.attack], *sides)
    if len(cells) > 1:
        yield "#### Accuracy lost: female less male"
        yield _ABOUT_INTERVALS
        yield _markdown(cells)


def _languages(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Whether corpora of different languages suffer differently, protocol by protocol."""
    cells = [["corpora", "attack", "first − second", "95 %", "speakers", ""]]
    for protocol, group in _grouped(evaluations, lambda each: each.protocol).items():
        victims = _one_each(group, lambda each: each.corpus.name).values()
        for first, second in itertools.combinations(victims, 2):
            names = f"{first.corpus.name} − {second.corpus.name} ({protocol})"
            theirs = {line.attack: line for line in second.best}
            for line in first.best:
                if line.attack in theirs:
                    sides = line.outcomes, theirs[line.attack].outcomes
                    cells += _compared([names, line.attack], *sides)
    if len(cells) > 1:
        yield "#### Accuracy lost: corpus less corpus"
        yield _ABOUT_INTERVALS
        yield _markdown(cells)


_ABOUT_INTERVALS = (
    "Of the same utterances before and after the strongest setting; 2,000 draws of speakers and of "
    "their utterances. With few speakers on a side an interval is too narrow."
)


def _compared(head: list[str], first: Outcomes, second: Outcomes) -> Cells:
    found = difference((first.damage, first.speakers), (second.damage, second.speakers))
    return [] if found is None else [[*head, *_difference(found)]]


def _difference(found: Difference) -> list[str]:
    return [
        f"{found.value:+.3f}",
        f"{found.low:+.3f} to {found.high:+.3f}",
        f"{found.speakers[0]}, {found.speakers[1]}",
        "differ" if found.decided else "no difference shown",
    ]


def _leak(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What a protocol that leaks is worth: accuracy before any attack."""
    cells = [["corpus", "paper", "clean", "paper − clean", "95 %", "speakers", ""]]
    for corpus, group in _grouped(evaluations, lambda each: each.corpus.name).items():
        protocols = _one_each(group, lambda each: each.protocol)
        if set(protocols) == {"paper", "clean"}:
            sides = [protocols[name].clean for name in ("paper", "clean")]
            found = difference(*((side.right.astype(float), side.speakers) for side in sides))
            assert found is not None
            values = [_figure(side.figures()["accuracy"]) for side in sides]
            cells.append([corpus, *values, *_difference(found)])
    if len(cells) > 1:
        yield "## What the leak is worth"
        yield "Accuracy before any attack, by the paper's protocol and by a clean one."
        yield _markdown(cells)


def _domains(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Which attacks on features survive when they must be audio."""
    for group in _grouped(evaluations, lambda each: each.victim).values():
        domains = _one_each(group, lambda each: each.table.domain)
        if set(domains) != {"features", "waveform"} or not domains["waveform"].table.snr:
            continue
        features, waveform = domains["features"], domains["waveform"]
        levels = waveform.table.snr
        heads = [f"waveform, {level:g} dB" for level in levels]
        cells = [["attack", "before", "features", *heads]]
        theirs = _by_attack(waveform.lines)
        for line in features.best:
            lines = theirs.get(line.attack)
            if lines is not None:
                left = [_figure(accuracy_at_snr(lines, level)) for level in levels]
                before = _figure(float(line.outcomes.before.mean()))
                cells.append([line.attack, before, _figure(line.accuracy()), *left])
        if len(cells) > 1:
            yield f"## Features against waveform: {features.title}"
            yield (
                "Accuracy left where the attack changes the standardised spectrogram, and where it "
                "has to be speech of a power SNR of so many dB or more."
            )
            yield _markdown(cells)


def _pictures(folder: Path, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Bars over all victims of a table, and spectrograms of one utterance of each."""
    table = evaluations[0].table
    stem = _file_name(table.title)
    names = [
        name for name in table.titles if any(name == line.attack for line in evaluations[0].best)
    ]
    bars = {
        "accuracy": ("accuracy after the attack", False, "accuracy"),
        "change": ("mean absolute change", True, "mean_abs"),
    }
    for kind, (axis, log, figure_of) in bars.items():
        by_victim = {each.title: _heights(each, names, figure_of, "all") for each in evaluations}
        paper = {each.title: _paper_heights(each, names, figure_of, 0) for each in evaluations}
        yield _save_bars(
            folder / f"{stem}_{kind}.png", table.title, axis, names, by_victim, paper, log
        )
        for each in evaluations:
            by_gender = {group: _heights(each, names, figure_of, group) for group in GROUPS[1:]}
            paper = {
                group: _paper_heights(each, names, figure_of, index)
                for index, group in enumerate(GROUPS[1:], 1)
            }
            path = folder / f"{stem}_{kind}_{_file_name(each.title)}.png"
            yield _save_bars(path, each.title, axis, names, by_gender, paper, log)
    seconds = {each.title: _heights(each, names, "seconds", "all") for each in evaluations}
    path = folder / f"{stem}_seconds.png"
    yield _save_bars(path, table.title, "seconds per utterance", names, seconds, {}, True)
    for each in evaluations:
        drawn = _draw_example(folder / f"{stem}_spectrograms_{_file_name(each.title)}.png", each)
        if drawn is not None:
            yield drawn


def _heights(
    evaluation: Evaluation, names: Sequence[str], figure_of: str, group: str
) -> list[float]:
    best = {line.attack: line for line in evaluation.best}

    def height(line: Line) -> float:
        if figure_of == "seconds":
            return line.seconds / len(line.outcomes.utterances)
        return line.accuracy(group) if figure_of == "accuracy" else line.mean_abs(group)

    return [height(best[name]) if name in best else math.nan for name in names]


def _paper_heights(
    evaluation: Evaluation, names: Sequence[str], figure_of: str, index: int
) -> list[float]:
    published = evaluation.table.published.get(evaluation.corpus.name, {})
    values = [getattr(published.get(name, Published()), figure_of) for name in names]
    return [each[index] if len(each) > index else math.nan for each in values]


def _save_bars(
    path: Path,
    title: str,
    axis: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]],
    log: bool,
) -> str:
    known = {name: values for name, values in published.items() if not np.isnan(values).all()}
    save_figure(bars_figure(title, axis, names, series, known, log), path)
    return f"![{axis}: {title}]({path.name})"


def _draw_example(path: Path, evaluation: Evaluation) -> str | None:
    """Spectrograms of the utterance whose attacked versions were kept."""
    speech, best = evaluation.speech, evaluation.best
    victim = speech.victim
    front_end = victim.front_end
    if front_end is None or not best:
        return None
    # Attacks with a limit of their own may have kept another utterance.
    utterance = best[0].example[0]
    kept = {line.attack: line.example[1] for line in best if line.example[0] == utterance}
    place = speech.places[speech.utterances.index(utterance)]
    inputs = np.stack([speech.inputs[place], *(_read_example(file) for file in kept.values())])
    if evaluation.table.domain == "waveform":
        inputs = np.asarray(front_end.features(victim.variables, inputs))
    original, *attacked = np.asarray(front_end.spectrogram(victim.variables, inputs))
    figure = spectrograms_figure(
        f"{utterance.id} ({utterance.label}), {evaluation.title}",
        original,
        dict(zip(kept, attacked, strict=True)),
        evaluation.trained.corpus.seconds,
    )
    save_figure(figure, path)
    return f"![spectrograms of {utterance.id}]({path.name})"


def _read_example(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it, and the same command makes it again."
        ) from error


def _settings_csv(evaluations: Iterable[Evaluation]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{figure}_{group}" for figure in ("accuracy", "mean_abs") for group in GROUPS]
    head = ["table", "victim", "corpus", "protocol", "domain", "attack", "setting", "rows"]
    writer.writerow([*head, *names, "seconds", "compile_seconds"])
    for each in evaluations:
        for line in each.lines:
            figures = [line.accuracy(group) for group in GROUPS]
            figures += [line.mean_abs(group) for group in GROUPS]
            facts = [each.table.title, each.victim, each.corpus.name, each.protocol]
            facts += [each.table.domain, line.attack, line.setting, len(line.outcomes.utterances)]
            row = ["" if math.isnan(value) else value for value in figures]
            writer.writerow([*facts, *row, line.seconds, line.compile_seconds])
    return text.getvalue()


def _aligned(cells: Cells) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _markdown(cells: Cells) -> str:
    rule = ["---"] * len(cells[0])
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in [cells[0], rule, *cells[1:]]
    )


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def _figure(value: float, spec: str = ".3f") -> str:
    return "" if math.isnan(value) else format(value, spec)


def _published(figures: Published | None, name: str) -> str:
    values = getattr(figures, name) if figures is not None else ()
    return "/".join(f"{value:.3g}" for value in values)
