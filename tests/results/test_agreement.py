"""Agreement of maps, against SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats

from jaxser.results.agreement import mean_agreement, rank_correlation, top_overlap
from jaxser.results.units import Units


def maps(rows=20, cells=50, seed=0):
    """Pairs of maps with something in common, and many ties."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(rows, cells))
    second = first + rng.normal(size=(rows, cells))
    return first.round(1), second.round(1)


def test_rank_correlation_is_that_of_scipy():
    first, second = maps()
    expected = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, rtol=1e-12)
    np.testing.assert_allclose(rank_correlation(first, -first), -1.0)
    assert len(rank_correlation(first[:0], second[:0])) == 0


def test_overlap_counts_the_largest_cells_that_both_have():
    first, second = np.arange(20.0)[None], np.roll(np.arange(20.0), 1)[None]
    # Cells 19 and 18 against cells 0 and 19.
    assert top_overlap(first, second).tolist() == [0.5]
    assert top_overlap(first, first).tolist() == [1.0]
    assert top_overlap(first, -first).tolist() == [0.0]
    # Three cells for two places: two thirds of each are in.
    tied = np.zeros((1, 20))
    tied[0, :3] = 1
    assert top_overlap(tied, tied) == pytest.approx(1.0)
    other = np.zeros((1, 20))
    other[0, 2:4] = [2, 3]
    assert top_overlap(tied, other) == pytest.approx(2 / 3 / 2)


def test_overlap_of_maps_that_know_nothing_of_each_other_is_the_share():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 300, 1_000))
    assert top_overlap(first, second).mean() == pytest.approx(0.1, abs=0.005)
    assert rank_correlation(first, second).mean() == pytest.approx(0.0, abs=0.01)


def test_a_map_that_tells_nothing_is_undefined_and_counted():
    first, second = maps(4)
    first[1], second[2, 3] = 7.0, np.nan
    for measured in (rank_correlation(first, second), top_overlap(first, second)):
        assert np.isnan(measured).tolist() == [False, True, True, False]
    units = Units.of(np.arange(4))
    estimate, undefined = mean_agreement(rank_correlation(first, second), units)
    assert undefined == 2
    assert estimate.value == rank_correlation(first, second)[[0, 3]].mean()
    # Of a single utterance little is known, but no overlap is negative.
    alone = [mean_agreement(np.array([0.2]), Units.of([0]), least)[0] for least in (-1.0, 0.0)]
    assert [each.low for each in alone] == [pytest.approx(0.2 - 0.793, abs=1e-3), 0.0]
    none, all_four = mean_agreement(np.full(4, np.nan), units)
    assert np.isnan([none.value, none.low, none.high]).all()
    assert all_four == 4


def test_the_interval_of_a_mean_is_that_of_a_bootstrap_over_utterances():
    values = np.random.default_rng(2).uniform(-1, 1, 60)
    estimate, _ = mean_agreement(values, Units.of(np.arange(60)))
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", random_state=0, n_resamples=4_000
    ).confidence_interval
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=0.02)
    # Rows of one utterance are one piece of evidence.
    again, _ = mean_agreement(np.tile(values, 3), Units.of(np.tile(np.arange(60), 3)))
    assert (again.low, again.high) == pytest.approx((estimate.low, estimate.high))
