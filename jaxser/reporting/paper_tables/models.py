"""Tables of models beside each other (Facchinetti et al., Tables 1 and 2; Chang et al., 2 and 3),
as far as they are made."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxser.config.ranges import IntervalOver
from jaxser.papers.models import AVERAGE, Figure, ModelTable, Printed
from jaxser.results.cells import Cells, percent

__all__ = ["best_models", "model_cells"]

# (model, corpus) -> results of its runs, one for each seed.
Made = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]

_NAMES: Mapping[Figure, str] = {"accuracy": "accuracy", "uar": "UAR"}


def model_cells(table: ModelTable, made: Made, over: IntervalOver) -> Cells:
    """A line for each model, corpus and part: what was reached, and what the paper printed.

    Of several seeds it is the mean, with the deviation over them (of a sample, n − 1); the interval
    reaches from the least to the largest bound of theirs. What the paper quotes from others follows
    below.

    Args:
      table: of the paper.
      made: results of what has been trained.
      over: what intervals are over.
    """
    header = ["model", "corpus", "part", "seeds", "utterances"]
    for figure, name in _NAMES.items():
        header += [name, "± seeds", "95 % interval", *_paper_names(table, figure)]
    cells = [header]
    for model in dict.fromkeys(model for model, _ in made):
        corpora = [corpus for name, corpus in made if name == model]
        for corpus in corpora:
            for part in table.parts:
                runs = [run[part] for run in made[model, corpus]]
                count = f"{runs[0]['utterances']:,}"
                line = [model, corpus, part, str(len(runs)), count]
                for figure in _NAMES:
                    line += _measured([run[figure] for run in runs], over)
                    line += _of_paper(table, model, corpus, part, figure)
                cells.append(line)
        if len(corpora) == len(table.corpora) > 1:
            cells += [_average(table, made, model, part) for part in table.parts]
    for model in table.others:
        for corpus in table.corpora:
            for part in table.parts:
                line = [model, corpus, part, "–", "–"]
                for figure in _NAMES:
                    line += ["–", "–", "–", *_of_paper(table, model, corpus, part, figure)]
                cells.append(line)
    return cells


def best_models(table: ModelTable, made: Made) -> list[str]:
    """Which model has the highest accuracy on average over the corpora, here and in the paper.

    On the test part, as the papers choose by it; where all corpora have been made.
    """
    if len(table.corpora) < 2:
        return []
    means = {
        model: _mean_of(made, model, table.corpora, "test", "accuracy")
        for model in table.models
        if all((model, corpus) in made for corpus in table.corpora)
    }
    if len(means) < 2:
        return []
    papers = {name: table.printed(name, AVERAGE, "test")["accuracy"].value for name in means}
    best, theirs = max(means, key=means.__getitem__), max(papers, key=papers.__getitem__)
    return [
        f"highest accuracy on average over the corpora: {best}, {percent(means[best])}; in the "
        f"paper: {theirs}, {percent(papers[theirs])}"
    ]


def _measured(figures: Sequence[Mapping[str, Any]], over: IntervalOver) -> list[str]:
    values = [figure["value"] for figure in figures]
    bounds = np.array([figure[f"interval_{over}s"] for figure in figures])
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    low, high = bounds[:, 0].min(), bounds[:, 1].max()
    return [
        percent(float(np.mean(values))),
        percent(deviation),
        f"{percent(low)} to {percent(high)}",
    ]


def _paper_names(table: ModelTable, figure: Figure) -> list[str]:
    """Headings of what the paper has of a figure: nothing, it, or it and its deviation."""
    if figure not in table.figures:
        return []
    return ["paper", "± paper"] if len(table.seeds) > 1 else ["paper"]


def _of_paper(table: ModelTable, model: str, corpus: str, part: str, figure: Figure) -> list[str]:
    names = _paper_names(table, figure)
    printed = table.printed(model, corpus, part).get(figure, Printed())
    return [percent(printed.value), percent(printed.deviation)][: len(names)]


def _average(table: ModelTable, made: Made, model: str, part: str) -> list[str]:
    line = [model, AVERAGE, part, "–", "–"]
    for figure in _NAMES:
        mean = _mean_of(made, model, table.corpora, part, figure)
        line += [percent(mean), "–", "–", *_of_paper(table, model, AVERAGE, part, figure)]
    return line


def _mean_of(made: Made, model: str, corpora: Sequence[str], part: str, figure: Figure) -> float:
    """Over the corpora, of the means over their seeds."""
    means = [np.mean([run[part][figure]["value"] for run in made[model, c]]) for c in corpora]
    return float(np.mean(means))
