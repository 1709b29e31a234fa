"""Sparse PGD: only a given number of samples move.

    attack = SparsePGD(count=6_500, steps=20)                     # 6,500 positions per iteration
    attack = SparsePGD(share=0.05, variant="strict")              # at most 5 % of the positions
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.01])

``variant="union"`` is the baseline of STAA-Net (arXiv 2402.01227, section IV): each iteration
moves the ``count`` positions with the largest gradient of that iteration, so the union of changed
positions grows beyond ``count``. ``variant="strict"`` keeps at most ``count`` changed positions by
projecting on the L0 ball intersected with the ε-box after every step, the PGD0 of Croce & Hein
(ICCV 2019, section 4.1); its step is the gradient over its largest entry.

Source: STAA-Net (arXiv 2402.01227, section IV), and Croce & Hein, ICCV 2019, section 4.1.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import AttackState, LogitsFn, new_state, step_keys
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.hyperparameters import check_at_most_one, check_choice, check_positive
from jaxser.attacks.iterated_gradient import IteratedGradient, finish_step, linf_iterate
from jaxser.attacks.projections import (
    clip_to_bounds,
    largest_mask,
    per_row,
    project_l0_linf,
    random_linf,
    row_norm,
)

__all__ = ["SparsePGD"]


@dataclasses.dataclass(frozen=True)
class SparsePGD(IteratedGradient):
    """PGD in the ε-box that moves few positions.

    Attributes:
      variant: "union" (``count`` positions per iteration) or "strict" (``count`` in all).
      count: positions; None: ``share`` of the input.
      share: positions as a share of the input, used where ``count`` is None.
      random_start: start from ``count`` random positions moved by a uniform amount, as
        STAA-Net's baseline does; it spends positions on noise, so it is off by default.

    Examples:
      One sample alone has to move by all of the victim's lead, 0.4.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> attack = jaxser.attacks.SparsePGD(variant="strict", count=1, steps=10)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.3, 0.5])
      >>> result.success[:, 0].tolist(), result.measures["l0"][1, 0].item()
      ([False, True], 1.0)
    """

    name: ClassVar[str] = "sparsepgd"

    variant: Literal["union", "strict"] = "union"
    count: int | None = None
    share: float = 0.05
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, count=self.count, share=self.share)
        check_at_most_one(self.name, share=self.share)
        check_choice(self.name, "variant", self.variant, ("union", "strict"))

    def positions(self, size: int) -> int:
        """How many of ``size`` positions may move (per iteration, or in all)."""
        wanted = max(1, round(self.share * size)) if self.count is None else self.count
        return min(wanted, size)

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> AttackState:
        """``count`` random positions moved within the box, or the clean input."""
        state = new_state(keys, x, y, epsilon)
        if not self.random_start:
            return state
        chosen, amount = jnp.moveaxis(
            jax.vmap(jax.random.split)(step_keys(keys, state.steps)), 1, 0
        )
        score = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(chosen)
        mask = largest_mask(score, self.positions(x[0].size))
        start = x + jnp.where(mask, random_linf(amount, epsilon, x), 0.0)
        return dataclasses.replace(state, x_adv=clip_to_bounds(start, x, self.bounds))

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One sparse step, or one dense step and its projection on the L0 ball."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        count = self.positions(state.x[0].size)
        length = self.step_length(state.epsilon)
        gradient = found.gradient
        if self.variant == "union":
            sparse = jnp.where(largest_mask(jnp.abs(gradient), count), gradient, 0.0)
            moved = linf_iterate(state, sparse, length, self.bounds)
        else:
            # The gradient itself, not its sign: signs are all equal, and the projection on the L0
            # ball would have to choose among them by index.
            largest = row_norm(gradient, "linf")
            scaled = gradient / per_row(jnp.where(largest > 0, largest, 1.0), gradient)
            delta = state.x_adv - state.x + per_row(length, gradient) * scaled
            moved = state.x + project_l0_linf(delta, state.epsilon, count, state.x, self.bounds)
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)
