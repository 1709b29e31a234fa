"""95 % intervals, by one policy for all commands: of shares, of metrics and of differences.

    units = Units.of(utterances, speakers, over="utterance")     # of results.units
    share(right, units)                                          # Estimate(value, low, high)
    estimates(METRICS, y_true, y_pred, classes, units)["UAR"]
    policy("utterance")                                          # what stands under a table

What is drawn is the utterance, or its speaker, however many rows it has: rows of one utterance at
several seeds, ε or attacks are one piece of evidence. An utterance counts as one, as the mean of
its rows, so that those with more rows do not weigh more. Seeds are a spread of their own
(:mod:`jaxser.results.robustness`). Where utterances were cut into chunks, each chunk counts as one,
and an utterance is drawn with all of its chunks, which are as much alike as the seeds are.

- Shares of independent utterances, each of which counts in full or not at all, have Wilson's
  interval (Wilson, 1927; SciPy's ``binomtest``). Accuracy is one of them, and so are the share that
  was fooled and the success on what was right before. Utterances of as many chunks each, of which
  all count or none does, are no other.
- All else is a cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their Application,
  1997, section 3.8): UAR, macro F1, differences, shares of which some utterance counts in part
  (right under some seeds, or in some chunks), and everything over speakers, who are drawn with all
  their utterances.
  Utterances of one speaker are alike, and corpora have few speakers: for questions about other
  speakers, utterances drawn one by one would pass for more evidence than they are.
- Where all units are alike, every resample is too, and its interval would have no width. A kind of
  unit that none of n is of may still be z²/(n + z²) of all, Wilson's bound of 0 of n, and the
  interval goes that far to both sides.

Nothing is drawn unit by unit: units are of few kinds, and how many of each kind a resample has is
multinomial.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import ndtri

from jaxser.results.estimate import Estimate
from jaxser.results.metrics import Metric, accuracy, ratio
from jaxser.results.units import Over, Units

__all__ = [
    "Difference",
    "difference",
    "estimates",
    "mean",
    "paired_difference",
    "policy",
    "share",
    "taken",
    "wilson",
]

_RESAMPLES = 1000
_LEVEL = 0.95
_Z = float(ndtri((1 + _LEVEL) / 2))

# Draws are made in parts: of 100,000 kinds at once they would take gigabytes.
_NUMBERS_AT_ONCE = 4_000_000


_UNDEFINED = Estimate(math.nan, math.nan, math.nan)


def policy(over: Over) -> str:
    """What a reader of intervals has to know, as a sentence under a table."""
    if over == "speaker":
        return (
            "95 % intervals over speakers: bootstrap, speakers drawn with all their utterances and "
            "rows"
        )
    return (
        "95 % intervals over utterances, however many rows or chunks each has: Wilson's for shares "
        "of utterances, bootstrap for UAR, macro F1, differences, and what differs within an "
        "utterance (by seed or chunk)"
    )


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson, 1927), as SciPy's ``binomtest`` gives it.

    Args:
      successes: of the trials.
      trials: independent ones; (nan, nan) without any.

    Examples:
      Of 10 utterances all are right: the share may well be 72 %.

      >>> from jaxser.results.intervals import wilson
      >>> [round(end, 2) for end in wilson(10.0, 10.0)]
      [0.72, 1.0]
    """
    if trials <= 0:
        return math.nan, math.nan
    p, z2 = successes / trials, _Z**2
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    # Exact at the ends, where rounding leaves something.
    return (
        0.0 if successes == 0 else middle - half,
        1.0 if successes == trials else middle + half,
    )


def share(
    values: Shaped[np.ndarray, " rows"],
    units: Units,
    of: Bool[np.ndarray, " rows"] | None = None,
) -> Estimate:
    """A share of utterances, such as accuracy, with its interval.

    Args:
      values: which rows count; or how much of each, from 0 to 1.
      units: of the rows.
      of: the rows that the share is of; all by default.

    Returns:
      Of means over the rows of each utterance; NaN without rows to be a share of.
    """
    among = np.ones(len(values), bool) if of is None else np.asarray(of, bool)
    both = np.stack([units.means(values * among), units.means(among)], axis=1)
    counted, total = both.sum(0).tolist()
    if total <= 0:
        return _UNDEFINED
    value = counted / total
    units_of_share = units.totals(both)
    units_of_share = units_of_share[units_of_share[:, 1] > 0]
    # Chunks of every utterance that has any.
    chunks = units_of_share[:, 1].max()
    if (
        units.over == "utterance"
        and np.isin(both, (0, 1)).all()
        and np.isin(units_of_share, (0, chunks)).all()
    ):
        return Estimate(value, *wilson(counted / chunks, total / chunks))
    drawn = _drawn(*_kinds(units_of_share))
    (interval,) = _percentiles([ratio(drawn[:, 0], drawn[:, 1])])
    return _wide(value, interval, len(units_of_share), (0.0, 1.0))


