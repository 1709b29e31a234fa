"""BIM, the basic iterative method: small signed steps inside the ε-box.

    attack = BIM(steps=100, relative_step_size=1 / 3)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])

Source: Kurakin et al., ICLR Workshop 2017.
"""

import dataclasses
from typing import ClassVar

from jaxser.attacks.base import AttackState, LogitsFn
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.iterated_gradient import IteratedGradient, finish_step, linf_iterate

__all__ = ["BIM"]


@dataclasses.dataclass(frozen=True)
class BIM(IteratedGradient):
    """Basic iterative method: small FGSM steps from the clean input, inside the ε-box.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.2 is the smallest change in L∞
      >>> attack = jaxser.attacks.BIM(steps=5)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist(), result.gradients[:, 0].tolist()
      ([False, True], [5, 5])
    """

    name: ClassVar[str] = "bim"

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One signed step and its projection."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        length = self.step_length(state.epsilon)
        moved = linf_iterate(state, found.gradient, length, self.bounds)
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)
