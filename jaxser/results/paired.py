"""Whether two things that were tried on the same utterances differ: exact test of McNemar.

p = mcnemar(withstood_a, withstood_b)       # only utterances count on which both differ
"""

import numpy as np
from jaxtyping import Bool
from scipy.special import bdtr

__all__ = ["mcnemar"]


def mcnemar(a: Bool[np.ndarray, " utterances"], b: Bool[np.ndarray, " utterances"]) -> float:
    """Two-sided exact p value (McNemar, 1947): among independent utterances on which both differ,
    each is as likely to be right where they are worth the same.

    Args:
      a, b: whether the utterance came out right, an entry each.

    Returns:
      1 where they agree on all.
    """
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
