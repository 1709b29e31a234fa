"""95 % intervals by bootstrap: of metrics, of means over speakers, and of differences.

    low, high = bootstrap_interval(uar, y_true, y_pred, num_classes, groups=speakers)
    low, high = percentile_interval(clustered_means(fooled, speakers))

Nothing is drawn row by row. What a metric needs of a resample is how many of its rows fell into
each cell of a confusion matrix (or had each value), and counts of rows drawn with replacement are
multinomial: a thousand resamples are one draw of counts, whose cost does not grow with the rows.

Utterances of one speaker are alike, and corpora have few speakers: drawn one by one, utterances
would pass for more evidence than they are. So where the question is about speakers (another corpus,
another gender), speakers are drawn first, and then the utterances of those drawn.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.results.metrics import Metric, confusion_matrix

__all__ = [
    "Difference",
    "Estimate",
    "bootstrap_interval",
    "clustered_means",
    "difference",
    "matrix_intervals",
    "paired_difference",
    "percentile_interval",
]

_PAIR_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


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
        # How often each speaker was drawn, times its own matrix: all resamples in one product.
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
      values: per utterance; few distinct ones, such as right and wrong: memory is draws × speakers
        × distinct values.
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
    # Utterances of a speaker drawn with replacement are its values drawn multinomially; of one who
    # was drawn k times, k × size at once, as sums of multinomials of equal shares are multinomial.
    picked = rng.multinomial(drawn, (counts / sizes[:, None])[None])
    return np.asarray((picked @ kinds).sum(1) / drawn.sum(1))


def percentile_interval(draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """(low, high) of the middle 95 % of bootstrap draws (Efron, 1979)."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    first: Bool[np.ndarray, " pairs"], second: Bool[np.ndarray, " pairs"], seed: int = 0
) -> tuple[float, float, float]:
    """Share of True in ``second`` less that in ``first``, and its 95 % bootstrap interval.

    Pairs are drawn whole: what is hard for both sides then cancels, which makes the interval
    narrower than one of two independent shares.
    """
    change = second.astype(int) - first.astype(int)
    counts = np.array([(change == value).sum() for value in (-1, 0, 1)])
    rng = np.random.default_rng(seed)
    # Pairs drawn with replacement fall into the three kinds multinomially.
    drawn = rng.multinomial(len(change), counts / len(change), size=_PAIR_RESAMPLES)
    means = (drawn[:, 2] - drawn[:, 0]) / len(change)
    return float(change.mean()), *percentile_interval(means)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two means, with its 95 % interval; ``speakers`` are those of both sides."""

    value: float
    low: float
    high: float
    speakers: tuple[int, int]

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def difference(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> Difference | None:
    """Mean of the first values minus that of the second; each (values, speakers). None if empty."""
    if not len(first[0]) or not len(second[0]):
        return None
    # A seed for each side: with one seed for both, sides of the same shape would be drawn alike,
    # and the difference of draws that move together is too narrow.
    means = [clustered_means(*side, seed=seed) for seed, side in enumerate((first, second))]
    low, high = percentile_interval(means[0] - means[1])
    speakers = (len(set(first[1])), len(set(second[1])))
    return Difference(float(first[0].mean() - second[0].mean()), low, high, speakers)
