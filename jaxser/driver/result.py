"""A whole run in memory: one array ``[epsilons, batch]`` for everything that its rows say.

result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
result.success.mean(axis=1)                                      # per ε
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from jaxser.attacks.base import Attack
from jaxser.driver.budgets import EpsilonUnit
from jaxser.driver.meter import Throughput
from jaxser.driver.sequence import AttackSequence

__all__ = ["RESULT_COLUMNS", "AttackResult"]


@dataclasses.dataclass(frozen=True, eq=False)
class AttackResult:
    """A whole run in memory.

    Attributes:
      attack: with its hyper-parameters, within the bounds that it kept to.
      epsilons: the budgets, as they were given.
      epsilon_unit: "amplitude", "snr_peak" or "snr_power".
      epsilon_amplitude: each budget as the norm of the perturbation that it allows.
      labels: labels that were attacked, ``[batch]``.
      clean_prediction: of the clean inputs, ``[batch]``; -1 where logits are not finite.
      x_adv: adversarial inputs.
      prediction: class of each adversarial input; -1 where its logits are not finite.
      success: the prediction is not the attacked label, or is the target; of a randomised victim,
        in any of the draws of its noise, one of which ``prediction`` then is of.
      success_share: share of the draws in which it is; 0 or 1 where the victim has no noise.
      steps, queries, gradients: spent per row; what several ε share stands in each of their rows:
        FGSM's gradient, and all that an attack spends that looks for the smallest perturbation.
      flags: union of the bits in ``jaxser.attacks.base.FLAG_NAMES``.
      stage: position of the member of an attack sequence that succeeded; -1 where none did or
        had to, and for a single attack.
      found_norm: norm of the smallest adversarial perturbation found whatever ε, by an attack that
        looks for it; NaN where it found none, and for other attacks.
      measures: the entries of ``jaxser.results.perturbation.MEASURES``.
      throughput: what the run cost.
    """

    attack: Attack | AttackSequence
    epsilons: tuple[float, ...]
    epsilon_unit: EpsilonUnit
    epsilon_amplitude: Float[np.ndarray, "epsilons batch"]
    labels: Int[np.ndarray, " batch"]
    clean_prediction: Int[np.ndarray, " batch"]
    x_adv: Float[np.ndarray, "epsilons batch ..."]
    prediction: Int[np.ndarray, "epsilons batch"]
    success: Bool[np.ndarray, "epsilons batch"]
    success_share: Float[np.ndarray, "epsilons batch"]
    steps: Int[np.ndarray, "epsilons batch"]
    queries: Int[np.ndarray, "epsilons batch"]
    gradients: Int[np.ndarray, "epsilons batch"]
    flags: UInt[np.ndarray, "epsilons batch"]
    stage: Int[np.ndarray, "epsilons batch"]
    found_norm: Float[np.ndarray, "epsilons batch"]
    measures: Mapping[str, Float[np.ndarray, "epsilons batch"]]
    throughput: Throughput

    @property
    def robust_accuracy(self) -> Float[np.ndarray, " epsilons"]:
        """Share of the inputs whose prediction is the attacked label still; NaN with targets."""
        if self.attack.targeted:
            return np.full(len(self.epsilons), np.nan)
        return (self.prediction == self.labels).mean(axis=1)

    def __repr__(self) -> str:
        if self.attack.targeted:
            name, shares = "target reached", self.success.mean(axis=1)
        else:
            name, shares = "robust accuracy", self.robust_accuracy
        budgets = " ".join(f"{epsilon:g}" for epsilon in self.epsilons)
        unit = "" if self.epsilon_unit == "amplitude" else f" {self.epsilon_unit}"
        return (
            f"AttackResult({self.attack.name}, {self.success.size} rows: {len(self.labels)} inputs "
            f"x epsilon {budgets}{unit}, {name} {' '.join(f'{share:.1%}' for share in shares)})"
        )


# Fields of a result that a block of rows has, too; the measures apart.
RESULT_COLUMNS = (
    "epsilon_amplitude",
    "prediction",
    "success",
    "success_share",
    "steps",
    "queries",
    "gradients",
    "flags",
    "stage",
    "found_norm",
)
