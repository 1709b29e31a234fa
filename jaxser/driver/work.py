"""What a run attacks: inputs, labels, and a budget for every (utterance, ε) pair."""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt

from jaxser.driver.inputs import Inputs
from jaxser.driver.source import Source
from jaxser.runtime.errors import InputError

__all__ = [
    "CleanPass",
    "Work",
    "checked_labels",
]


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
      source: the inputs, on the host.
      inputs: the same as the devices read them.
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
    inputs: Inputs
    labels: Int[np.ndarray, " utterances"]
    ids: UInt[np.ndarray, " utterances"]
    budgets: Float[np.ndarray, "utterances epsilons"]
    clean: CleanPass
    key: Array
    targeted: bool
    keep_x_adv: bool
    draws: int = 1


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
