"""How many samples sparse PGD may move, so that a given share of them is changed in the end.

    matched = match_sparsity(lambda count: prepare_run(...), share=0.125, part="val")
    matched.count

Chang et al., "STAA-Net", section 4.3: the number is set so that the sparsity is comparable with the
generator's; the paper does so by hand.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from jaxser.corpora.selection import spread_rows
from jaxser.driver.named_attack import named_attack
from jaxser.experiments.attack import blocks_of
from jaxser.experiments.run import Run
from jaxser.papers.table import Attacked
from jaxser.runtime.errors import InputError

__all__ = ["Matched", "is_sparse_pgd", "match_sparsity"]

# Utterances that a count is tried on, counts that are tried, and how near is near enough: each
# count is a program of its own.
_UTTERANCES, _TRIALS, _NEAR = 64, 10, 0.02


@dataclasses.dataclass(frozen=True)
class Matched:
    """A count, and what it came to.

    Attributes:
      count: of :class:`jaxser.attacks.SparsePGD`.
      sparsity: mean share of changed samples, of those that fooled (of all where none did).
      asked: the share to arrive at.
      utterances: that it was measured on.
      part: that they are of.
    """

    count: int
    sparsity: float
    asked: float
    utterances: int
    part: str

    def __str__(self) -> str:
        return (
            f"count {self.count:,} chosen: {self.sparsity:.2%} of the samples change, "
            f"{self.asked:.2%} was asked for ({self.utterances} utterances of the part {self.part})"
        )


def is_sparse_pgd(entry: Attacked) -> bool:
    """Whether a line of a table has a count to choose."""
    return named_attack(entry.attack)[0] == "sparsepgd"


def match_sparsity(run_of: Callable[[int], Run], share: float, part: str) -> Matched:
    """The count that comes nearest to a share of changed samples, of at most ten that are tried.

    The share grows with the count. The next count that is tried is the one that would do if every
    step drew its positions at random.

    Args:
      run_of: count -> a run of the attack, whose rows are not made.
      share: to arrive at.
      part: that the runs are of, as messages have it.

    Raises:
      InputError: the share is not known: nothing was fooled by the attack that it is of.
    """
    if not 0 < share <= 1:
        raise InputError(
            "there is no share of changed samples to match: the line that it is of has fooled "
            "nothing, or is left open; give --match_sparsity a number."
        )
    size = int(np.prod(run_of(1).speech.victim.input_shape))

    def tried(count: int) -> Matched:
        run = run_of(count)
        rows = spread_rows(len(run.utterances), _UTTERANCES)
        run = dataclasses.replace(run, speech=run.speech.take(rows), attacked=run.attacked[rows])
        return Matched(count, _sparsity(run), share, len(run.utterances), part)

    low, high = 0, size
    best = new = tried(max(1, math.ceil(share * size)))
    for _ in range(_TRIALS - 1):
        low, high = (new.count, high) if new.sparsity < share else (low, new.count)
        if abs(best.sparsity / share - 1) <= _NEAR or high - low <= 1:
            break
        guess = round(best.count * _drawn(share) / _drawn(best.sparsity))
        new = tried(min(max(guess, low + 1), high - 1))
        best = min(best, new, key=lambda each: abs(each.sparsity - share))
    return best


def _drawn(share: float) -> float:
    """How many positions per sample were drawn at random, where this share was drawn at all."""
    return -math.log1p(-min(max(share, 1e-9), 1 - 1e-9))


def _sparsity(run: Run) -> float:
    changed, success = [], []
    for block in blocks_of(run):
        changed.append(block.measures["sparsity"])
        success.append(block.success)
    shares, fooled = np.concatenate(changed), np.concatenate(success)
    return float(np.mean(shares[fooled] if fooled.any() else shares))
