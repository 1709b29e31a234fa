"""What the attacks of Carlini and Wagner share: the hinge of the margin and its descent by Adam.

    found = margin_gradient(logits_fn, moved, state.y, self.targeted)
    hinge = self.hinge(found.loss, found.logits)
    ended, last_loss = self.ended(state, distance + state.const * hinge)
    changes = self.descended(state, found, gradient, rate, ended, last_loss)

Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section VI. All
minimise a distance plus c times the hinge of the margin (their loss f6, rearranged so that it is
zero exactly where the input is adversarial with the wanted confidence) by Adam, over a variable
whose tanh keeps the input inside its bounds, and differ in what happens around that descent: L2
searches for the smallest c that succeeds, L∞ shrinks a tolerated amplitude τ, L0 shrinks the set
of samples that may change. Every row is a state machine of its own: it counts its own iterations,
moves its own c, τ or set, and ends its descents when it sees fit, so rows at different stages share
a batch and slots are refilled. One step of an attack is one forward and one backward pass.

An input counts as adversarial only where rounding alone cannot take that back, also with zero
confidence: another program of the victim, such as that of another batch size, may round in
another way.

``compat="art"`` gives the variants of the Adversarial Robustness Toolbox, which descend differently
(see each class).
"""

import dataclasses
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.adam import adam, reset_rows
from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    extended,
)
from jaxser.attacks.gradient import RowGradient, row_gradient
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.linearisation import safe_margin
from jaxser.attacks.losses import margin_loss
from jaxser.attacks.projections import (
    Bounds,
    per_row,
)
from jaxser.runtime.errors import UsageError

__all__ = [
    "Carlini",
    "DescentState",
    "GrowingConst",
    "attack_margin",
    "check_compat",
    "margin_gradient",
]

# A descent has stalled when its loss is above this share of what it was a tenth of the steps ago.
_PROGRESS, _CHECKS = 0.9999, 10


def attack_margin(
    logits: Float[Array, "batch classes"], y: Int[Array, " batch"], targeted: bool
) -> Float[Array, " batch"]:
    """How far the logits are on the side that the attack wants."""
    margin = margin_loss(logits, y)
    return -margin if targeted else margin


def margin_gradient(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, " batch"], targeted: bool
) -> RowGradient:
    """The margin and its gradient; c comes in after the backward pass and underflows nothing."""

    def loss(logits: Float[Array, "batch classes"]) -> tuple[Float[Array, " batch"], int]:
        return attack_margin(logits, y, targeted), 0

    return row_gradient(logits_fn, x, y, targeted, loss)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DescentState(AttackState):
    """A descent by Adam in each row.

    Attributes:
      offset: the variable, zero at x (see :func:`jaxser.attacks.tanh_space.in_box`).
      first, second: Adam's moments.
      iteration: of the running descent.
      const: the weight c of the hinge.
      best: distance of ``x_adv``, squared for L2; infinite before the first success.
      improved: whether the running descent has found what it is for.
      last_loss: when progress was last checked.
    """

    offset: Float[Array, "batch ..."]
    first: Float[Array, "batch ..."]
    second: Float[Array, " batch *rest"]
    iteration: Int[Array, " batch"]
    const: Float[Array, " batch"]
    best: Float[Array, " batch"]
    improved: Bool[Array, " batch"]
    last_loss: Float[Array, " batch"]


Descent = TypeVar("Descent", bound=DescentState)


