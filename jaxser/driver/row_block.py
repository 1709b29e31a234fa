"""Finished rows, as they leave a run.

for block in attack_rows(victim, waveforms, labels, PGD(), [0.005, 0.01]):
    block.utterance, block.epsilon_index, block.success
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from jaxser.driver.meter import Throughput

__all__ = ["RowBlock"]


@dataclasses.dataclass(frozen=True)
class RowBlock:
    """Rows that finished together, as host arrays; one entry per row.

    Attributes:
      utterance: position among the attacked utterances.
      epsilon_index: position in the list of ε.
      epsilon_amplitude: ε in the units of the attack's norm.
      prediction: class of the adversarial input, -1 where its logits are not finite.
      success: the prediction is not the attacked label, or is the target; of a randomised victim,
        in any of the draws of its noise, one of which ``prediction`` then is of.
      success_share: share of the draws in which it is; 0 or 1 where the victim has no noise.
      logits: of the adversarial input; of a randomised victim in the first draw.
      steps, queries, gradients, flags: as in the attack's state.
      stage: position of the member of an attack sequence that succeeded; -1 where none did or
        had to, and for a single attack.
      found_norm: norm of the smallest adversarial perturbation found whatever ε, by an attack that
        looks for it; NaN where it found none, and for other attacks.
      measures: the entries of ``jaxser.results.perturbation.MEASURES``.
      seconds: steady-state time of the block shared out evenly over its rows.
      x_adv: the adversarial inputs, or None where they were not asked for.
      throughput: of the run up to and including this block.
    """

    utterance: Int[np.ndarray, " rows"]
    epsilon_index: Int[np.ndarray, " rows"]
    epsilon_amplitude: Float[np.ndarray, " rows"]
    prediction: Int[np.ndarray, " rows"]
    success: Bool[np.ndarray, " rows"]
    success_share: Float[np.ndarray, " rows"]
    logits: Float[np.ndarray, "rows classes"]
    steps: Int[np.ndarray, " rows"]
    queries: Int[np.ndarray, " rows"]
    gradients: Int[np.ndarray, " rows"]
    flags: UInt[np.ndarray, " rows"]
    stage: Int[np.ndarray, " rows"]
    found_norm: Float[np.ndarray, " rows"]
    measures: Mapping[str, Float[np.ndarray, " rows"]]
    seconds: Float[np.ndarray, " rows"]
    x_adv: Float[np.ndarray, "rows ..."] | None
    throughput: Throughput

    def __len__(self) -> int:
        return len(self.utterance)

    def take(self, rows: Bool[np.ndarray, " rows"]) -> "RowBlock":
        """The rows that are True."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        measures = {name: column[rows] for name, column in self.measures.items()}
        columns = {
            name: column[rows] for name, column in values.items() if isinstance(column, np.ndarray)
        }
        return dataclasses.replace(self, **columns, measures=measures)
