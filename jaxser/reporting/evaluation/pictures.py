"""Pictures of evaluated victims: bars of all attacks, and spectrograms of one utterance."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxser.papers.table import Published
from jaxser.reporting.evaluation.outcomes import GROUPS, Evaluation, Line
from jaxser.reporting.figures.bars import bars_figure
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.spectrograms import spectrograms_figure
from jaxser.runtime.errors import InputError

__all__ = ["pictures"]


def pictures(folder: Path, evaluations: Sequence[Evaluation]) -> Iterator[str]:
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


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