@dataclasses.dataclass(frozen=True)
class Carlini(MinimalNormAttack):
    """What the three attacks share; a subclass has a state of its own and the step.

    Attributes:
      confidence: the margin of logits (κ) that an adversarial input must have.
      learning_rate: Adam's, in tanh space; in units of the input where there are no bounds.
      steps: iterations of a descent.
      abort_early: end a descent whose loss has not fallen by a tenth of a per mille within a
        tenth of its steps.
      initial_const: the first c.
    """

    confidence: float = 0.0
    learning_rate: float = 0.01
    steps: int = 100
    abort_early: bool = True
    initial_const: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            learning_rate=self.learning_rate,
            steps=self.steps,
            initial_const=self.initial_const,
        )
        if not 0 <= self.confidence < math.inf:
            raise UsageError(
                f"{self.name}: confidence must be zero or positive, not {self.confidence!r}."
            )

    def started(
        self, state: AttackState, cls: type[Descent], *, per_sample: bool, **more: Array
    ) -> Descent:
        """``state`` as ``cls`` before the first descent."""
        blank, infinite = jnp.zeros_like(state.x), jnp.full_like(state.epsilon, jnp.inf)
        return extended(
            state,
            cls,
            offset=blank,
            first=blank,
            second=blank if per_sample else jnp.zeros_like(state.epsilon),
            iteration=jnp.zeros_like(state.steps),
            const=jnp.full_like(state.epsilon, self.initial_const),
            best=infinite,
            improved=jnp.zeros_like(state.done),
            last_loss=infinite,
            **more,
        )

    def hinge(
        self, margin: Float[Array, " batch"], logits: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """What is missing of the wanted margin; an input is adversarial where nothing is.

        The wanted margin is at least what rounding cannot take back, also with zero confidence.
        """
        return jax.nn.relu(jnp.maximum(self.confidence, safe_margin(logits)) - margin)

    def capped_rate(
        self, share: float | None, amplitude: Float[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """The learning rate, at most ``share`` of an amplitude given in units of the input.

        An infinite amplitude, of a row that has found nothing yet, is no limit.
        """
        if share is None:
            return jnp.full_like(amplitude, self.learning_rate)
        half = 1.0 if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2
        return jnp.minimum(self.learning_rate, share * amplitude / half)

    def opens_tenth(self, state: DescentState) -> Bool[Array, " batch"]:
        """Whether this iteration opens another tenth of the descent."""
        return state.iteration % math.ceil(self.steps / _CHECKS) == 0

    def ended(
        self, state: DescentState, loss: Float[Array, " batch"]
    ) -> tuple[Bool[Array, " batch"], Float[Array, " batch"]]:
        """Whether the descent of a row is over, and the loss to compare with next time."""
        over = state.iteration + 1 >= self.steps
        if not self.abort_early:
            return over, state.last_loss
        check = self.opens_tenth(state)
        # Not the greater-than: a loss that is NaN has stalled too.
        stalled = check & ~(loss <= _PROGRESS * state.last_loss)
        return over | stalled, jnp.where(check, loss, state.last_loss)

    def descended(
        self,
        state: DescentState,
        found: RowGradient,
        gradient: Float[Array, "batch ..."],
        rate: Float[Array, " batch"],
        ended: Bool[Array, " batch"],
        last_loss: Float[Array, " batch"],
    ) -> dict[str, Array]:
        """What every step changes: a step of Adam, or a fresh start of it, and the counters."""
        first, second, step = adam(state.first, state.second, gradient, state.iteration + 1)
        return {
            "offset": state.offset - per_row(rate, step) * step,
            "first": reset_rows(ended, first),
            "second": reset_rows(ended, second),
            "iteration": jnp.where(ended, 0, state.iteration + 1),
            "last_loss": jnp.where(ended, jnp.inf, last_loss),
            "steps": state.steps + 1,
            "queries": state.queries + 1,
            "gradients": state.gradients + 1,
            "flags": state.flags | found.flags,
        }


@dataclasses.dataclass(frozen=True)
class GrowingConst(Carlini):
    """An attack whose c grows where a descent fails, as L∞'s and L0's does.

    Attributes:
      largest_const: where c ends.
      const_factor: of c at a failure.
    """

    largest_const: float = 20.0
    const_factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.const_factor < math.inf:
            raise UsageError(
                f"{self.name}: const_factor must be more than 1, not {self.const_factor!r}."
            )
        if not self.initial_const < self.largest_const < math.inf:
            raise UsageError(
                f"{self.name}: largest_const must be more than initial_const, "
                f"not {self.largest_const!r}."
            )


def check_compat(attack: str, compat: str | None, bounds: Bounds) -> None:
    """Refuse an unknown variant, and ART's without the bounds that its tanh space needs."""
    check_choice(attack, "compat", compat, (None, "art"))
    if compat == "art" and bounds is None:
        raise UsageError(f"{attack}: compat='art' needs bounds; give (low, high).")
