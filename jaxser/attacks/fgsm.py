"""FGSM, the fast gradient sign method: one signed step of length ε, or the smallest that succeeds.

    sweep = jaxser.run_attack(victim, waveforms, labels, FGSM(), epsilons=[0.001, 0.01, 0.1])
    smallest = jaxser.run_attack(victim, waveforms, labels, FGSM(minimal=True), epsilons=[0.1])

Source: Goodfellow et al., ICLR 2015. The direction does not depend on ε, so the driver takes one
gradient for a whole sweep (:class:`jaxser.attacks.base.SharedDirection`).
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt

from jaxser.attacks.base import (
    AttackState,
    BaseAttack,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
)
from jaxser.attacks.gradient import loss_gradient
from jaxser.attacks.hyperparameters import check_positive
from jaxser.attacks.iterated_gradient import finish_step
from jaxser.attacks.losses import is_successful, prediction
from jaxser.attacks.projections import clip_to_bounds, per_row, row_norm
from jaxser.runtime.errors import UsageError

__all__ = ["FGSM", "WalkState"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WalkState(AttackState):
    """State of the minimal FGSM.

    Attributes:
      signs: of the gradient at the clean input.
    """

    signs: Float[Array, "batch ..."]


@dataclasses.dataclass(frozen=True)
class FGSM(BaseAttack):
    """Fast gradient sign method: ``x + epsilon * sign(gradient)``, clipped to the bounds.

    With ``minimal``, as ART has it, the smallest ε along the walk ``step_size``,
    ``2 * step_size``, … that succeeds: one gradient, then forward passes alone. The multiples are
    exact, where ART adds up floats and with its defaults (0.1 up to 0.3) never tries 0.3; and
    where none succeeds the result is the clean input, ART's the largest ε.

    Attributes:
      minimal: look for the smallest ε instead of taking the one given.
      step_size: of the walk, in the input's units.
      max_epsilon: end of the walk.
      candidates: values of ε tried in one forward pass; no result depends on it.

    Examples:
      A victim whose logits are its samples: class 0 leads by 0.4, and ε moves both sides of that by
      ε, so that 0.2 is where the answer changes.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> attack = jaxser.attacks.FGSM()
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist()
      [False, True]
      >>> print(result.x_adv[1, 0].round(2))
      [ 0.05  0.15 -0.05]
    """

    name: ClassVar[str] = "fgsm"

    minimal: bool = False
    step_size: float = 0.001
    max_epsilon: float = 0.3
    candidates: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            step_size=self.step_size,
            max_epsilon=self.max_epsilon,
            candidates=self.candidates,
        )
        if self.minimal and self.multiples == 0:
            raise UsageError(
                f"{self.name}: max_epsilon = {self.max_epsilon!r} is below the first step "
                f"{self.step_size!r}; give a larger one."
            )

    @property
    def multiples(self) -> int:
        """How many multiples of ``step_size`` there are up to ``max_epsilon``."""
        # 0.3 / 0.1 is just under 3.
        return math.floor(self.max_epsilon / self.step_size * (1 + 1e-9))

    @property
    def max_steps(self) -> int:
        return -(-self.multiples // self.candidates) if self.minimal else 1

    @property
    def finishes_early(self) -> bool:
        return self.minimal

    @property
    def minimal_norm(self) -> bool:
        return self.minimal

    @property
    def forward_rows(self) -> int:
        return self.candidates if self.minimal else 1

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> AttackState:
        """The clean input; for the walk, its gradient too."""
        state = new_state(keys, x, y, epsilon)
        if not self.minimal:
            return state
        found = loss_gradient(logits_fn, x, y, self.targeted)
        signs = jnp.sign(found.gradient)
        state = dataclasses.replace(
            state,
            done=found.reached | (row_norm(signs, "linf") == 0),
            queries=state.queries + 1,
            gradients=state.gradients + 1,
            flags=found.flags,
        )
        return extended(state, WalkState, signs=signs)

    def direction(
        self, logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch ..."], UInt[Array, " batch"]]:
        """Sign of the gradient, the same for every ε, and the row's flags."""
        found = loss_gradient(logits_fn, x, y, self.targeted)
        return jnp.sign(found.gradient), found.flags

    def move(
        self,
        x: Float[Array, "batch ..."],
        direction: Float[Array, "batch ..."],
        epsilon: Float[Array, " batch"],
    ) -> Float[Array, "batch ..."]:
        """``x + epsilon * direction`` inside the bounds."""
        return clip_to_bounds(x + per_row(epsilon, x) * direction, x, self.bounds)

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """The one step, or the next few of the walk."""
        if isinstance(state, WalkState):
            return self._walk(logits_fn, state)
        found = loss_gradient(logits_fn, state.x, state.y, self.targeted)
        moved = self.move(state.x, jnp.sign(found.gradient), state.epsilon)
        return finish_step(state, moved, found, steps=1, early_stop=False)

    def _walk(self, logits_fn: LogitsFn, state: WalkState) -> WalkState:
        """The next ``candidates`` multiples in one forward pass."""
        ahead = jnp.arange(1, self.candidates + 1)[None, :]
        multiple = self.candidates * state.steps[:, None] + ahead
        tried = multiple <= self.multiples
        epsilon = self.step_size * multiple.astype(jnp.float32)
        # From the clean input by an exact multiple each: sums of float32 steps would drift.
        moved = jax.vmap(self.move, in_axes=(None, None, 1), out_axes=1)(
            state.x, state.signs, epsilon
        )
        logits = logits_fn(moved.reshape(-1, *state.x.shape[1:])).astype(jnp.float32)
        predicted = prediction(logits).reshape(multiple.shape)
        # The last pass of the walk may reach beyond its end; those candidates are not counted.
        succeeds = tried & is_successful(predicted, state.y[:, None], self.targeted)
        found = succeeds.any(axis=1)
        smallest = jnp.take_along_axis(epsilon, succeeds.argmax(axis=1)[:, None], axis=1)[:, 0]
        best = self.move(state.x, state.signs, smallest)
        steps = state.steps + 1
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(found, best), best, state.x),
            done=found | (steps >= self.max_steps),
            steps=steps,
            queries=state.queries + tried.sum(axis=1),
        )
        return freeze_done(state, new)
