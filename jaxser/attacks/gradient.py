"""Gradient attacks: FGSM, BIM, MI-FGSM, PGD and EOT-PGD.

    attack = PGD(steps=40, norm="linf", early_stop=True)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
    sweep = jaxser.run_attack(victim, waveforms, labels, FGSM(), epsilons=[0.001, 0.01, 0.1])
    smallest = jaxser.run_attack(victim, waveforms, labels, FGSM(minimal=True), epsilons=[0.1])

FGSM: Goodfellow et al., ICLR 2015. BIM: Kurakin et al., ICLR Workshop 2017. MI-FGSM: Dong et
al., CVPR 2018, algorithm 1. PGD: Madry et al., ICLR 2018, section 2.1; its L1 step is that of
sparse L1 descent (Tramer & Boneh, NeurIPS 2019, section 4.1), its L1 projection the one onto ball
and bounds together (Croce & Hein, ICML 2021, section 3.1). EOT-PGD: Zimmermann, arXiv 1907.00895.

All ascend the cross-entropy of the attacked label (or descend that of the target); where it is
saturated in float32, the margin. The result is the last iterate, as published; with
``early_stop`` it is the first iterate that succeeds, which costs no extra pass because an
iterate's logits come with its gradient.
"""

import dataclasses
import math
from typing import ClassVar

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
    RandomLogits,
    State,
    check_choice,
    check_positive,
    extended,
    freeze_done,
    independent_draws,
    new_state,
    step_keys,
)
from jaxser.attacks.losses import attack_loss, is_successful, prediction
from jaxser.attacks.projections import (
    Bounds,
    Norm,
    clip_to_bounds,
    largest_mask,
    per_row,
    project_l1,
    project_l2,
    project_linf,
    random_l1,
    random_l2,
    random_linf,
    row_norm,
    unit_l2,
)
from jaxser.runtime.errors import UsageError

__all__ = [
    "BIM",
    "EOTPGD",
    "FGSM",
    "MIFGSM",
    "PGD",
    "IteratedGradient",
    "LossGradient",
    "expected_gradient",
    "finish_step",
    "linf_iterate",
    "loss_gradient",
    "sparse_sign",
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


def expected_gradient(
    logits_fn: RandomLogits,
    x: Float[Array, "batch ..."],
    y: Int[Array, "batch"],
    targeted: bool,
    samples: int,
) -> LossGradient:
    """Mean gradient over ``samples`` draws of the victim's noise, in one pass over all of them.

    A row counts as reached where most draws are, and is flagged where any draw is.
    """
    found = loss_gradient(
        independent_draws(logits_fn, samples),
        jnp.repeat(x, samples, axis=0),
        jnp.repeat(y, samples),
        targeted,
    )
    flags = found.flags.reshape(-1, samples)
    return LossGradient(
        gradient=found.gradient.reshape(-1, samples, *x.shape[1:]).mean(axis=1),
        reached=found.reached.reshape(-1, samples).mean(axis=1) > 0.5,
        flags=jax.lax.reduce(flags, jnp.uint32(0), jax.lax.bitwise_or, (1,)),
    )


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


def sparse_sign(
    gradient: Float[Array, "batch ..."],
    at: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    count: int | Int[Array, "batch"],
    bounds: Bounds,
) -> Float[Array, "batch ..."]:
    """Direction of L1 norm 1: the signs of the ``count`` largest entries of the gradient.

    Entries that would push a sample of ``at`` out of the bounds are passed over.
    """
    movable = gradient
    if bounds is not None:
        limit = clip_to_bounds(jnp.where(gradient > 0, jnp.inf, -jnp.inf), x, bounds)
        # ``x + (limit - x)`` is the limit but for rounding.
        rounding = 2.0**-22 * (jnp.abs(limit) + jnp.abs(x))
        movable = jnp.where(jnp.abs(limit - at) > rounding, gradient, 0.0)
    signs = jnp.where(largest_mask(jnp.abs(movable), count), jnp.sign(movable), 0.0)
    return signs / per_row(jnp.maximum(row_norm(signs, "l1"), 1.0), signs)


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
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
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
        moved = jax.vmap(self.move, in_axes=(None, None, 1), out_axes=1)(
            state.x, state.signs, epsilon
        )
        logits = logits_fn(moved.reshape(-1, *state.x.shape[1:])).astype(jnp.float32)
        predicted = prediction(logits).reshape(multiple.shape)
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
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
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
    """

    name: ClassVar[str] = "pgd"

    norm: Norm = "linf"
    random_start: bool = True
    l1_share: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "norm", self.norm, tuple(_RANDOM_STARTS))
        check_positive(self.name, l1_share=self.l1_share)
        if self.l1_share > 1:
            raise UsageError(f"{self.name}: l1_share must be at most 1, not {self.l1_share!r}.")

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


_RANDOM_STARTS = {"linf": random_linf, "l2": random_l2, "l1": random_l1}


@dataclasses.dataclass(frozen=True)
class EOTPGD(PGD):
    """PGD along the expected gradient of a randomised victim.

    A victim that is not randomised has one gradient whatever the draw, so one pass serves it and
    the attack is PGD.

    Attributes:
      samples: draws of the victim's noise per step.
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
