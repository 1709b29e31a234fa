"""What a run attacks: inputs, labels, and a budget for every (utterance, ε) pair.

    source = Source(waveforms, subset=None, ids=["03a01Fa", "03a01Nc"])
    budgets = amplitudes(source, [30.0, 20.0], "snr_power", "linf")     # [utterances, epsilons]

ε is an amplitude (the norm of the perturbation) or a signal-to-noise ratio in dB, which every
utterance turns into an amplitude of its own. Peak SNR is ``20 log10(max|x| / max|δ|)`` and power
SNR ``10 log10(sum x² / sum δ²)``, as in ``jaxser.results.perturbation``. An L∞ budget of
rms(x) · 10^(-s/20) guarantees a power SNR of at least s, since no sample of δ is larger.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxser.attacks.projections import Norm
from jaxser.corpora.table import numeric_id
from jaxser.runtime.errors import InputError, UsageError

__all__ = [
    "CleanPass",
    "EpsilonUnit",
    "Source",
    "Work",
    "amplitudes",
    "check_epsilons",
    "checked_labels",
]

EpsilonUnit = Literal["amplitude", "snr_peak", "snr_power"]

# Utterances whose peak and power are measured together.
_MEASURED_ROWS = 64


class Source:
    """The attacked inputs, read batch by batch.

    Args:
      waveforms: clean inputs ``[batch, ...]``; a memory map is read batch by batch.
      subset: positions to attack; all by default.
      ids: one name or number per attacked input; its position by default.

    Raises:
      InputError: nothing to attack, or another number of ids.
    """

    def __init__(
        self,
        waveforms: Float[np.ndarray, "batch ..."],
        subset: Int[np.ndarray, " rows"] | None = None,
        ids: Sequence[str] | Sequence[int] | None = None,
    ) -> None:
        self._waveforms = waveforms
        self._subset = np.arange(len(waveforms)) if subset is None else np.asarray(subset)
        if len(self._subset) == 0:
            raise InputError("there is nothing to attack: the selection has no utterance.")
        if ids is not None and len(ids) != len(self):
            raise InputError(
                f"there are {len(self)} inputs but {len(ids)} ids; give one per input."
            )
        self._names = ids

    def __len__(self) -> int:
        return len(self._subset)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._waveforms.shape[1:])

    @property
    def ids(self) -> UInt[np.ndarray, " rows"]:
        """What the randomness of each input depends on."""
        names = range(len(self)) if self._names is None else self._names
        numbers = [numeric_id(each) if isinstance(each, str) else int(each) for each in names]
        return np.array([number % 2**32 for number in numbers], np.uint32)

    def name(self, row: int) -> str:
        """What an error calls an input."""
        if self._names is None:
            return f"waveforms[{int(self._subset[row])}]"
        return f"utterance {self._names[row]}"

    def batch(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows ..."]:
        return np.asarray(self._waveforms[self._subset[rows]], np.float32)


@dataclasses.dataclass(frozen=True)
class CleanPass:
    """What the victim makes of the clean inputs.

    Attributes:
      prediction: -1 where logits are not finite.
      flags: RANDOMISED where two passes differ, PROBABILITIES where the outputs are in [0, 1]
        and sum to 1.
    """

    prediction: Int[np.ndarray, " rows"]
    flags: UInt[np.ndarray, " rows"]

    def take(self, rows: Int[np.ndarray, " taken"]) -> "CleanPass":
        """Those of some rows."""
        return CleanPass(self.prediction[rows], self.flags[rows])


@dataclasses.dataclass(frozen=True)
class Work:
    """All that is to be attacked.

    Attributes:
      source: the inputs.
      labels: to leave, or to reach where ``targeted``.
      ids: what each input's randomness depends on.
      budgets: ε of every pair as an amplitude, ``[utterances, epsilons]``.
      clean: of the clean inputs.
      key: of the run, on the devices.
      targeted: whether labels are to be reached.
      keep_x_adv: bring the adversarial inputs to the host.
    """

    source: Source
    labels: Int[np.ndarray, " utterances"]
    ids: UInt[np.ndarray, " utterances"]
    budgets: Float[np.ndarray, "utterances epsilons"]
    clean: CleanPass
    key: Array
    targeted: bool
    keep_x_adv: bool

    def arrays(
        self,
        utterance: Int[np.ndarray, " fresh"],
        epsilon: Float[np.ndarray, " fresh"],
        real: Bool[np.ndarray, " fresh"],
    ) -> dict[str, Any]:
        """Arguments of ``init`` for rows; those that are not ``real`` are padding."""
        return {
            "x": self.source.batch(utterance),
            "y": self.labels[utterance],
            "ids": self.ids[utterance],
            "epsilon": epsilon.astype(np.float32),
            "real": real,
        }


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


def checked_labels(
    labels: Int[np.ndarray, " rows"], count: int, num_classes: int
) -> Int[np.ndarray, " rows"]:
    """Labels as class indices of the victim.

    Raises:
      InputError: another number of them, or one that is no class.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise InputError(
            f"there are {count} inputs but labels of shape {labels.shape}; give one per input."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be class indices, not {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise InputError(
            f"label {wrong} is not a class of the victim, which has 0 to {num_classes - 1}."
        )
    return labels.astype(np.int32)
