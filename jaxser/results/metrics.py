"""Accuracy, UAR and macro F1 with bootstrap intervals, all from a confusion matrix.

    matrix = confusion_matrix(y_true, y_pred, num_classes)
    uar(matrix), bootstrap_interval(uar, y_true, y_pred, num_classes, groups=speakers)

Everything is host-side NumPy: there are at most thousands of rows. Matrices may carry leading
axes, so that a bootstrap is one call.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "clustered_means",
    "confusion_matrix",
    "macro_f1",
    "matrix_intervals",
    "recalls",
    "uar",
]

Matrix = Float[np.ndarray, "... classes classes"] | Int[np.ndarray, "... classes classes"]
Metric = Callable[[Matrix], Float[np.ndarray, "..."]]


def confusion_matrix(
    y_true: Int[np.ndarray, " rows"], y_pred: Int[np.ndarray, " rows"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts with the true class along rows and the predicted class along columns."""
    cells = np.asarray(y_true, np.int64) * num_classes + np.asarray(y_pred, np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Share of rows on the diagonal (weighted average recall); NaN without rows."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def recalls(matrix: Matrix) -> Float[np.ndarray, "... classes"]:
    """Recall per class; NaN for a class without rows."""
    return _ratio(_diagonal(matrix), matrix.sum(-1))


def uar(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Unweighted average recall, over the classes that have rows; NaN without rows."""
    return _mean_over(recalls(matrix), matrix.sum(-1) > 0)


def macro_f1(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Mean F1 over the classes that occur as truth or as prediction; NaN without rows."""
    support = matrix.sum(-1) + matrix.sum(-2)
    return _mean_over(_ratio(2 * _diagonal(matrix), support), support > 0)


def bootstrap_interval(
    metric: Metric,
    y_true: Int[np.ndarray, " rows"],
    y_pred: Int[np.ndarray, " rows"],
    num_classes: int,
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric (Efron, 1979).

    Args:
      metric: function of a confusion matrix with leading axes, such as :func:`uar`.
      y_true: class indices.
      y_pred: class indices.
      num_classes: of the corpus.
      groups: one speaker per row: whole speakers are drawn with replacement. Without it,
        utterances are.
      level: coverage.
      num_resamples: bootstrap draws.
      seed: of the draws.

    Returns:
      (low, high); (nan, nan) without rows. Draws in which the metric is undefined are left out.
    """
    y_true, y_pred = np.asarray(y_true, np.int64), np.asarray(y_pred, np.int64)
    if y_true.size == 0:
        return (float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    if groups is None:
        cells = confusion_matrix(y_true, y_pred, num_classes).ravel()
        drawn = _redrawn(cells, num_resamples, rng)
    else:
        names, index = np.unique(np.asarray(groups), return_inverse=True)
        per_group = np.zeros((len(names), num_classes**2), np.int64)
        np.add.at(per_group, (index, y_true * num_classes + y_pred), 1)
        share = np.full(len(names), 1 / len(names))
        drawn = rng.multinomial(len(names), share, size=num_resamples) @ per_group
    (found,) = _percentiles([metric], drawn.reshape(-1, num_classes, num_classes), level)
    return found


def matrix_intervals(
    metrics: Sequence[Metric],
    matrix: Int[np.ndarray, "classes classes"],
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """:func:`bootstrap_interval` over utterances of several metrics, from the same draws.

    Args:
      metrics: functions of a confusion matrix with leading axes.
      matrix: counts of at least one row.
      level: coverage.
      num_resamples: bootstrap draws.
      seed: of the draws.

    Returns:
      (low, high) of each.
    """
    drawn = _redrawn(matrix.ravel(), num_resamples, np.random.default_rng(seed))
    return _percentiles(metrics, drawn.reshape(-1, *matrix.shape), level)


def _percentiles(
    metrics: Sequence[Metric], drawn: Int[np.ndarray, "draws classes classes"], level: float
) -> list[tuple[float, float]]:
    """(low, high) of each metric over the draws; those in which it is undefined are left out."""
    tail = 50 * (1 - level)
    values = np.stack([metric(drawn) for metric in metrics])
    low, high = np.nanpercentile(values, [tail, 100 - tail], axis=1)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _redrawn(
    cells: Int[np.ndarray, " cells"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "draws cells"]:
    """Utterances drawn with replacement land in the cells of a matrix multinomially."""
    return rng.multinomial(cells.sum(), cells / cells.sum(), size=count)


def clustered_means(
    values: Float[np.ndarray, " rows"] | Bool[np.ndarray, " rows"],
    clusters: Sequence[str] | np.ndarray,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, " draws"]:
    """Means of a two-stage bootstrap: speakers are drawn, and of those drawn their utterances.

    Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8. With the
    second stage two speakers give an interval too, though one that few draws stand behind.

    Args:
      values: per utterance; few distinct ones, such as right and wrong.
      clusters: speaker of each utterance.
      num_resamples: bootstrap draws.
      seed: of the draws.

    Returns:
      The mean of every draw.
    """
    rng = np.random.default_rng(seed)
    names, speaker = np.unique(np.asarray(clusters), return_inverse=True)
    kinds, kind = np.unique(np.asarray(values, float), return_inverse=True)
    counts = np.zeros((len(names), len(kinds)), np.int64)
    np.add.at(counts, (speaker, kind), 1)
    sizes = counts.sum(1)
    share = np.full(len(names), 1 / len(names))
    drawn = rng.multinomial(len(names), share, size=num_resamples) * sizes
    # Utterances of a speaker drawn with replacement are its values drawn multinomially.
    picked = rng.multinomial(drawn, (counts / sizes[:, None])[None])
    return np.asarray((picked @ kinds).sum(1) / drawn.sum(1))


def _diagonal(matrix: Matrix) -> Float[np.ndarray, "... classes"]:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean_over(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean of the ``present`` values along the last axis."""
    return _ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))
