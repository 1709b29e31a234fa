"""MI-FGSM, momentum iterative FGSM: signed steps along a decayed sum of gradients.

    attack = MIFGSM(steps=10, decay=1.0)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])

Source: Dong et al., CVPR 2018, algorithm 1.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import AttackState, LogitsFn, extended, new_state
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.iterated_gradient import IteratedGradient, finish_step, linf_iterate
from jaxser.attacks.projections import per_row, row_norm
from jaxser.runtime.errors import UsageError

__all__ = ["MIFGSM", "MomentumState"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MomentumState(AttackState):
    """State of MI-FGSM.

    Attributes:
      momentum: decayed sum of the normalised gradients.
    """

    momentum: Float[Array, "batch ..."]


@dataclasses.dataclass(frozen=True)
class MIFGSM(IteratedGradient):
    """Momentum iterative FGSM: signed steps along a decayed sum of gradients, inside the ε-box.

    Each gradient enters over the mean of its absolute values, per row. The default is the
    paper's: ten steps of ε / 10.

    Attributes:
      decay: factor on the sum before each step; 0 is BIM.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.2 is the smallest change in L∞
      >>> attack = jaxser.attacks.MIFGSM(decay=0.9)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist()
      [False, True]
    """

    name: ClassVar[str] = "mifgsm"

    steps: int = 10
    relative_step_size: float = 0.1
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < float("inf"):
            raise UsageError(
                f"{self.name}: decay must be finite and not negative, not {self.decay!r}."
            )

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> MomentumState:
        """The clean input, and no momentum."""
        state = new_state(keys, x, y, epsilon)
        return extended(state, MomentumState, momentum=jnp.zeros_like(x))

    def step(self, logits_fn: LogitsFn, state: MomentumState) -> MomentumState:
        """One signed step along the momentum and its projection."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        momentum = self.decay * state.momentum + _over_mean(found.gradient)
        length = self.step_length(state.epsilon)
        moved = linf_iterate(state, momentum, length, self.bounds)
        # With momentum in the state before the freeze, a done row keeps its own.
        done = per_row(state.done, momentum)
        state = dataclasses.replace(state, momentum=jnp.where(done, state.momentum, momentum))
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)


def _over_mean(gradient: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Each row over the mean of its absolute values; a row of zeros stays zero."""
    largest = row_norm(gradient, "linf")
    # Over the largest entry first: the sum of entries such as 1e-40 is nothing to divide by.
    scaled = gradient / per_row(jnp.where(largest > 0, largest, 1.0), gradient)
    mean = row_norm(scaled, "l1") / gradient[0].size
    return scaled / per_row(jnp.where(mean > 0, mean, 1.0), gradient)
