"""Tables of trained victims (Echim et al., Table 1), as far as they are made."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxser.config.ranges import IntervalOver
from jaxser.papers.trained import TrainedTable
from jaxser.results.cells import Cells, percent

__all__ = ["trained_table"]

# (kind, victim, corpus) -> results of its runs, one for each seed.
Made = Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]


def trained_table(table: TrainedTable, made: Made, over: IntervalOver) -> Cells:
    """A line for each cell, with the paper's figures.

    Accuracy is of windows of the test part, and "average" is what the paper calls so: of windows of
    the training and the test part together. Of several seeds it is the mean, with the deviation
    over them; the interval reaches from the least to the largest bound of theirs.

    Args:
      table: of the paper.
      made: results of what has been trained.
      over: what intervals are over.
    """
    cells = [
        [
            *("image", "victim", "corpus", "seeds", "accuracy", "± seeds", "95 % interval"),
            *("paper", "average", "paper", "UAR", "accuracy of files", "UAR of files"),
        ]
    ]
    for (kind, victim, corpus), runs in made.items():
        accuracy, average = table.printed(kind, victim, corpus)
        tests = [run["test"] for run in runs]
        whole = [test.get("whole_utterances", test) for test in tests]
        values = [test["accuracy"]["value"] for test in tests]
        bounds = np.array([test["accuracy"][f"interval_{over}s"] for test in tests])
        low, high = bounds[:, 0].min(), bounds[:, 1].max()
        cells.append(
            [
                *(kind, victim, corpus, str(len(runs)), percent(float(np.mean(values)))),
                percent(float(np.std(values, ddof=1)) if len(values) > 1 else math.nan),
                f"{percent(low)} to {percent(high)}",
                percent(accuracy),
                percent(_mean(_average(run) for run in runs)),
                percent(average),
                percent(_mean(test["uar"]["value"] for test in tests)),
                percent(_mean(each["accuracy"]["value"] for each in whole)),
                percent(_mean(each["uar"]["value"] for each in whole)),
            ]
        )
    return cells


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _average(run: Mapping[str, Any]) -> float:
    """Accuracy of the training and the test part together; NaN where the former is not known."""
    if "train" not in run:
        return math.nan
    counts = np.array([np.sum(run[part]["confusion"]) for part in ("train", "test")])
    values = np.array([run[part]["accuracy"]["value"] for part in ("train", "test")])
    return float((counts * values).sum() / counts.sum())
