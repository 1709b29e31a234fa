"""Dense gradient attacks: FGSM, BIM and PGD.

    attack = PGD(steps=40, norm="linf", early_stop=True)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
    sweep = jaxser.run_attack(victim, waveforms, labels, FGSM(), epsilons=[0.001, 0.01, 0.1])

FGSM: Goodfellow et al., ICLR 2015. BIM: Kurakin et al., ICLR Workshop 2017. PGD: Madry et al.,
ICLR 2018, section 2.1. All ascend the cross-entropy of the attacked label (or descend that of
the target); where it is saturated in float32, the margin. The result is the last iterate, as
published; with ``early_stop`` it is the first iterate that succeeds, which costs no extra pass
because an iterate's logits come with its gradient.
"""

import dataclasses
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    MARGIN_FALLBACK,
    NON_FINITE,
    ZERO_GRADIENT,
    AttackState,
    BaseAttack,
    LogitsFn,
    check_positive,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.projections import (
    Bounds,
    Norm,
    clip_to_bounds,
    per_row,
    project_l2,
    project_linf,
    random_l2,
    random_linf,
    unit_l2,
)
from jaxser.errors import UsageError
from jaxser.losses import attack_loss, is_successful, prediction

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "IteratedGradient",
    "LossGradient",
    "finish_step",
    "linf_iterate",
    "loss_gradient",
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossGradient:
    """One forward and one backward pass.

    Attributes:
      gradient: of each row's attack loss, to ascend; zero where it is not finite.
      reached: rows whose input already is what the attack wants.
      flags: what has to be said about the row.
    """

    gradient: Float[Array, "batch ..."]
    reached: Bool[Array, "batch"]
    flags: UInt[Array, "batch"]


def loss_gradient(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, "batch"], targeted: bool
) -> LossGradient:
    """Gradient of the sum over rows of the attack loss, so that no row sees another's."""

    def total(x: Float[Array, "batch ..."]) -> tuple[Float[Array, ""], tuple[Array, Array]]:
        logits = logits_fn(x).astype(jnp.float32)
        loss, fell_back = attack_loss(logits, y, targeted)
        return loss.sum(), (logits, fell_back)

    gradient, (logits, fell_back) = jax.grad(total, has_aux=True)(x)
    axes = tuple(range(1, x.ndim))
    predicted = prediction(logits)
    finite = jnp.isfinite(gradient).all(axis=axes) & (predicted >= 0)
    gradient = jnp.where(per_row(finite, x), gradient, 0.0)
    flags = (
        MARGIN_FALLBACK * (fell_back & finite)
        + ZERO_GRADIENT * (finite & (gradient == 0).all(axis=axes))
        + NON_FINITE * ~finite
    )
    return LossGradient(
        gradient=gradient,
        reached=is_successful(predicted, y, targeted),
        flags=flags.astype(jnp.uint32),
    )


State = TypeVar("State", bound=AttackState)


def finish_step(
    state: State,
    moved: Float[Array, "batch ..."],
    found: LossGradient,
    *,
    steps: int,
    early_stop: bool,
) -> State:
    """Book a step: one forward and one backward pass, and the iterate it led to.

    With ``early_stop``, a row whose iterate was already adversarial keeps that iterate.
    """
    stop = found.reached if early_stop else jnp.zeros_like(found.reached)
    new = dataclasses.replace(
        state,
        x_adv=jnp.where(per_row(stop, moved), state.x_adv, moved),
        done=stop | (state.steps + 1 >= steps),
        steps=state.steps + 1,
        queries=state.queries + 1,
        gradients=state.gradients + 1,
        flags=state.flags | found.flags,
    )
    return freeze_done(state, new)


def linf_iterate(
    state: AttackState,
    gradient: Float[Array, "batch ..."],
    length: Float[Array, "batch"],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """The iterate after a signed step, inside the ε-box and the bounds; zeros do not move."""
    moved = state.x_adv + per_row(length, gradient) * jnp.sign(gradient)
    delta = project_linf(moved - state.x, state.epsilon)
    return clip_to_bounds(state.x + delta, state.x, bounds)


@dataclasses.dataclass(frozen=True)
class FGSM(BaseAttack):
    """Fast gradient sign method: ``x + epsilon * sign(gradient)``, clipped to the bounds."""

    name: ClassVar[str] = "fgsm"

    @property
    def max_steps(self) -> int:
        return 1

    def direction(
        self, logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch ..."], UInt[Array, "batch"]]:
        """Sign of the gradient, the same for every ε, and the row's flags."""
        found = loss_gradient(logits_fn, x, y, self.targeted)
        return jnp.sign(found.gradient), found.flags

    def move(
        self,
        x: Float[Array, "batch ..."],
        direction: Float[Array, "batch ..."],
        epsilon: Float[Array, "batch"],
    ) -> Float[Array, "batch ..."]:
        """``x + epsilon * direction`` inside the bounds."""
        return clip_to_bounds(x + per_row(epsilon, x) * direction, x, self.bounds)

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """The one step."""
        found = loss_gradient(logits_fn, state.x, state.y, self.targeted)
        moved = self.move(state.x, jnp.sign(found.gradient), state.epsilon)
        return finish_step(state, moved, found, steps=1, early_stop=False)


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

    def step_length(self, epsilon: Float[Array, "batch"]) -> Float[Array, "batch"]:
        """Length of a step per row."""
        if self.step_size is None:
            return self.relative_step_size * epsilon
        return jnp.full_like(epsilon, self.step_size)


@dataclasses.dataclass(frozen=True)
class BIM(IteratedGradient):
    """Basic iterative method: small FGSM steps from the clean input, inside the ε-box."""

    name: ClassVar[str] = "bim"

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One signed step and its projection."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        length = self.step_length(state.epsilon)
        moved = linf_iterate(state, found.gradient, length, self.bounds)
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)


@dataclasses.dataclass(frozen=True)
class PGD(IteratedGradient):
    """Projected gradient descent in the L∞ or L2 ball.

    A step follows the sign of the gradient (L∞) or the gradient over its L2 norm (L2). ε is a
    sample value for L∞ and the L2 norm of the whole perturbation for L2.

    Attributes:
      norm: "linf" or "l2".
      random_start: start at a uniform point of the ball, else at the clean input.
    """

    name: ClassVar[str] = "pgd"

    norm: Norm = "linf"
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in ("linf", "l2"):
            raise UsageError(f"{self.name}: norm must be 'linf' or 'l2', not {self.norm!r}.")

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> AttackState:
        """A random point of the ball, or the clean input."""
        state = new_state(keys, x, y, epsilon)
        if not self.random_start:
            return state
        draw = random_linf if self.norm == "linf" else random_l2
        start = x + draw(step_keys(keys, state.steps), epsilon, x)
        return dataclasses.replace(state, x_adv=clip_to_bounds(start, x, self.bounds))

    def step(self, logits_fn: LogitsFn, state: AttackState) -> AttackState:
        """One normalised step and its projection."""
        found = loss_gradient(logits_fn, state.x_adv, state.y, self.targeted)
        length = self.step_length(state.epsilon)
        if self.norm == "linf":
            moved = linf_iterate(state, found.gradient, length, self.bounds)
        else:
            stepped = state.x_adv + per_row(length, state.x) * unit_l2(found.gradient)
            delta = project_l2(stepped - state.x, state.epsilon)
            moved = clip_to_bounds(state.x + delta, state.x, self.bounds)
        return finish_step(state, moved, found, steps=self.steps, early_stop=self.early_stop)
