"""DeepFool: step after step to the nearest boundary of the linearised victim.

    attack = DeepFool(norm="l2")
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.01, 0.1, 1.0])
    result.measures["l2"]            # size of each perturbation; ε only sets the threshold
    paper = DeepFool(compat="art", candidates=5, overshoot=1e-5, steps=20)

Source: Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2 (L2) and section 5 (Lp). As in the
authors' code the victim is looked at, and linearised anew, at the overshot point. Two things are
added, which change nothing where they are not needed: samples that already sit at a bound and
would be pushed beyond are left out of the linearisation, and the boundary is passed by the rounding
of the logits, so that an input exactly between two classes moves, and one that is found is still
adversarial where another program, such as that of another batch size, rounds in another way.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.attacks.base import (
    AttackState,
    LogitsFn,
    extended,
    freeze_done,
    new_state,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.linearisation import (
    LinearisingAttack,
    Margins,
    boundary_step,
    check_candidates,
    check_overshoot,
    class_margins,
    clean_others,
    nearest_boundary,
    no_others,
    safe_margin,
    stuck_flags,
    within_bounds,
)
from jaxser.attacks.losses import is_successful, margin_loss, prediction
from jaxser.attacks.projections import Norm, clip_to_bounds, per_row
from jaxser.runtime.errors import UsageError

__all__ = ["DeepFool", "DeepFoolState"]

# ART adds this to norms and squared norms.
_ART_TOLERANCE = 1e-7

_STEPS: dict[str | None, int] = {None: 50, "torchattacks": 50, "art": 100}
_OVERSHOOT: dict[str | None, float] = {None: 0.02, "torchattacks": 0.02, "art": 1e-6}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DeepFoolState(AttackState):
    """DeepFool's state.

    Attributes:
      total: sum of the steps so far, before the overshoot where that comes last.
      others: the classes considered, the most likely of the clean input.
    """

    total: Float[Array, "batch ..."]
    others: Int[Array, "batch others"]


@dataclasses.dataclass(frozen=True)
class DeepFool(LinearisingAttack):
    """DeepFool, untargeted; a step costs two forward passes and one backward pass per other class.

    Attributes:
      norm: "l2" or "linf", whose smallest perturbation is looked for.
      steps: iterations at most; None: 50 (100 under ``compat="art"``).
      overshoot: share by which the total perturbation is lengthened; None: 0.02 (1e-6 under
        ``compat="art"``).
      candidates: classes considered, the label among them; the others are the most likely ones
        of the clean input.
      compat: "torchattacks": overshoot and clip at every step instead of on the total. "art":
        every step is multiplied by the width of the bounds, and the iterate itself is clipped,
        as ART's DeepFool does; on bounds of width 2 a linear victim is passed by twice the
        distance. Both are L2 alone.

    Examples:
      For a victim whose logits are its samples, the boundary is 0.4 / √2 = 0.28 away, and 2 % are
      added to get across. One search answers for every ε.

      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])
      >>> result = jaxser.run_attack(lambda x: x, x, [0], jaxser.attacks.DeepFool(), [0.25, 0.3])
      >>> result.success[:, 0].tolist(), result.found_norm[0, 0].round(2).item()
      ([False, True], 0.29)
    """

    name: ClassVar[str] = "deepfool"

    norm: Norm = "l2"
    steps: int | None = None
    overshoot: float | None = None
    candidates: int = 10
    compat: Literal["art", "torchattacks"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, steps=self.steps)
        check_overshoot(self.name, self.overshoot)
        check_candidates(self.name, self.candidates)
        check_choice(self.name, "norm", self.norm, ("l2", "linf"))
        check_choice(self.name, "compat", self.compat, (None, "art", "torchattacks"))
        if self.compat is not None and self.norm != "l2":
            raise UsageError(
                f"{self.name}: compat={self.compat!r} is the L2 attack; set norm='l2'."
            )

    @property
    def max_steps(self) -> int:
        return _STEPS[self.compat] if self.steps is None else self.steps

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
    ) -> DeepFoolState:
        """The clean input; the victim is not run yet."""
        return extended(
            new_state(keys, x, y, epsilon),
            DeepFoolState,
            total=jnp.zeros_like(x),
            others=no_others(logits_fn, x, self.candidates - 1),
        )

    def step(self, logits_fn: LogitsFn, state: DeepFoolState) -> DeepFoolState:
        """Linearise, step to the nearest boundary, and look whether it is passed."""
        x, first = state.x, state.steps == 0
        point = self._point(x, state.total)

        def choose(logits: Float[Array, "batch classes"]) -> Int[Array, "batch others"]:
            return clean_others(logits, state.y, first, state.others)

        margins = class_margins(logits_fn, point, state.y, choose)
        step, flat = self._step(margins, point, x)
        total, candidate = self._move(x, state.total, step)
        already = self._passed(margins.logits, state.y)
        already |= first & is_successful(prediction(margins.logits), state.y, False)
        reached = self._passed(logits_fn(candidate), state.y) & ~already
        stuck = flat | ~margins.finite
        found = jnp.where(per_row(reached, x), candidate, state.x_adv)
        new = dataclasses.replace(
            state,
            # The clean input, or (under compat) an iterate whose overshot twin was not adversarial.
            x_adv=jnp.where(per_row(already, x), point, found),
            total=total,
            others=margins.others,
            done=already | reached | stuck | (state.steps + 1 >= self.max_steps),
            steps=state.steps + 1,
            queries=state.queries + 2,
            gradients=state.gradients + margins.others.shape[1],
            flags=state.flags | stuck_flags(flat & ~already, margins.finite),
        )
        return freeze_done(state, new)

    def _passed(
        self, logits: Float[Array, "batch classes"], y: Int[Array, " batch"]
    ) -> Bool[Array, " batch"]:
        """Whether the boundary is passed, and not by what rounding alone may take back."""
        passed = is_successful(prediction(logits), y, False)
        if self.compat is not None:
            return passed
        return passed & (margin_loss(logits, y) >= safe_margin(logits))

    @property
    def _overshoot(self) -> float:
        return _OVERSHOOT[self.compat] if self.overshoot is None else self.overshoot

    def _point(
        self, x: Float[Array, "batch ..."], total: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        """Where the victim is linearised next."""
        stretch = 1.0 if self.compat else 1.0 + self._overshoot
        return clip_to_bounds(x + stretch * total, x, self.bounds)

    def _step(
        self, margins: Margins, point: Float[Array, "batch ..."], x: Float[Array, "batch ..."]
    ) -> tuple[Float[Array, "batch ..."], Bool[Array, " batch"]]:
        """The step to the nearest linearised boundary, and the rows that have none."""
        if self.compat is not None:
            tolerance = _ART_TOLERANCE if self.compat == "art" else 0.0
            nearest = nearest_boundary(margins.values, margins.gradients, "l2", tolerance)
            square = jnp.square(nearest.steepness - tolerance) + tolerance
            factor = jnp.abs(nearest.margin) / jnp.where(nearest.flat, 1.0, square)
            return per_row(factor, x) * nearest.normal, nearest.flat
        nearest = nearest_boundary(
            # Twice what is asked for, as the margin is not linear.
            margins.values - 2 * safe_margin(margins.logits)[:, None],
            within_bounds(margins.gradients, point, x, self.bounds),
            self.norm,
        )
        return boundary_step(nearest, self.norm), nearest.flat

    def _move(
        self,
        x: Float[Array, "batch ..."],
        total: Float[Array, "batch ..."],
        step: Float[Array, "batch ..."],
    ) -> tuple[Float[Array, "batch ..."], Float[Array, "batch ..."]]:
        """The total after ``step``, and the input that is tried."""
        stretch = 1.0 + self._overshoot
        if self.compat == "torchattacks":
            candidate = clip_to_bounds(x + total + stretch * step, x, self.bounds)
            return candidate - x, candidate
        if self.compat == "art":
            width = 1.0 if self.bounds is None else self.bounds[1] - self.bounds[0]
            total = clip_to_bounds(x + total + width * step, x, self.bounds) - x
            return total, clip_to_bounds(x + stretch * total, x, self.bounds)
        total = total + step
        if self.bounds is not None:
            # What the bounds cut off is not carried along.
            low = (jnp.minimum(x, self.bounds[0]) - x) / stretch
            high = (jnp.maximum(x, self.bounds[1]) - x) / stretch
            total = jnp.clip(total, low, high)
        return total, self._point(x, total)
