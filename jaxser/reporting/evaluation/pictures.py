"""Pictures of evaluated victims: bars of all attacks, and spectrograms of a female and a male
utterance (Facchinetti et al., figures 4 to 14)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxser.corpora import Utterance
from jaxser.papers.table import Published, Table
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation, Line, same_utterances
from jaxser.reporting.figures.bars import bars_figure
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.spectrograms import spectrograms_figure
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import file_stem

__all__ = ["pictures"]


def pictures(folder: Path, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Bars over all victims of a table, and spectrograms of an utterance of each gender of each."""
    for number, alike in enumerate(_of_same_utterances(evaluations), 1):
        yield from _bars(folder, evaluations, alike, f"_{number}" if number > 1 else "")
    stem = file_stem(evaluations[0].table.title)
    for each in evaluations:
        yield from _draw_examples(folder, f"{stem}_spectrograms_{file_stem(each.title)}", each)


def _of_same_utterances(evaluations: Sequence[Evaluation]) -> list[list[Mapping[str, Line]]]:
    """Pictures: for each of them, the attacks of every victim that were run on one set of rows.

    Attacks that were limited to fewer utterances must not stand beside the others.
    """
    groups = [same_utterances(each.best) for each in evaluations]
    return [
        [{line.attack: line for line in (its[place] if place < len(its) else ())} for its in groups]
        for place in range(max(map(len, groups)))
    ]


def _bars(
    folder: Path, evaluations: Sequence[Evaluation], lines: Sequence[Mapping[str, Line]], end: str
) -> Iterator[str]:
    """Bars of some attacks: over all victims, and by gender for each."""
    table = evaluations[0].table
    stem = file_stem(table.title)
    names = [name for name in table.titles if any(name in its for its in lines)]
    every = list(zip(evaluations, lines, strict=True))
    titles = {id(each): f"{each.title}{_told(each, its)}" for each, its in every}
    bars = {
        "accuracy": ("accuracy after the attack", False, "accuracy"),
        "change": ("mean absolute change", True, "mean_abs"),
    }
    for kind, (axis, log, figure_of) in bars.items():
        by_victim = {
            titles[id(each)]: _heights(its, names, figure_of, "all") for each, its in every
        }
        paper = {
            titles[id(each)]: _paper_heights(each, names, figure_of, 0) for each in evaluations
        }
        path = folder / f"{stem}_{kind}{end}.png"
        yield _save_bars(path, table.title, axis, names, by_victim, paper, log)
        for each, its in every:
            if not its:
                continue
            by_gender = {group: _heights(its, names, figure_of, group) for group in GROUPS[1:]}
            paper = {
                group: _paper_heights(each, names, figure_of, index)
                for index, group in enumerate(GROUPS[1:], 1)
            }
            path = folder / f"{stem}_{kind}_{file_stem(each.title)}{end}.png"
            yield _save_bars(path, titles[id(each)], axis, names, by_gender, paper, log)
    seconds = {titles[id(each)]: _heights(its, names, "seconds", "all") for each, its in every}
    path = folder / f"{stem}_seconds{end}.png"
    yield _save_bars(path, table.title, "seconds per utterance", names, seconds, {}, True)
    if table.published_seconds:
        whole = {
            titles[id(each)]: [s * len(each.speech.positions) for s in seconds[titles[id(each)]]]
            for each, _ in every
        }
        path = folder / f"{stem}_test_set_seconds{end}.png"
        axis = "seconds for all utterances of the part"
        yield _save_bars(
            path, table.title, axis, names, whole | _paper_seconds(table, names), {}, True
        )


def _paper_seconds(table: Table, names: Sequence[str]) -> dict[str, list[float]]:
    """Bars of what a paper needed for its test sets: the fastest and the slowest of them."""
    nothing = (math.nan, math.nan)
    spans = [table.published_seconds.get(name, nothing) for name in names]
    on = f" ({table.hardware})" if table.hardware else ""
    return {
        f"paper, {which} test set{on}": [span[place] for span in spans]
        for place, which in enumerate(("fastest", "slowest"))
    }


def _told(evaluation: Evaluation, lines: Mapping[str, Line]) -> str:
    """How many rows the bars are of, where a victim has bars of several sets of them."""
    if not lines or len(same_utterances(evaluation.best)) == 1:
        return ""
    return f", {len(next(iter(lines.values())).outcomes.utterances)} rows"


def _heights(
    lines: Mapping[str, Line], names: Sequence[str], figure_of: str, group: str
) -> list[float]:
    def height(line: Line) -> float:
        if figure_of == "seconds":
            return line.seconds / len(line.outcomes.utterances)
        return line.accuracy(group) if figure_of == "accuracy" else line.mean_abs(group)

    return [height(lines[name]) if name in lines else math.nan for name in names]


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


def _draw_examples(folder: Path, stem: str, evaluation: Evaluation) -> Iterator[str]:
    """Spectrograms of the utterances whose attacked versions were kept."""
    if evaluation.speech.victim.front_end is None or not evaluation.best:
        return
    # Attacks with a limit of their own may have kept other utterances.
    for utterance, _ in evaluation.best[0].examples:
        files = {
            line.attack: path
            for line in evaluation.best
            for each, path in line.examples
            if each == utterance
        }
        name = f"{stem}_{utterance.gender}.png" if utterance.gender != "unknown" else f"{stem}.png"
        save_figure(_spectrograms(evaluation, utterance, files), folder / name)
        yield f"![spectrograms of {utterance.id}]({name})"


def _spectrograms(
    evaluation: Evaluation, utterance: Utterance, files: Mapping[str, Path]
) -> Figure:
    """Before and after each attack: standardised where an attack changes that, else in dB."""
    speech, victim = evaluation.speech, evaluation.speech.victim
    front_end = victim.front_end
    assert front_end is not None
    place = speech.places[speech.utterances.index(utterance)]
    inputs = np.stack([speech.inputs[place], *(_read_example(file) for file in files.values())])
    if evaluation.table.domain == "features":
        unit, values = "standardised", inputs
    else:
        if evaluation.table.domain == "waveform":
            inputs = np.asarray(front_end.features(victim.variables, inputs))
        unit, values = "dB", np.asarray(front_end.spectrogram(victim.variables, inputs))
    original, *attacked = values
    return spectrograms_figure(
        f"{utterance.id} ({utterance.label}, {utterance.gender}), {evaluation.title}",
        original,
        dict(zip(files, attacked, strict=True)),
        evaluation.trained.corpus.seconds,
        unit,
    )


def _read_example(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it, and the same command makes it again."
        ) from error