def taken(
    before: Bool[np.ndarray, " rows"], after: Bool[np.ndarray, " rows"], units: Units
) -> Estimate:
    """The share of an accuracy that an attack takes, 1 - after / before, with its interval.

    Below 0 where more is right after it. Both sides of an utterance are drawn together.

    Args:
      before, after: which rows are right.
      units: of the rows.

    Returns:
      NaN where nothing was right before.
    """
    table = units.totals(np.stack([units.means(before), units.means(after)], axis=1))
    known, left = table.sum(0).tolist()
    if known <= 0:
        return _UNDEFINED
    drawn = _drawn(*_kinds(table))
    (interval,) = _percentiles([1 - ratio(drawn[:, 1], drawn[:, 0])])
    return _wide(1 - left / known, interval, int((table[:, 0] > 0).sum()), (-math.inf, 1.0))


def estimates(
    metrics: Mapping[str, Metric],
    y_true: Int[np.ndarray, " rows"],
    y_pred: Int[np.ndarray, " rows"],
    classes: Sequence[str],
    units: Units,
) -> dict[str, Estimate]:
    """Metrics of predictions, each with its interval, from the same draws.

    Args:
      metrics: by name, functions of a confusion matrix with leading axes.
      y_true: classes, as places among ``classes``.
      y_pred: likewise; -1, or as many as there are classes, for a prediction that is missing, which
        is always wrong.
      classes: names, in any order: the intervals do not depend on it.
      units: of the rows.

    Returns:
      By name; NaN without rows. Draws in which a metric is undefined are left out.
    """
    if not len(y_true):
        return dict.fromkeys(metrics, _UNDEFINED)
    count = len(classes) + 1
    place = np.append(np.argsort(np.argsort(np.asarray(classes, object))), count - 1)
    truth, predicted = place[np.asarray(y_true)], place[np.asarray(y_pred)]
    # Few of all cells occur, and what is drawn has an entry for each.
    cells, cell = np.unique(truth * count + predicted, return_inverse=True)
    if units.drawn_alone and len(units) == len(cell):
        # A row each, so that kinds are cells: a million rows take no table of their own.
        kinds = np.eye(len(cells))[::-1].copy()
        counts = np.bincount(cell)[::-1].astype(np.int64)
    else:
        places = units.utterance * len(cells) + cell
        table = np.bincount(places, minlength=len(units) * len(cells)).reshape(len(units), -1)
        kinds, counts = _kinds(units.totals(table / table.sum(1, keepdims=True)))
    right = share(truth == predicted, units)
    found = _metrics_of_kinds(
        tuple(metrics.values()),
        *(array.tobytes() for array in (kinds, counts, cells)),
        count,
        _effective(truth, units),
    )
    named = zip(metrics.items(), found, strict=True)
    return {name: right if metric is accuracy else its for (name, metric), its in named}


@functools.lru_cache(maxsize=4096)
def _metrics_of_kinds(
    metrics: tuple[Metric, ...],
    kinds_: bytes,
    counts_: bytes,
    cells_: bytes,
    count: int,
    effective: float,
) -> list[Estimate]:
    """Of every metric; what a victim takes clean speech for is the same at every ε.

    Kept, as a sweep asks for the same kinds once for every setting, and each asking draws anew.
    Arrays have no hash; their bytes do.
    """
    counts, cells = np.frombuffer(counts_, np.int64), np.frombuffer(cells_, np.int64)
    kinds = np.frombuffer(kinds_, np.float64).reshape(len(counts), len(cells))

    def matrices(
        values: Float[np.ndarray, "draws cells"],
    ) -> Float[np.ndarray, "draws classes predicted"]:
        full = np.zeros((len(values), count**2))
        full[:, cells] = values
        return full.reshape(-1, count, count)[:, :-1]

    whole, drawn = matrices((counts @ kinds)[None]), matrices(_drawn(kinds, counts))
    values = [float(metric(whole)[0]) for metric in metrics]
    intervals = _percentiles([metric(drawn) for metric in metrics])
    return [
        _wide(value, interval, effective, (0.0, 1.0))
        for value, interval in zip(values, intervals, strict=True)
    ]


