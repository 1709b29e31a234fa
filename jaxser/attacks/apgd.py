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
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.apgd_step_size import APGDState, after_look, checkpoint
from jaxser.attacks.base import (
    FEW_CLASSES,
    MARGIN_FALLBACK,
    NON_FINITE,
    AttackState,
    BaseAttack,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.gradient import any_draw, mean_over_draws, row_gradient
from jaxser.attacks.hyperparameters import check_positive
from jaxser.attacks.losses import (
    DLR_CLASSES,
    TARGETED_DLR_CLASSES,
    attack_loss,
    dlr_loss,
    is_successful,
    lead,
    margin_loss,
    other_logits,
    prediction,
    targeted_dlr_loss,
)
from jaxser.attacks.projections import (
    Norm,
    clip_to_bounds,
    per_row,
    project_l1,
    project_l2,
    project_linf,
    row_norm,
    sparse_sign,
    unit_l2,
)
from jaxser.attacks.randomised import RandomLogits, independent_draws
from jaxser.runtime.errors import UsageError

__all__ = ["APGD"]

# Share of a step that is the gradient's; the rest is the last step's (eq. 4).
_MOMENTUM = 0.75


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Look:
    """What one look at the present points tells, the mean over draws of the victim's noise."""

    gradient: Float[Array, "batch ..."]
    loss: Float[Array, " batch"]
    score: Float[Array, " batch"]
    reached: Bool[Array, " batch"]
    flags: UInt[Array, " batch"]


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

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # logits; 0.28 is the smallest change in L2
      >>> attack = jaxser.attacks.APGD(steps=10, norm="l2", loss="margin")
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.25, 0.3])
      >>> result.success[:, 0].tolist()
      [False, True]
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
        keys: Key[Array, " batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, " batch"],
        epsilon: Float[Array, " batch"],
    ) -> APGDState:
        """A random start; one forward pass tells which rows are done and the likeliest classes."""
        state = new_state(keys, x, y, epsilon)
        logits = logits_fn(x).astype(jnp.float32)
        predicted = prediction(logits)
        reached = is_successful(predicted, y, self.targeted)
        classes = logits.shape[1]
        _, others = jax.lax.top_k(other_logits(logits, y), min(self._most_classes, classes - 1))
        state = dataclasses.replace(
            state,
            done=reached & self.early_stop,
            queries=state.queries + 1,
            flags=(NON_FINITE * (predicted < 0)).astype(jnp.uint32),
        )
        start = self._start(state)
        # Of the right shapes and types alone, but for the start, the score and the other classes:
        # the first look sets the rest.
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
        first = index == 0
        count_first = self.compat == "torchattacks"
        new = after_look(state, look.loss, look.gradient, first, self.norm, count_first)
        new, at, gradient = checkpoint(new, look.gradient, index, self.steps, self.norm, self.rho)
        moved = self._moved(new, at, gradient, jnp.where(first, 1.0, _MOMENTUM))

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
            # Drawn in every step and taken in the last of a run: the rows of a batch are at
            # different steps, and a draw costs little beside a gradient.
            start = self._start(new)
            new = dataclasses.replace(new, now=jnp.where(per_row(last, start), start, moved))
        return freeze_done(state, new)

    def _passes(self, logits_fn: LogitsFn) -> int:
        """Forward and backward passes per look; without noise all draws are one."""
        return self.samples if isinstance(logits_fn, RandomLogits) else 1

    def _score(
        self, logits: Float[Array, "rows classes"], y: Int[Array, " rows"]
    ) -> Float[Array, " rows"]:
        """How far the attack has got: the margin, positive where it succeeds."""
        margin = margin_loss(logits, y)
        return jnp.where(prediction(logits) >= 0, -margin if self.targeted else margin, -jnp.inf)

    def _start(self, state: AttackState) -> Float[Array, "batch ..."]:
        """A random point on the sphere of the ball, inside the bounds; another at each step."""
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
        y: Int[Array, " rows"],
        other: Int[Array, " rows"],
    ) -> tuple[Float[Array, " rows"], UInt[Array, " rows"]]:
        """The loss to ascend, and what has to be said about it."""
        classes = logits.shape[1]
        few = jnp.full(y.shape, FEW_CLASSES, jnp.uint32)
        if self.loss == "targeted_dlr":
            leave, reach = (other, y) if self.targeted else (y, other)
            if classes < TARGETED_DLR_CLASSES:
                return lead(logits, leave, reach), few
            return targeted_dlr_loss(logits, leave, reach), jnp.zeros_like(few)
        if self.loss == "ce":
            loss, fell_back = attack_loss(logits, y, self.targeted)
            return loss, (MARGIN_FALLBACK * fell_back).astype(jnp.uint32)
        sign = -1.0 if self.targeted else 1.0
        if self.loss == "margin":
            return sign * margin_loss(logits, y), jnp.zeros_like(few)
        if classes < DLR_CLASSES:
            return sign * margin_loss(logits, y), few
        return sign * dlr_loss(logits, y), jnp.zeros_like(few)

    def _look(self, logits_fn: LogitsFn, state: APGDState, index: Int[Array, " batch"]) -> _Look:
        """One forward and one backward pass at ``now`` for each draw, with the run's class."""
        draws = self._passes(logits_fn)
        if isinstance(logits_fn, RandomLogits):
            logits_fn = independent_draws(logits_fn, draws)
        within = jnp.minimum(index, state.others.shape[1] - 1)  # a done row counts on
        other = jnp.take_along_axis(state.others, within[:, None], axis=1)[:, 0]
        x, y, other = (jnp.repeat(each, draws, axis=0) for each in (state.now, state.y, other))

        found = row_gradient(
            logits_fn, x, y, self.targeted, lambda logits: self._loss(logits, y, other)
        )
        return _Look(
            gradient=mean_over_draws(found.gradient, draws),
            loss=mean_over_draws(jnp.where(found.finite, found.loss, -jnp.inf), draws),
            score=mean_over_draws(self._score(found.logits, y), draws),
            reached=mean_over_draws(found.reached, draws) > 0.5,
            flags=any_draw(found.flags, draws),
        )

    def _moved(
        self,
        state: APGDState,
        at: Float[Array, "batch ..."],
        gradient: Float[Array, "batch ..."],
        share: Float[Array, " batch"],
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
