"""Clopper and Pearson's bound, the radius and the vote, against SciPy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxser.results.smoothing_bounds import certified_radius, largest_radius, lower_bound, vote


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("trials", [1, 10, 1000, 100_000])
def test_the_bound_is_that_of_scipys_exact_test(trials: int, alpha: float) -> None:
    successes = np.unique(np.linspace(0, trials, 9).astype(int))
    expected = [
        stats.binomtest(int(k), trials, alternative="greater").proportion_ci(1 - alpha, "exact").low
        for k in successes
    ]
    found = lower_bound(successes, np.full(len(successes), trials), alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # Closed forms at the ends.
    assert found[0] == 0
    assert found[-1] == pytest.approx(alpha ** (1 / trials), rel=1e-12)


def test_the_bound_is_that_of_textbooks() -> None:
    """Two-sided limits of 95 % for 10 of 20, and of 99 % for 5 of 10."""
    assert lower_bound(10, 20, 0.025) == pytest.approx(0.272, abs=5e-4)
    assert lower_bound(5, 10, 0.005) == pytest.approx(0.128, abs=5e-4)


@pytest.mark.parametrize("trials", [5, 60, 400])
def test_the_bound_is_wrong_no_more_often_than_it_says(trials: int) -> None:
    """By the binomial itself, and by draws."""
    rng = np.random.default_rng(0)
    bounds = {alpha: lower_bound(np.arange(trials + 1), trials, alpha) for alpha in (0.01, 0.1)}
    for alpha, bound in bounds.items():
        worst = 0.0
        for p in np.linspace(0.02, 0.999, 80):
            weights = stats.binom.pmf(np.arange(trials + 1), trials, p)
            wrong = float(weights[bound > p].sum())
            assert wrong <= alpha
            worst = max(worst, wrong)
            drawn = bound[rng.binomial(trials, p, 2000)] > p
            assert drawn.mean() <= alpha + 4 * math.sqrt(alpha / 2000)
        # It is no wider than it must be.
        assert worst > alpha / 2 or trials == 5


def test_the_radius() -> None:
    assert certified_radius(0.5, stats.norm.cdf(1.7)) == pytest.approx(0.85)
    assert np.isnan(certified_radius(0.5, np.array([0.5, 0.2, 0.0]))).all()
    assert certified_radius(1.0, 0.5 + 1e-9) > 0
    # Cohen et al., section 3.2.2: with 100,000 draws and α 0.001 all of which agree, about 4 σ.
    assert largest_radius(0.25, 100_000, 0.001) == pytest.approx(0.25 * 3.81, rel=0.01)
    assert math.isnan(largest_radius(0.25, 5, 0.001))


def test_the_vote_is_scipys_binomial_test() -> None:
    rng = np.random.default_rng(1)
    counts = rng.multinomial(40, [0.45, 0.3, 0.2, 0.05], 200)
    for alpha in (0.001, 0.05, 0.5):
        found = vote(counts, alpha)
        for row, answer in zip(counts, found, strict=True):
            second, first = np.sort(row)[-2:]
            p_value = stats.binomtest(int(first), int(first + second)).pvalue
            decided = p_value <= alpha and first > second
            assert answer == (row.argmax() if decided else -1)
    assert 0 < (vote(counts, 0.05) < 0).mean() < 1
    assert vote(np.array([[0, 0], [7, 7], [9, 0]]), 0.01).tolist() == [-1, -1, 0]
