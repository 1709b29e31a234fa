"""The smallest perturbation that is known to fool a victim, utterance by utterance.

    sizes = known_sizes("amplitude", epsilons, norms, found_norms, fooled)      # of rows
    found = smallest_sizes(sizes, wrong, units)             # per utterance: -inf, a size, or inf
    right, tried = withstood(found, 0.01, units, [pgd, fab])    # rows of the attacks at ε 0.01
    share(right, units.each_once(), of=tried)               # robust accuracy there
    optimality({"pgd": found, "fab": other})                # of AttackBench

An attack at ε finds a perturbation of that size or of a smaller one, so whoever is fooled at one ε
is known to be fooled at every larger one. An attack that looks for the smallest one knows its size
also where that is beyond ε.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxser.results.units import Units

__all__ = [
    "accuracy_beyond",
    "budget_sizes",
    "known_sizes",
    "optimality",
    "smallest_sizes",
    "withstood",
]


def budget_sizes(
    unit: str, epsilons: Float[np.ndarray, " rows"], norms: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """What a perturbation counts as on the axis of ε: its ε, or its own norm where that is smaller.

    Args:
      unit: of ε, as rows have it; a larger ε in dB is a smaller perturbation, and a size below 0.
      epsilons: of the rows; inf where there was no limit.
      norms: of the perturbations, in the norm that ε bounds; NaN where not known.
    """
    return np.fmin(epsilons, norms) if unit == "amplitude" else -epsilons


def known_sizes(
    unit: str,
    epsilons: Float[np.ndarray, " rows"],
    norms: Float[np.ndarray, " rows"],
    found: Float[np.ndarray, " rows"],
    fooled: Bool[np.ndarray, " rows"],
) -> Float[np.ndarray, " rows"]:
    """The size of a perturbation that is known to fool the victim, on the axis of ε.

    Args:
      unit, epsilons, norms: see :func:`budget_sizes`.
      found: norms of the smallest perturbations that fooled it, whatever ε; NaN where no attack
        looked for one or found one, and 0 where none was needed.
      fooled: the victim is wrong after the attack.

    Returns:
      inf where none is known.
    """
    sizes = np.where(fooled, budget_sizes(unit, epsilons, norms), np.inf)
    return np.fmin(sizes, np.where(found > 0, found, np.inf)) if unit == "amplitude" else sizes


def smallest_sizes(
    sizes: Float[np.ndarray, " rows"],
    wrong: Bool[np.ndarray, " rows"],
    units: Units,
) -> Float[np.ndarray, " utterances"]:
    """Per utterance the smallest size among its rows.

    Args:
      sizes: of perturbations that fooled the victim, in any unit that grows with them; inf where
        none did.
      wrong: it is wrong without one.
      units: of the rows.

    Returns:
      -inf where the victim is wrong without an attack, and inf where no row fooled it.
    """
    found = np.full(len(units), np.inf)
    np.minimum.at(found, units.utterance, sizes)
    found[units.utterance[wrong]] = -np.inf
    return found


def withstood(
    found: Float[np.ndarray, " utterances"],
    size: float,
    units: Units,
    attacks: Sequence[Int[np.ndarray, " _"]],
) -> tuple[Bool[np.ndarray, " utterances"], Bool[np.ndarray, " utterances"]]:
    """Which utterances are right whatever was tried up to a size, and on which all was tried.

    An utterance that one of the attacks left out says nothing of what all of them leave.

    Args:
      found: as of :func:`smallest_sizes`.
      size: in the unit of ``found``.
      units: of all rows.
      attacks: of each one the places of its rows.
    """
    return np.asarray(found > size), units.in_all(attacks)


def accuracy_beyond(found: Float[np.ndarray, " utterances"], sizes: Sequence[float]) -> list[float]:
    """Robust accuracy at several sizes.

    Args:
      found: as of :func:`smallest_sizes`; NaN for utterances to leave out.
      sizes: in the unit of ``found``.
    """
    known = np.sort(found[~np.isnan(found)])
    return (1 - np.searchsorted(known, sizes, side="right") / len(known)).tolist()


def optimality(found: Mapping[str, Float[np.ndarray, " utterances"]]) -> dict[str, float]:
    """How near each attack comes to the best of all of them, from 0 to 1.

    Local optimality of AttackBench (Cinà et al., AAAI 2025, arXiv 2404.19460, equation 5): the area
    between a victim without attack and the attack's curve of robust accuracy over ε, as a share of
    that area for the best of all attacks, utterance by utterance. Areas end at the ε at which the
    best has fooled all that any attack fooled.

    Args:
      found: by attack, as of :func:`smallest_sizes`, of the same utterances; no size is below 0.

    Returns:
      By attack; NaN where no attack fooled an utterance that was right before.
    """
    # A mean of sizes, each cut off at the end, is the area below a curve that falls at every size.
    clipped = {name: np.maximum(sizes, 0) for name, sizes in found.items()}
    best = np.minimum.reduce(list(clipped.values()))
    known = best[np.isfinite(best)]
    if not known.any():
        return dict.fromkeys(found, float("nan"))
    end = known.max()
    ceiling = np.mean(best > 0) * end
    areas = {name: ceiling - np.minimum(sizes, end).mean() for name, sizes in clipped.items()}
    whole = ceiling - np.minimum(best, end).mean()
    if whole <= 0:  # all are fooled at one size, whichever attack does it
        return dict.fromkeys(found, float("nan"))
    return {name: float(max(0.0, area / whole)) for name, area in areas.items()}
