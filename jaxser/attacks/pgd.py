"""PGD, projected gradient descent, in the L∞, L2 or L1 ball around the input.

    attack = PGD(steps=40, norm="linf", early_stop=True)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])

Source: Madry et al., ICLR 2018, section 2.1. The L1 step is that of sparse L1 descent (Tramer &
Boneh, NeurIPS 2019, section 4.1), the L1 projection the one onto ball and bounds together (Croce &
Hein, ICML 2021, section 3.1).
"""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import AttackState, LogitsFn, new_state, step_keys
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.hyperparameters import check_at_most_one, check_choice, check_positive
from jaxser.attacks.iterated_gradient import IteratedGradient, finish_step, linf_iterate
from jaxser.attacks.projections import (
    Norm,
    clip_to_bounds,
    per_row,
    project_l1,
    project_l2,
    random_l1,
    random_l2,
    random_linf,
    sparse_sign,
    unit_l2,
)

__all__ = ["PGD"]

_RANDOM_STARTS = {"linf": random_linf, "l2": random_l2, "l1": random_l1}


@dataclasses.dataclass(frozen=True)
class PGD(IteratedGradient):
    """Projected gradient descent in the L∞, L2 or L1 ball.

    A step follows the sign of the gradient (L∞), the gradient over its L2 norm (L2), or the signs
    of its largest entries, which share the step's length (L1). ε is a sample value for L∞ and the
    norm of the whole perturbation for L2 and L1.

    Attributes:
      norm: "linf", "l2" or "l1".
      random_start: start at a uniform point of the ball, else at the clean input.
      l1_share: share of the positions that an L1 step moves.

    Examples:
      The same victim, whose logits are its samples, in two norms: 0.2 is the smallest change in L∞,
      0.4 / √2 = 0.28 in L2.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> attack = jaxser.attacks.PGD(steps=5)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist()
      [False, True]
      >>> attack = jaxser.attacks.PGD(steps=20, norm="l2")
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.25, 0.35])
      >>> result.success[:, 0].tolist()
      [False, True]
    """

    name: ClassVar[str] = "pgd"

    norm: Norm = "linf"
    random_start: bool = True
    l1_share: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "norm", self.norm, tuple(_RANDOM_STARTS))
        check_positive(self.name, l1_share=self.l1_share)
        check_at_most_one(self.name, l1_share=self.l1_share)

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> AttackState:
        """A random point of the ball, or the clean input."""
        state = new_state(keys, x, y, epsilon)
        if not self.random_start:
            return state
        draw = _RANDOM_STARTS[self.norm]
        start = x + draw(step_keys(keys, state.steps), epsilon, x)
        return dataclasses.replace(state, x_adv=clip_to_bounds(start, x, self.bounds))

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One normalised step and its projection."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        moved = self.iterate(state, found.gradient)
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)

    def iterate(
        self, state: AttackState, gradient: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """The iterate after a step along ``gradient``, inside the ball and the bounds."""
        length = self.step_length(state.epsilon)
        if self.norm == "linf":
            return linf_iterate(state, gradient, length, self.bounds)
        if self.norm == "l2":
            stepped = state.x_adv + per_row(length, state.x) * unit_l2(gradient)
            delta = project_l2(stepped - state.x, state.epsilon)
            return clip_to_bounds(state.x + delta, state.x, self.bounds)
        count = max(1, round(self.l1_share * state.x[0].size))
        along = sparse_sign(gradient, state.x_adv, state.x, count, self.bounds)
        stepped = state.x_adv + per_row(length, state.x) * along
        delta = project_l1(stepped - state.x, state.epsilon, state.x, self.bounds)
        return clip_to_bounds(state.x + delta, state.x, self.bounds)