def _effective(truth: Int[np.ndarray, " rows"], units: Units) -> float:
    """Units that a mean of recalls is as certain as a share of: the rarest class counts most."""
    # A number for each class and unit that go together.
    together = np.unique(truth * len(units) + units.unit[units.utterance])
    sizes = np.unique(together // len(units), return_counts=True)[1]
    return float(len(sizes) ** 2 / (1 / sizes).sum())


def paired_difference(
    first: Bool[np.ndarray, " pairs"], second: Bool[np.ndarray, " pairs"], units: Units
) -> Estimate:
    """Share of True in ``second`` less that in ``first``, with its interval.

    Pairs of an utterance are drawn together, both sides at once: what is hard for both sides then
    cancels, which makes the interval narrower than one of two independent shares.
    """
    change = units.means(second.astype(float) - first.astype(float))
    return _mean(change, units, (-1.0, 1.0))[0]


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
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Difference | None:
    """Mean of the first values minus that of the second, with its interval. None if empty.

    Whether groups of people differ is a question about speakers: it is they who are drawn. Where
    all of each side are alike, the interval ends at -1 and 1, or at a value beyond them.

    Args:
      first, second: values from -1 to 1, such as what is right or what an attack took, speakers and
        sources, an entry per utterance or chunk; see :class:`jaxser.results.units.Units`.
    """
    if not len(first[0]) or not len(second[0]):
        return None
    means, spans, counts = [], [], []
    # A seed for each side: with one seed for both, sides of the same shape would be drawn alike,
    # and the difference of draws that move together is too narrow.
    for seed, (values, speakers, sources) in enumerate((first, second)):
        units = Units.of(np.arange(len(values)), speakers, "speaker", sources=sources)
        _, drawn = _mean(np.asarray(values, float), units, (-1.0, 1.0), seed)
        means.append(drawn)
        counts.append(int(units.unit.max()) + 1)
        spans.append(_unseen(counts[-1]))
    value = float(np.mean(first[0]) - np.mean(second[0]))
    ((low, high),) = _percentiles([means[0] - means[1]])
    if high - low <= _ROUNDING:
        # Shares differ by 1 at most; the two spans together reach beyond that.
        reach, furthest = math.hypot(*spans), max(1.0, abs(value))
        low, high = max(value - reach, -furthest), min(value + reach, furthest)
    return Difference(value, low, high, (counts[0], counts[1]))


def mean(values: Float[np.ndarray, " rows"], units: Units, bounds: tuple[float, float]) -> Estimate:
    """Mean over utterances, each of which counts as the mean of its rows, with its interval.

    Args:
      values: of the rows; at least one.
      units: of the rows.
      bounds: least and largest value that there can be.
    """
    return _mean(units.means(values), units, bounds)[0]


def _mean(
    values: Float[np.ndarray, " utterances"],
    units: Units,
    bounds: tuple[float, float],
    seed: int = 0,
) -> tuple[Estimate, Float[np.ndarray, " draws"]]:
    """Mean over utterances with its interval, and its draws."""
    table = units.totals(np.stack([values, np.ones(len(values))], axis=1))
    drawn = _drawn(*_kinds(table), seed)
    means = drawn[:, 0] / drawn[:, 1]
    (interval,) = _percentiles([means])
    return _wide(float(values.mean()), interval, len(table), bounds), means


# Sums of thirds differ in their last digit by the order in which they are drawn.
_ROUNDING = 1e-9


def _wide(
    value: float, interval: tuple[float, float], units: float, bounds: tuple[float, float]
) -> Estimate:
    """The interval, or the one of units that are all alike where it has no width."""
    low, high = interval
    if high - low <= _ROUNDING:
        unseen = _unseen(units)
        low, high = max(value - unseen, bounds[0]), min(value + unseen, bounds[1])
    return Estimate(value, low, high)


def _unseen(units: float) -> float:
    """How large a share may be that none of so many units is of: Wilson's bound of 0 of n."""
    return _Z**2 / (units + _Z**2)


def _kinds(
    table: Float[np.ndarray, "units figures"],
) -> tuple[Float[np.ndarray, "kinds figures"], Int[np.ndarray, " kinds"]]:
    """The distinct units, in an order that depends on nothing else, and how many are of each."""
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    return kinds, counts.astype(np.int64)


def _drawn(
    kinds: Float[np.ndarray, "kinds figures"], counts: Int[np.ndarray, " kinds"], seed: int = 0
) -> Float[np.ndarray, "draws figures"]:
    """Sums of the figures of units that were drawn with replacement."""
    rng, units = np.random.default_rng(seed), int(counts.sum())
    at_once = max(1, min(_RESAMPLES, _NUMBERS_AT_ONCE // len(counts)))
    parts = [
        rng.multinomial(units, counts / units, size=min(at_once, _RESAMPLES - start)) @ kinds
        for start in range(0, _RESAMPLES, at_once)
    ]
    return np.concatenate(parts)


def _percentiles(values: Sequence[Float[np.ndarray, " draws"]]) -> list[tuple[float, float]]:
    """(low, high) of the middle 95 % of the draws of each; undefined ones are left out."""
    tail = 50 * (1 - _LEVEL)
    found = []
    for each in values:
        defined = each[~np.isnan(each)]
        low, high = np.percentile(defined, [tail, 100 - tail]) if len(defined) else [math.nan] * 2
        found.append((float(low), float(high)))
    return found
