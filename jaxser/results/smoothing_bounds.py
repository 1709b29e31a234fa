"""What counts of a smoothed victim's votes prove: the bounds of randomised smoothing.

    p_lower = lower_bound(successes=990, trials=1000, alpha=0.001)       # 0.9760
    certified_radius(sigma=0.01, p_lower=p_lower)                        # 0.0198, an L2 norm
    vote(counts, alpha=0.001)                                            # class, or -1: abstains

The smoothed victim answers with the class that the victim most often gives to an input under
Gaussian noise. Whoever shows by draws that this class has a share of at least p > 1/2 has shown
that no perturbation of an L2 norm below σ Φ⁻¹(p) changes the answer.

Source: Cohen, Rosenfeld and Kolter, ICML 2019, theorem 1 and section 3.2 (PREDICT and CERTIFY);
Clopper and Pearson, Biometrika 26, 1934; Hung and Fithian, Annals of Statistics 47, 2019 (the test
of the vote).
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import bdtr, betaincinv, ndtri

__all__ = ["certified_radius", "largest_radius", "lower_bound", "vote"]


def lower_bound(
    successes: Int[np.ndarray, "*rows"] | int, trials: Int[np.ndarray, "*rows"] | int, alpha: float
) -> Float[np.ndarray, "*rows"]:
    """Clopper and Pearson's one-sided lower bound of a binomial's probability.

    It is below the true one with a probability of at least 1 - ``alpha``, whatever that is.

    Args:
      successes: of the trials.
      trials: independent ones, at least 1.
      alpha: how often the bound may be wrong, within (0, 1).
    """
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    # The quantile of a beta distribution, which without any success is at 0.
    found = betaincinv(np.maximum(k, 1), n - k + 1, alpha)
    return np.where(k > 0, found, 0.0)


def certified_radius(
    sigma: float, p_lower: Float[np.ndarray, "*rows"] | float
) -> Float[np.ndarray, "*rows"]:
    """The L2 norm below which no perturbation changes the answer; NaN where p is not over 1/2.

    Args:
      sigma: standard deviation of the noise.
      p_lower: lower bound of the share of the answer's class.
    """
    p = np.asarray(p_lower, float)
    return np.where(p > 0.5, sigma * ndtri(np.maximum(p, 0.5)), math.nan)


def largest_radius(sigma: float, samples: int, alpha: float) -> float:
    """What is certified where all draws agree: more takes more draws."""
    return float(certified_radius(sigma, lower_bound(samples, samples, alpha)))


def vote(counts: Int[np.ndarray, "rows classes"], alpha: float) -> Int[np.ndarray, " rows"]:
    """The class that most draws are of; -1, an abstention, where a test does not tell it from the
    second: it is another than the true majority's with a probability of ``alpha`` at most.

    Args:
      counts: of the draws, by class.
      alpha: of the two-sided binomial test.
    """
    first, second = _two_largest(counts)
    # Two-sided and symmetric: twice the tail that begins at the smaller count.
    p_value = np.minimum(1.0, 2 * bdtr(second, first + second, 0.5))
    decided: Bool[np.ndarray, " rows"] = (p_value <= alpha) & (first > second)
    return np.where(decided, counts.argmax(axis=1), -1)


def _two_largest(
    counts: Int[np.ndarray, "rows classes"],
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    ordered = np.sort(counts, axis=1)
    return ordered[:, -1], ordered[:, -2]
