"""What iterated gradient attacks share: hyper-parameters, a step in the ε-box, its book-keeping.

    found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
    moved = linf_iterate(state, found.gradient, self.step_length(state.epsilon), self.bounds)
    return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)

All ascend the cross-entropy of the attacked label (or descend that of the target); where it is
saturated in float32, the margin. The result is the last iterate, as published; with
``early_stop`` it is the first iterate that succeeds, which costs no extra pass because an
iterate's logits come with its gradient.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.attacks.base import AttackState, BaseAttack, State, freeze_done
from jaxser.attacks.gradient import LossGradient
from jaxser.attacks.hyperparameters import check_positive
from jaxser.attacks.projections import Bounds, clip_to_bounds, per_row, project_linf

__all__ = ["IteratedGradient", "finish_step", "linf_iterate"]


@dataclasses.dataclass(frozen=True)
class IteratedGradient(BaseAttack):
    """What the iterated gradient attacks share: so many steps of a length, from the clean input.

    Attributes:
      steps: iterations.
      step_size: length of a step in the units of ε; None: ``relative_step_size * epsilon``.
      relative_step_size: length of a step as a share of ε, used where ``step_size`` is None.
      early_stop: a row is done at its first adversarial iterate.
    """

    steps: int = 20
    step_size: float | None = None
    relative_step_size: float = 0.25
    early_stop: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            steps=self.steps,
            step_size=self.step_size,
            relative_step_size=self.relative_step_size,
        )

    @property
    def max_steps(self) -> int:
        return self.steps

    @property
    def finishes_early(self) -> bool:
        return self.early_stop

    def step_length(self, epsilon: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Length of a step per row."""
        if self.step_size is None:
            return self.relative_step_size * epsilon
        return jnp.full_like(epsilon, self.step_size)


def linf_iterate(
    state: AttackState,
    gradient: Float[Array, "batch ..."],
    length: Float[Array, " batch"],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """The iterate after a signed step, inside the ε-box and the bounds; zeros do not move."""
    # The bounds come last: x lies inside them as `clip_to_bounds` has them, so clipping moves a
    # sample towards x and cannot leave the ε-box, while the projection could leave the bounds.
    moved = state.x_adv + per_row(length, gradient) * jnp.sign(gradient)
    delta = project_linf(moved - state.x, state.epsilon)
    return clip_to_bounds(state.x + delta, state.x, bounds)


def finish_step(
    state: State,
    moved: Float[Array, "batch ..."],
    found: LossGradient,
    *,
    steps: int,
    early_stop: bool,
    passes: int = 1,
) -> State:
    """Book a step: ``passes`` forward and as many backward passes, and the iterate they led to.

    With ``early_stop``, a row whose iterate was already adversarial keeps that iterate.
    """
    stop = found.reached if early_stop else jnp.zeros_like(found.reached)
    new = dataclasses.replace(
        state,
        x_adv=jnp.where(per_row(stop, moved), state.x_adv, moved),
        done=stop | (state.steps + 1 >= steps),
        steps=state.steps + 1,
        queries=state.queries + passes,
        gradients=state.gradients + passes,
        flags=state.flags | found.flags,
    )
    return freeze_done(state, new)
