"""How much two maps of what matters in an input agree.

    rank_correlation(before, after)             # [rows], of maps [rows, cells]
    top_overlap(before, after)                  # [rows]
    estimate = mean_agreement(values, units)    # with its interval

Both are NaN of a row in which one of the maps is the same all over, or not finite: it says of no
cell that it matters more than another.

Source of the rank correlation: Spearman, 1904. It is what Adebayo et al., "Sanity Checks for
Saliency Maps", NeurIPS 2018, compare saliency maps by; the overlap of the most important features
is that of Ghorbani et al., "Interpretation of Neural Networks Is Fragile", AAAI 2019.
"""

import math

import numpy as np
from jaxtyping import Float

from jaxser.results.estimate import Estimate
from jaxser.results.intervals import mean
from jaxser.results.units import Units

__all__ = ["TOP", "mean_agreement", "rank_correlation", "top_overlap"]

# Share of the cells that are a map's most important ones. Of two maps that know nothing of each
# other the overlap is this share.
TOP = 0.1

# Rows whose ranks are found together.
_ROWS = 16


def rank_correlation(
    first: Float[np.ndarray, "rows cells"], second: Float[np.ndarray, "rows cells"]
) -> Float[np.ndarray, " rows"]:
    """Spearman's rank correlation of every pair of rows, from -1 to 1; ties share their rank."""
    from scipy.stats import rankdata

    found = []
    for start in range(0, len(first), _ROWS):
        ranks = [rankdata(each[start : start + _ROWS], axis=1) for each in (first, second)]
        a, b = (each - each.mean(axis=1, keepdims=True) for each in ranks)
        with np.errstate(invalid="ignore"):
            found.append((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)))
    correlation = np.concatenate(found) if found else np.zeros(0)
    return np.where(_defined(first) & _defined(second), correlation, np.nan)


def top_overlap(
    first: Float[np.ndarray, "rows cells"],
    second: Float[np.ndarray, "rows cells"],
    share: float = TOP,
) -> Float[np.ndarray, " rows"]:
    """Which share of one map's largest cells are among the other's, from 0 to 1.

    Where more cells are equal than there is room for, each of them is in with the same part.

    Args:
      first, second: maps.
      share: of the cells, rounded; at least one.
    """
    count = max(1, round(share * first.shape[1]))
    inside = np.minimum(_membership(first, count), _membership(second, count)).sum(axis=1) / count
    return np.where(_defined(first) & _defined(second), inside, np.nan)


def mean_agreement(
    values: Float[np.ndarray, " rows"], units: Units, least: float = -1.0
) -> tuple[Estimate, int]:
    """The mean over utterances of what is defined, with its interval; and how many rows are not.

    Args:
      values: a number per row, at most 1.
      units: of the rows.
      least: that a value can be: -1 of correlations, 0 of overlaps.
    """
    defined = np.isfinite(values)
    undefined = int((~defined).sum())
    if not defined.any():
        return Estimate(math.nan, math.nan, math.nan), undefined
    return mean(values[defined], units.take(defined), (least, 1.0)), undefined


def _defined(maps: Float[np.ndarray, "rows cells"]) -> np.ndarray:
    return np.isfinite(maps).all(axis=1) & (maps.max(axis=1) > maps.min(axis=1))


def _membership(maps: Float[np.ndarray, "rows cells"], count: int) -> np.ndarray:
    """How much of each cell is among the ``count`` largest, from 0 to 1."""
    edge = -np.partition(-maps, count - 1, axis=1)[:, count - 1 : count]
    above, level = maps > edge, maps == edge
    left = count - above.sum(axis=1, keepdims=True)
    return above + level * (left / np.maximum(level.sum(axis=1, keepdims=True), 1))
