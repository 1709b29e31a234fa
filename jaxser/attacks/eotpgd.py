"""EOT-PGD: PGD along the expected gradient of a victim that is randomised.

    attack = EOTPGD(steps=40, samples=10)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])

Source: Zimmermann, arXiv 1907.00895.
"""

import dataclasses
from typing import ClassVar

from jaxser.attacks.base import AttackState, LogitsFn
from jaxser.attacks.gradient import expected_gradient
from jaxser.attacks.hyperparameters import check_positive
from jaxser.attacks.iterated_gradient import finish_step
from jaxser.attacks.pgd import PGD
from jaxser.attacks.randomised import RandomLogits

__all__ = ["EOTPGD"]


@dataclasses.dataclass(frozen=True)
class EOTPGD(PGD):
    """PGD along the expected gradient of a randomised victim.

    A victim that is not randomised has one gradient whatever the draw, so one pass serves it and
    the attack is PGD.

    Attributes:
      samples: draws of the victim's noise per step.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> victim = jaxser.Victim(lambda variables, x: 10 * x, {}, ("anger", "joy"), (2,))
      >>> noisy = jaxser.victims.smoothed(victim, sigma=0.01, samples=2)
      >>> attack = jaxser.attacks.EOTPGD(steps=5, samples=3)
      >>> result = jaxser.run_attack(noisy, np.float32([[0.3, -0.1]]), [0], attack, [0.1, 0.3])
      >>> result.success[:, 0].tolist(), result.gradients[0, 0].item()  # three a step
      ([False, True], 15)
    """

    name: ClassVar[str] = "eotpgd"

    samples: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, samples=self.samples)

    @property
    def forward_rows(self) -> int:
        return self.samples

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One step along the mean gradient and its projection."""
        if not isinstance(logits_fn, RandomLogits):
            return super().step(logits_fn, state)
        found = expected_gradient(logits_fn, state.x_adv, state.y, self.targeted, self.samples)
        moved = self.iterate(state, found.gradient)
        return finish_step(
            state,
            moved,
            found,
            steps=self.steps,
            early_stop=self.early_stop,
            passes=self.samples,
        )
