"""Budgets: every ε as the norm of the perturbation that it allows an utterance.

    norm = check_budgets(attack, [30.0, 20.0], "snr_power", num_classes=7)
    amplitudes(source, [30.0, 20.0], "snr_power", norm)                 # [utterances, epsilons]

ε is an amplitude (the norm of the perturbation) or a signal-to-noise ratio in dB, which every
utterance turns into an amplitude of its own. Peak SNR is ``20 log10(max|x| / max|δ|)`` and power
SNR ``10 log10(sum x² / sum δ²)``, as in ``jaxser.results.perturbation``. An L∞ budget of
rms(x) · 10^(-s/20) guarantees a power SNR of at least s, since no sample of δ is larger.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from jaxser.attacks.base import Attack
from jaxser.attacks.projections import Norm
from jaxser.driver.sequence import AttackSequence, members
from jaxser.driver.source import Source
from jaxser.runtime.errors import InputError, UsageError

__all__ = ["EpsilonUnit", "amplitudes", "check_budgets", "check_epsilons"]

# What an ε is given in; see the module's docstring.
EpsilonUnit = Literal["amplitude", "snr_peak", "snr_power"]

# Utterances whose peak and power are measured together.
_MEASURED_ROWS = 64


def check_budgets(
    attack: Attack | AttackSequence,
    epsilons: Sequence[float],
    epsilon_unit: EpsilonUnit,
    num_classes: int,
) -> Norm:
    """The norm that ε bounds, once the budgets have been found to fit the attack.

    Raises:
      UsageError: a budget that the attack cannot have.
    """
    each = members(attack, num_classes)
    norms = sorted({member.epsilon_norm for member in each})
    if len(norms) > 1:
        raise UsageError(
            f"{attack.name}: its members bound different norms ({', '.join(norms)}), which no "
            "single epsilon fits; give members of one norm."
        )
    unlimited = all(member.minimal_norm for member in each)
    check_epsilons(epsilons, epsilon_unit, norms[0], unlimited)
    return norms[0]


def check_epsilons(
    epsilons: Sequence[float], unit: EpsilonUnit, norm: Norm, unlimited: bool
) -> None:
    """Refuse budgets that the attack cannot have.

    Args:
      epsilons: in ``unit``.
      unit: "amplitude", "snr_peak" or "snr_power".
      norm: that the attack's ε bounds.
      unlimited: whether an infinite amplitude makes sense (attacks that look for the smallest
        perturbation).

    Raises:
      UsageError: none, one out of range, or a unit that does not fit the norm.
    """
    if unit not in get_args(EpsilonUnit):
        known = ", ".join(get_args(EpsilonUnit))
        raise UsageError(f"there is no unit {unit!r} of epsilon; the units are {known}.")
    if unit != "amplitude" and norm not in ("linf", "l2"):
        raise UsageError(f"an epsilon in dB cannot bound the {norm} norm; give it as an amplitude.")
    if unit == "snr_peak" and norm != "linf":
        raise UsageError(
            "a peak SNR does not bound the l2 norm; give epsilon as snr_power or as an amplitude."
        )
    if len(epsilons) == 0:
        raise UsageError("there is no epsilon; give at least one.")
    for epsilon in epsilons:
        if unit != "amplitude":
            if not math.isfinite(epsilon):
                raise UsageError(f"an epsilon in dB must be finite, not {epsilon}.")
        elif not epsilon > 0 or (math.isinf(epsilon) and not unlimited):
            extent = "positive" if unlimited else "positive and finite"
            raise UsageError(f"epsilon must be {extent}, not {epsilon}.")
        elif norm == "l0" and epsilon < 1:
            raise UsageError(
                f"epsilon {epsilon:g} allows no change: it is the number of samples that this "
                "attack may change, 1 or more; how far each may go is --params "
                f"amplitude={epsilon:g}."
            )


def amplitudes(
    source: Source, epsilons: Sequence[float], unit: EpsilonUnit, norm: Norm
) -> Float[np.ndarray, "utterances epsilons"]:
    """Every ε as the norm of the perturbation that it allows.

    Raises:
      InputError: a silent utterance, which has no SNR.
    """
    values = np.asarray(epsilons, np.float64)
    if unit == "amplitude":
        return np.tile(values.astype(np.float32), (len(source), 1))
    scale = np.concatenate(
        [
            _signal(source.batch(np.arange(first, min(first + _MEASURED_ROWS, len(source)))), unit)
            for first in range(0, len(source), _MEASURED_ROWS)
        ]
    )
    if norm == "l2":
        scale *= math.sqrt(math.prod(source.input_shape))
    silent = np.flatnonzero(scale == 0)
    if len(silent):
        raise InputError(
            f"{source.name(silent[0])} is silent, so an epsilon in dB says nothing about it "
            f"({len(silent)} utterances are); leave it out or give epsilon as an amplitude."
        )
    return (scale[:, None] * 10.0 ** (-values[None] / 20.0)).astype(np.float32)


def _signal(x: Float[np.ndarray, "batch ..."], unit: EpsilonUnit) -> Float[np.ndarray, " batch"]:
    """Largest or root mean square sample of each input."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    if unit == "snr_peak":
        return np.asarray(np.abs(flat).max(axis=1))
    return np.asarray(np.sqrt(np.square(flat).mean(axis=1)))
