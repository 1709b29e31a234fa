"""What a run attacks: inputs, labels, and a budget for every (utterance, ε) pair.

source = Source(waveforms, subset=None, ids=["03a01Fa", "03a01Nc"])
source.batch(np.array([1, 0]))                                      # [2, ...] float32
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt

from jaxser.attacks.projections import Bounds
from jaxser.corpora.table import numeric_id
from jaxser.driver.samples import check_samples, scaled
from jaxser.runtime.errors import InputError

__all__ = [
    "CleanPass",
    "Source",
    "Work",
    "checked_labels",
]


class Source:
    """The attacked inputs, read batch by batch.

    Args:
      waveforms: clean inputs ``[batch, ...]``; a memory map is read batch by batch.
      subset: positions to attack; all by default.
      ids: one name or number per attacked input; its position by default.
      bounds: valid range of an input, or None; integers are scaled as :func:`scaled` says.

    Raises:
      InputError: nothing to attack, inputs that are no samples, or ids that do not fit.
    """

    def __init__(
        self,
        waveforms: Float[Any, "batch ..."],
        subset: Int[np.ndarray, " rows"] | None = None,
        ids: Sequence[str] | Sequence[int] | None = None,
        bounds: Bounds = (-1.0, 1.0),
    ) -> None:
        self._waveforms, self._bounds = waveforms, bounds
        check_samples(np.dtype(waveforms.dtype), self.input_shape, bounds)
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
        return np.array([_number(each) for each in names], np.uint32)

    def name(self, row: int) -> str:
        """What an error calls an input."""
        if self._names is None:
            return f"waveforms[{int(self._subset[row])}]"
        return f"utterance {self._names[row]}"

    def batch(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows ..."]:
        return scaled(np.asarray(self._waveforms[self._subset[rows]]), self._bounds)


def _number(name: str | int) -> int:
    """What the randomness of an input depends on."""
    if isinstance(name, str):
        return numeric_id(name)
    try:
        number = operator.index(name)
    except TypeError:
        raise InputError(f"an id must be a name or a whole number, not {name!r:.80}.") from None
    # What does not fit into 32 bits must not have the randomness of what does.
    return number if 0 <= number < 2**32 else numeric_id(str(number))


@dataclasses.dataclass(frozen=True)
class CleanPass:
    """What the victim makes of the clean inputs.

    Attributes:
      prediction: -1 where logits are not finite.
      flags: RANDOMISED where two passes differ, BATCH_DEPENDENT where a few inputs have other
        logits alone than among others, PROBABILITIES where the outputs are in [0, 1] and sum to 1.
      logits: float32.
    """

    prediction: Int[np.ndarray, " rows"]
    flags: UInt[np.ndarray, " rows"]
    logits: Float[np.ndarray, "rows classes"]

    def take(self, rows: Int[np.ndarray, " taken"]) -> "CleanPass":
        """Those of some rows."""
        return CleanPass(self.prediction[rows], self.flags[rows], self.logits[rows])


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
      draws: of the victim's noise under which a finished row is looked at; 1 where it has none.
    """

    source: Source
    labels: Int[np.ndarray, " utterances"]
    ids: UInt[np.ndarray, " utterances"]
    budgets: Float[np.ndarray, "utterances epsilons"]
    clean: CleanPass
    key: Array
    targeted: bool
    keep_x_adv: bool
    draws: int = 1

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


def checked_labels(
    labels: Shaped[np.ndarray, "..."], count: int, num_classes: int
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
