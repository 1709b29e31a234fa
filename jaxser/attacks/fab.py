"""FAB: walk along the boundary with projections that are exact within the bounds.

    attack = FAB(norm="linf", steps=100)                      # nearest class at every iterate
    attack = FAB(norm="l2", target_classes=9, restarts=2)     # each of the 9 likeliest in turn
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.001, 0.01])
    result.measures["linf"]          # size of each perturbation; ε only sets the threshold

Source: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
attack", ICML 2020, algorithm 1: projections of the iterate and of the clean input on the linearised
boundary within the box (section 3.1), their combination biased towards the clean input and
overshot by η (3.2), a backward step by β from each adversarial iterate (3.3), random restarts
within half the best distance (3.4), and a search along the last segment. FAB-T (Croce & Hein, ICML
2020, AutoAttack) takes one class at a time and so one backward pass per step.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
    step_keys,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.hyperplane import project_to_hyperplane
from jaxser.attacks.linearisation import (
    LinearisingAttack,
    class_margins,
    clean_others,
    likely_others,
    nearest_boundary,
    no_others,
    safe_margin,
    stuck_flags,
)
from jaxser.attacks.losses import is_successful, margin_loss, prediction
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row, row_norm
from jaxser.runtime.errors import UsageError

__all__ = ["FAB", "FABState"]

# The search aims at a margin of this share of what it rises by between the clean and the
# adversarial end, and takes half of that if that is more than rounding: a point closer to the
# boundary may be on the other side once the victim is compiled in another program.
_SEARCH_MARGIN = 2e-4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FABState(AttackState):
    """FAB's state.

    Attributes:
      point: the iterate.
      distance: of ``x_adv`` from the clean input in the attack's norm; infinite before the first.
      margin: of ``x_adv``: the largest other logit minus the label's.
      clean_margin: of the clean input.
      others: the classes that are gone towards, the likeliest of the clean input; empty where
        the nearest is looked for at every iterate.
    """

    point: Float[Array, "batch ..."]
    distance: Float[Array, " batch"]
    margin: Float[Array, " batch"]
    clean_margin: Float[Array, " batch"]
    others: Int[Array, "batch targets"]


@dataclasses.dataclass(frozen=True)
class FAB(LinearisingAttack):
    """Fast adaptive boundary attack; ``x_adv`` is the nearest adversarial input met.

    A step costs two forward passes and one backward pass per class that is gone towards: all but
    the label, or one with ``target_classes``.

    Attributes:
      norm: "linf", "l2" or "l1", whose smallest perturbation is looked for.
      steps: iterations of a run; a run is one restart for one target.
      target_classes: go towards so many of the clean input's likeliest other classes, one after
        the other; None: towards the nearest class of each iterate.
      restarts: runs per target; the first starts at the clean input, the others at random
        points within half the distance found so far.
      alpha_max: most weight of the projection of the clean input.
      eta: overshoot of the projections, at least 1.
      beta: share of the perturbation kept by the backward step.
      search_steps: forward passes along the segment to the clean input at the end; 0: none.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # a victim's logits; 0.2 is the smallest change in L∞
      >>> attack = jaxser.attacks.FAB(steps=10, target_classes=2)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.25])
      >>> result.success[:, 0].tolist(), result.found_norm[0, 0].round(2).item()
      ([False, True], 0.2)
    """

    name: ClassVar[str] = "fab"

    norm: Norm = "linf"
    steps: int = 100
    target_classes: int | None = None
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    search_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self.name,
            steps=self.steps,
            target_classes=self.target_classes,
            restarts=self.restarts,
        )
        check_choice(self.name, "norm", self.norm, ("linf", "l2", "l1"))
        if not 0 <= self.alpha_max <= 1:
            raise UsageError(
                f"{self.name}: alpha_max must be between 0 and 1, not {self.alpha_max!r}."
            )
        if not 1 <= self.eta < float("inf"):
            raise UsageError(f"{self.name}: eta must be at least 1 and finite, not {self.eta!r}.")
        if not 0 < self.beta < 1:
            raise UsageError(f"{self.name}: beta must be between 0 and 1, not {self.beta!r}.")
        if self.search_steps < 0:
            raise UsageError(
                f"{self.name}: search_steps must be at least 0, not {self.search_steps!r}."
            )

    @property
    def max_steps(self) -> int:
        return self.steps * self.restarts * (self.target_classes or 1)

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
    ) -> FABState:
        """The clean input; the victim is not run yet."""
        zeros = jnp.zeros(x.shape[:1], jnp.float32)
        return extended(
            new_state(keys, x, y, epsilon),
            FABState,
            point=x,
            distance=jnp.full_like(zeros, jnp.inf),
            margin=zeros,
            clean_margin=zeros,
            others=no_others(logits_fn, x, self.target_classes or 0),
        )

    def step(self, logits_fn: LogitsFn, state: FABState) -> FABState:
        """Project on the linearised boundary, look whether it is passed, and step back if so."""
        x, y, first = state.x, state.y, state.steps == 0
        taken = state.steps + 1
        run = state.steps // self.steps
        others = state.others

        def choose(logits: Float[Array, "batch classes"]) -> Int[Array, "batch chosen"]:
            # Called once, between the forward and the backward passes; it hands out what it has
            # chosen from, which is part of the new state.
            nonlocal others
            if self.target_classes is None:
                return likely_others(logits, y, logits.shape[1] - 1)
            others = clean_others(logits, y, first, others)
            target = jnp.minimum(run // self.restarts, others.shape[1] - 1)
            return jnp.take_along_axis(others, target[:, None], axis=1)

        margins = class_margins(logits_fn, state.point, y, choose)
        already = first & is_successful(prediction(margins.logits), y, False)
        clean_margin = jnp.where(first, margin_loss(margins.logits, y), state.clean_margin)
        nearest = nearest_boundary(margins.values, margins.gradients, self.norm)
        moved = self._walk(state, nearest.normal, nearest.margin)
        finite = margins.finite & jnp.isfinite(moved).all(axis=tuple(range(1, x.ndim)))
        moved = jnp.where(per_row(finite, x), moved, state.point)

        logits = logits_fn(moved).astype(jnp.float32)
        adversarial = is_successful(prediction(logits), y, False) & finite & ~already
        margin = margin_loss(logits, y)
        length = row_norm(moved - x, self.norm)
        # An iterate on the boundary itself may be on the other side in another program.
        nearer = adversarial & (margin >= safe_margin(logits)) & (length < state.distance)
        back = x + self.beta * (moved - x)
        new = dataclasses.replace(
            state,
            x_adv=jnp.where(per_row(nearer, x), moved, state.x_adv),
            point=jnp.where(per_row(adversarial, x), back, moved),
            distance=jnp.where(nearer, length, state.distance),
            margin=jnp.where(nearer, margin, state.margin),
            clean_margin=clean_margin,
            others=others,
            steps=taken,
            queries=state.queries + 2,
            gradients=state.gradients + margins.others.shape[1],
            flags=state.flags | stuck_flags(nearest.flat & ~already, finite),
        )
        run_ends = taken % self.steps == 0
        runs = self.restarts * max(1, others.shape[1])
        last = (run_ends & (run + 1 >= runs)) | ~finite
        if self.max_steps > self.steps:
            start = self._start(new, run + 1)
            new = dataclasses.replace(new, point=jnp.where(per_row(run_ends, x), start, new.point))
        if self.search_steps:
            new = self._search(logits_fn, new, last & ~state.done)
        return freeze_done(state, dataclasses.replace(new, done=already | last))

    def _walk(
        self, state: FABState, normal: Float[Array, "batch ..."], margin: Float[Array, " batch"]
    ) -> Float[Array, "batch ..."]:
        """The next iterate: both projections, weighted by their lengths and overshot."""
        x, point = state.x, state.point
        axes = tuple(range(1, x.ndim))
        # The plane lies where the linearised margin is zero. Differences of inputs are exact where
        # products of inputs and normals would cancel.
        behind = (normal * (point - x)).sum(axis=axes)
        here = project_to_hyperplane(point, normal, -margin, x, self.bounds, self.norm)
        there = project_to_hyperplane(x, normal, behind - margin, x, self.bounds, self.norm)
        near, far = row_norm(here, self.norm), row_norm(there, self.norm)
        total = near + far
        weight = jnp.where(total > 0, near / jnp.where(total > 0, total, 1.0), 0.0)
        alpha = per_row(jnp.minimum(weight, self.alpha_max), x)
        delta = (1.0 - alpha) * (point - x + self.eta * here) + alpha * self.eta * there
        return clip_to_bounds(x + delta, x, self.bounds)

    def _start(self, state: FABState, run: Int[Array, " batch"]) -> Float[Array, "batch ..."]:
        """Where a run starts: the first of each target at the clean input, others at random.

        The radius is half the distance found so far; where nothing was found, half the way the
        last run has gone.
        """
        x = state.x
        if self.restarts == 1:
            return x
        gone = row_norm(state.point - x, self.norm)
        radius = 0.5 * jnp.where(jnp.isfinite(state.distance), state.distance, gone)
        draw = jax.random.uniform if self.norm == "linf" else jax.random.normal
        keys = step_keys(state.keys, state.steps)
        noise = jax.vmap(lambda key: draw(key, x.shape[1:]))(keys)
        if self.norm == "linf":
            noise = 2.0 * noise - 1.0
        noise = noise * per_row(radius / row_norm(noise, self.norm), x)
        away = run % self.restarts != 0
        return clip_to_bounds(x + jnp.where(per_row(away, x), noise, 0.0), x, self.bounds)

    def _search(self, logits_fn: LogitsFn, state: FABState, wanted: Array) -> FABState:
        """Nearer adversarial inputs on the segment to the clean input, in the ``wanted`` rows.

        The margin is taken as linear between the last points on either side of the boundary.
        """
        wanted &= jnp.isfinite(state.distance)
        x, y, direction = state.x, state.y, state.x_adv - state.x
        aim = _SEARCH_MARGIN * (state.margin - state.clean_margin)

        def narrow(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            low, low_margin, high, high_margin = carry
            rise = high_margin - low_margin
            share = jnp.where(rise > 0, (aim - low_margin) / jnp.where(rise > 0, rise, 1.0), 0.5)
            middle = low + jnp.clip(share, 0.0, 1.0) * (high - low)
            logits = logits_fn(x + per_row(middle, x) * direction).astype(jnp.float32)
            margin = margin_loss(logits, y)
            enough = jnp.maximum(0.5 * aim, safe_margin(logits))
            reached = is_successful(prediction(logits), y, False) & (margin >= enough)
            return (
                jnp.where(reached, low, middle),
                jnp.where(reached, low_margin, margin),
                jnp.where(reached, middle, high),
                jnp.where(reached, margin, high_margin),
            )

        def search(state: FABState) -> FABState:
            zero, one = jnp.zeros_like(state.distance), jnp.ones_like(state.distance)
            start = (zero, state.clean_margin, one, state.margin)
            _, _, high, margin = jax.lax.fori_loop(0, self.search_steps, narrow, start)
            x_adv = x + per_row(high, x) * direction
            length = row_norm(x_adv - x, self.norm)
            shorter = wanted & (length < state.distance)
            return dataclasses.replace(
                state,
                x_adv=jnp.where(per_row(shorter, x), x_adv, state.x_adv),
                distance=jnp.where(shorter, length, state.distance),
                margin=jnp.where(shorter, margin, state.margin),
                queries=state.queries + self.search_steps * wanted,
            )

        # Rows end rarely; the passes of the search are not spent on every step.
        return jax.lax.cond(wanted.any(), search, lambda state: state, state)
