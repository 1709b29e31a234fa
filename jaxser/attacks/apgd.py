"""Auto-PGD: PGD with momentum that sets its own step size.

    attack = APGD(loss="dlr", steps=100, restarts=3)
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.005, 0.01])
    strongest = APGD(loss="targeted_dlr", target_classes=9)
    highest_loss = APGD(early_stop=False)

Source: Croce & Hein, ICML 2020, algorithm 1 and equations 3 to 6. Each row starts at a random
point on the sphere of its ball with steps of 2ε. At the checkpoints, which come the closer the
later, a row whose loss rose too seldom, or whose best loss is the same since its last checkpoint
without a change of step size, halves its step and goes on from its best point. For L1 it is the
sparse variant of Croce & Hein, ICML 2021, section 4.1, with one ε throughout.

The losses to ascend are the cross-entropy ("ce"), the margin, the difference of logits ratio
("dlr", for three classes or more), which no rescaling of the logits changes, and its targeted form
("targeted_dlr", for four or more), tried towards the likeliest other classes in turn. Where a
victim has fewer classes the margin, towards the same class, takes the ratio's place and the rows
are flagged.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    FEW_CLASSES,
    MARGIN_FALLBACK,
    NON_FINITE,
    ZERO_GRADIENT,
    AttackState,
    BaseAttack,
    LogitsFn,
    RandomLogits,
    check_positive,
    extended,
    freeze_done,
    independent_draws,
    new_state,
    step_keys,
)
from jaxser.attacks.gradient import sparse_sign
from jaxser.attacks.losses import attack_loss, is_successful, margin_loss, prediction
from jaxser.attacks.projections import (
    Norm,
    clip_to_bounds,
    per_row,
    project_l1,
    project_l2,
    project_linf,
    row_norm,
    unit_l2,
)
from jaxser.runtime.errors import UsageError

__all__ = ["APGD", "dlr_loss", "targeted_dlr_loss"]

# Classes that the difference of logits ratios divide by.
_DLR_CLASSES, _TARGETED_DLR_CLASSES = 3, 4

# First window, shortest window and shortening per window, as shares of the iterations.
_WINDOW, _SHORTEST, _SHORTER = 0.22, 0.06, 0.03
_WINDOW_L1 = 0.04
_MOMENTUM = 0.75

# Of the sparse variant: share of the positions in the first steps, the divisor of the share and
# of the step, the shortest step, and what counts as a fall of the sparsity.
_L1_SHARE, _L1_DIVISOR, _L1_SHORTEST, _L1_FALL = 0.2, 1.5, 0.1, 0.95


def dlr_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Margin over the distance of the first from the third logit (Croce & Hein 2020, eq. 6)."""
    top, _ = jax.lax.top_k(logits, _DLR_CLASSES)
    return margin_loss(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr_loss(
    logits: Float[Array, "batch classes"], leave: Int[Array, "batch"], reach: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Lead of ``reach`` over ``leave``, scaled (Croce & Hein 2020, eq. 7)."""
    top, _ = jax.lax.top_k(logits, _TARGETED_DLR_CLASSES)
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12
    return _lead(logits, leave, reach) / scale


def _lead(
    logits: Float[Array, "batch classes"], leave: Int[Array, "batch"], reach: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """The logit of ``reach`` over that of ``leave``."""
    pair = jnp.take_along_axis(logits, jnp.stack([leave, reach], axis=1), axis=1)
    return pair[:, 1] - pair[:, 0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class APGDState(AttackState):
    """State of APGD; everything but ``score`` and ``others`` is of the present run.

    Attributes:
      now: point to be looked at next.
      previous: point that the step to ``now`` set out from.
      best: point with the highest loss.
      best_gradient: gradient there.
      loss: at the last point.
      best_loss: at ``best``.
      checked_loss: ``best_loss`` at the last checkpoint.
      rises: times the loss has risen since the last checkpoint.
      length: length of a step.
      reduced: whether the last checkpoint changed it.
      moving: positions that a step moves (L1).
      changed: positions that ``best`` differed in at the last checkpoint (L1).
      score: margin of ``x_adv``, over all runs.
      others: the class of each run's targeted loss beside ``y``.
    """

    now: Float[Array, "batch ..."]
    previous: Float[Array, "batch ..."]
    best: Float[Array, "batch ..."]
    best_gradient: Float[Array, "batch ..."]
    loss: Float[Array, "batch"]
    best_loss: Float[Array, "batch"]
    checked_loss: Float[Array, "batch"]
    rises: Int[Array, "batch"]
    length: Float[Array, "batch"]
    reduced: Bool[Array, "batch"]
    moving: Int[Array, "batch"]
    changed: Int[Array, "batch"]
    score: Float[Array, "batch"]
    others: Int[Array, "batch runs"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Look:
    """What one look at the present points tells, the mean over draws of the victim's noise."""

    gradient: Float[Array, "batch ..."]
    loss: Float[Array, "batch"]
    score: Float[Array, "batch"]
    reached: Bool[Array, "batch"]
    flags: UInt[Array, "batch"]


@dataclasses.dataclass(frozen=True)
class APGD(BaseAttack):
    """Auto-PGD in the L∞, L2 or L1 ball.

    The result is the point with the largest margin; with ``early_stop`` the first adversarial
    one, or the clean input where that is one. A run costs ``steps + 1`` gradients: one at the
    start and one after each step.

    Attributes:
      steps: iterations of a run.
      norm: "linf", "l2" or "l1".
      loss: "ce", "margin", "dlr" or "targeted_dlr".
      restarts: runs, each from its own random start; with "targeted_dlr", for each class.
      target_classes: classes that "targeted_dlr" tries, from the likeliest at the clean input.
        A targeted attack has its one target.
      samples: draws of a randomised victim's noise that each gradient is the mean of.
      rho: share of a window's steps that have to raise the loss.
      early_stop: a row is done at its first adversarial point.
      compat: "torchattacks" counts the first loss as a rise where it is positive, as the authors'
        code does too, instead of comparing it with the loss at the start.
    """

    name: ClassVar[str] = "apgd"

    steps: int = 100
    norm: Norm = "linf"
    loss: Literal["ce", "margin", "dlr", "targeted_dlr"] = "ce"
    restarts: int = 1
    target_classes: int = 9
    samples: int = 1
    rho: float = 0.75
    early_stop: bool = True
    compat: Literal["torchattacks"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            steps=self.steps,
            restarts=self.restarts,
            target_classes=self.target_classes,
            samples=self.samples,
            rho=self.rho,
        )
        for field, allowed in (
            ("norm", ("linf", "l2", "l1")),
            ("loss", ("ce", "margin", "dlr", "targeted_dlr")),
            ("compat", (None, "torchattacks")),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise UsageError(f"{self.name}: {field} must be one of {allowed}, not {value!r}.")

    @property
    def max_steps(self) -> int:
        return (self.steps + 1) * self.restarts * self._most_classes

    @property
    def finishes_early(self) -> bool:
        return self.early_stop or self._most_classes > 1

    @property
    def epsilon_norm(self) -> Norm:
        return self.norm

    @property
    def forward_rows(self) -> int:
        return self.samples

    @property
    def _most_classes(self) -> int:
        return self.target_classes if self.loss == "targeted_dlr" and not self.targeted else 1

    def init(
        self,
        logits_fn: LogitsFn,
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> APGDState:
        """A random start; one forward pass tells which rows are done and the likeliest classes."""
        state = new_state(keys, x, y, epsilon)
        logits = logits_fn(x).astype(jnp.float32)
        predicted = prediction(logits)
        reached = is_successful(predicted, y, self.targeted)
        classes = logits.shape[1]
        others = jnp.where(jnp.arange(classes)[None, :] == y[:, None], -jnp.inf, logits)
        _, others = jax.lax.top_k(others, min(self._most_classes, classes - 1))
        state = dataclasses.replace(
            state,
            done=reached & self.early_stop,
            queries=state.queries + 1,
            flags=(NON_FINITE * (predicted < 0)).astype(jnp.uint32),
        )
        start = self._start(state)
        zero = jnp.zeros_like(epsilon)
        return extended(
            state,
            APGDState,
            now=start,
            previous=start,
            best=start,
            best_gradient=jnp.zeros_like(x),
            loss=zero,
            best_loss=zero,
            checked_loss=zero,
            rises=state.steps,
            length=zero,
            reduced=reached,
            moving=state.steps,
            changed=state.steps,
            score=self._score(logits, y),
            others=others,
        )

    def step(self, logits_fn: LogitsFn, state: APGDState) -> APGDState:
        """A look at the present point, the checkpoint if it is one, and the next point."""
        run, index = jnp.divmod(state.steps, self.steps + 1)
        look = self._look(logits_fn, state, run // self.restarts)
        new = self._begun(state, look, index == 0)
        new, at, gradient = self._checked(new, look.gradient, index)
        moved = self._moved(new, at, gradient, jnp.where(index == 0, 1.0, _MOMENTUM))

        last = index == self.steps
        runs = self.restarts * state.others.shape[1]
        stop = look.reached & self.early_stop
        improved = (look.score > state.score) | stop
        new = dataclasses.replace(
            new,
            x_adv=jnp.where(per_row(improved, state.now), state.now, state.x_adv),
            score=jnp.where(improved, look.score, state.score),
            previous=at,
            now=moved,
            done=stop | (last & (run + 1 >= runs)),
            steps=state.steps + 1,
            queries=state.queries + self._passes(logits_fn),
            gradients=state.gradients + self._passes(logits_fn),
            flags=state.flags | look.flags,
        )
        if runs > 1:
            start = self._start(new)
            new = dataclasses.replace(new, now=jnp.where(per_row(last, start), start, moved))
        return freeze_done(state, new)

    def _passes(self, logits_fn: LogitsFn) -> int:
        """Forward and backward passes per look; without noise all draws are one."""
        return self.samples if isinstance(logits_fn, RandomLogits) else 1

    def _score(
        self, logits: Float[Array, "rows classes"], y: Int[Array, "rows"]
    ) -> Float[Array, "rows"]:
        """How far the attack has got: the margin, positive where it succeeds."""
        margin = margin_loss(logits, y)
        return jnp.where(prediction(logits) >= 0, -margin if self.targeted else margin, -jnp.inf)

    def _start(self, state: AttackState) -> Float[Array, "batch ..."]:
        """A random point on the sphere of the ball, inside the bounds."""
        keys, x, shape = step_keys(state.keys, state.steps), state.x, state.x.shape[1:]
        if self.norm == "linf":
            noise = jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0))(keys)
            delta = noise / per_row(row_norm(noise, "linf"), x) * per_row(state.epsilon, x)
        else:
            noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
            if self.norm == "l2":
                delta = unit_l2(noise) * per_row(state.epsilon, x)
            else:
                delta = project_l1(noise, state.epsilon, x, self.bounds)
        return clip_to_bounds(x + delta, x, self.bounds)

    def _loss(
        self,
        logits: Float[Array, "rows classes"],
        y: Int[Array, "rows"],
        other: Int[Array, "rows"],
    ) -> tuple[Float[Array, "rows"], UInt[Array, "rows"]]:
        """The loss to ascend, and what has to be said about it."""
        classes = logits.shape[1]
        few = jnp.full(y.shape, FEW_CLASSES, jnp.uint32)
        if self.loss == "targeted_dlr":
            leave, reach = (other, y) if self.targeted else (y, other)
            if classes < _TARGETED_DLR_CLASSES:
                return _lead(logits, leave, reach), few
            return targeted_dlr_loss(logits, leave, reach), jnp.zeros_like(few)
        if self.loss == "ce":
            loss, fell_back = attack_loss(logits, y, self.targeted)
            return loss, (MARGIN_FALLBACK * fell_back).astype(jnp.uint32)
        sign = -1.0 if self.targeted else 1.0
        if self.loss == "margin":
            return sign * margin_loss(logits, y), jnp.zeros_like(few)
        if classes < _DLR_CLASSES:
            return sign * margin_loss(logits, y), few
        return sign * dlr_loss(logits, y), jnp.zeros_like(few)

    def _look(self, logits_fn: LogitsFn, state: APGDState, index: Int[Array, "batch"]) -> _Look:
        """One forward and one backward pass at ``now`` for each draw, with the run's class."""
        draws = self._passes(logits_fn)
        if isinstance(logits_fn, RandomLogits):
            logits_fn = independent_draws(logits_fn, draws)
        within = jnp.minimum(index, state.others.shape[1] - 1)  # a done row counts on
        other = jnp.take_along_axis(state.others, within[:, None], axis=1)[:, 0]
        x, y, other = (jnp.repeat(each, draws, axis=0) for each in (state.now, state.y, other))

        def total(x: Float[Array, "rows ..."]) -> tuple[Float[Array, ""], tuple[Array, ...]]:
            logits = logits_fn(x).astype(jnp.float32)
            loss, flags = self._loss(logits, y, other)
            return loss.sum(), (logits, loss, flags)

        gradient, (logits, loss, flags) = jax.grad(total, has_aux=True)(x)
        axes = tuple(range(1, x.ndim))
        finite = jnp.isfinite(gradient).all(axis=axes) & (prediction(logits) >= 0)
        gradient = jnp.where(per_row(finite, x), gradient, 0.0)
        flags = jnp.where(finite, flags, NON_FINITE) | (
            ZERO_GRADIENT * (finite & (gradient == 0).all(axis=axes))
        ).astype(jnp.uint32)
        reached = is_successful(prediction(logits), y, self.targeted)

        def mean(values: Array) -> Array:
            return values.reshape(-1, draws, *values.shape[1:]).mean(axis=1)

        return _Look(
            gradient=mean(gradient),
            loss=mean(jnp.where(finite, loss, -jnp.inf)),
            score=mean(self._score(logits, y)),
            reached=mean(reached) > 0.5,
            flags=jax.lax.reduce(flags.reshape(-1, draws), jnp.uint32(0), jax.lax.bitwise_or, (1,)),
        )

    def _begun(self, state: APGDState, look: _Look, first: Bool[Array, "batch"]) -> APGDState:
        """The state with the look at ``now`` taken in; everything anew where it is the first."""
        better = first | (look.loss > state.best_loss)
        wide = per_row(better, state.now)
        size = state.x[0].size
        # Steps of 2ε, for L1 of ε.
        whole = state.epsilon if self.norm == "l1" else 2.0 * state.epsilon
        few = max(1, math.ceil(_L1_SHARE * size))
        last = jnp.where(first, 0.0, look.loss) if self.compat == "torchattacks" else look.loss
        return dataclasses.replace(
            state,
            best=jnp.where(wide, state.now, state.best),
            best_gradient=jnp.where(wide, look.gradient, state.best_gradient),
            best_loss=jnp.where(better, look.loss, state.best_loss),
            loss=last,
            checked_loss=jnp.where(first, look.loss, state.checked_loss),
            rises=jnp.where(first, 0, state.rises + (look.loss > state.loss)),
            reduced=first | state.reduced,
            length=jnp.where(first, whole, state.length),
            moving=jnp.where(first, few, state.moving),
            changed=jnp.where(first, size, state.changed),
            previous=jnp.where(per_row(first, state.now), state.now, state.previous),
        )

    def _checked(
        self, state: APGDState, gradient: Float[Array, "batch ..."], index: Int[Array, "batch"]
    ) -> tuple[APGDState, Float[Array, "batch ..."], Float[Array, "batch ..."]]:
        """The state after the checkpoint, if there is one, and where the next step sets out."""
        window = jnp.asarray(_windows(self.steps, self.norm))[index]
        check = window > 0
        if self.norm == "l1":
            changed = row_norm(state.best - state.x, "l0").astype(jnp.int32)
            back = check & (changed < _L1_FALL * state.changed)
            shorter = jnp.maximum(state.length / _L1_DIVISOR, _L1_SHORTEST * state.epsilon)
            moving = jnp.maximum(jnp.ceil(changed / _L1_DIVISOR).astype(jnp.int32), 1)
            new = dataclasses.replace(
                state,
                length=jnp.where(check, jnp.where(back, state.epsilon, shorter), state.length),
                moving=jnp.where(check, moving, state.moving),
                changed=jnp.where(check, changed, state.changed),
            )
        else:
            stuck = ~state.reduced & (state.checked_loss >= state.best_loss)
            back = check & ((state.rises <= self.rho * window) | stuck)
            new = dataclasses.replace(
                state,
                length=jnp.where(back, state.length / 2, state.length),
                reduced=jnp.where(check, back, state.reduced),
                checked_loss=jnp.where(check, state.best_loss, state.checked_loss),
                rises=jnp.where(check, 0, state.rises),
            )
        wide = per_row(back, gradient)
        return (
            new,
            jnp.where(wide, state.best, state.now),
            jnp.where(wide, state.best_gradient, gradient),
        )

    def _moved(
        self,
        state: APGDState,
        at: Float[Array, "batch ..."],
        gradient: Float[Array, "batch ..."],
        share: Float[Array, "batch"],
    ) -> Float[Array, "batch ..."]:
        """The next point: ``share`` the step's, the rest momentum's (eq. 3 and 4; none for L1)."""
        length = per_row(state.length, at)
        if self.norm == "l1":
            along = sparse_sign(gradient, at, state.x, state.moving, self.bounds)
            delta = at + length * along - state.x
            moved = state.x + project_l1(delta, state.epsilon, state.x, self.bounds)
            return clip_to_bounds(moved, state.x, self.bounds)
        project = project_linf if self.norm == "linf" else project_l2
        along = jnp.sign(gradient) if self.norm == "linf" else unit_l2(gradient)

        def inside(point: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
            delta = project(point - state.x, state.epsilon)
            return clip_to_bounds(state.x + delta, state.x, self.bounds)

        part = per_row(share, at)
        stepped = inside(at + length * along)
        return inside(at + part * (stepped - at) + (1.0 - part) * (at - state.previous))


def _windows(steps: int, norm: Norm) -> np.ndarray:
    """Length of the window that ends after each iteration, 0 where none ends: ``[steps + 1]``."""
    lengths = np.zeros(steps + 1, np.int32)
    first = _WINDOW_L1 if norm == "l1" else _WINDOW
    window, shortest = max(int(first * steps), 1), max(int(_SHORTEST * steps), 1)
    end = window
    while end <= steps:
        lengths[end] = window
        if norm != "l1":
            window = max(window - max(int(_SHORTER * steps), 1), shortest)
        end += window
    return lengths
