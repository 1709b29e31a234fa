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
from collections.abc import Callable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from jaxser.attacks.base import (
    NON_FINITE,
    ZERO_GRADIENT,
    AttackState,
    LogitsFn,
    MinimalNormAttack,
    extended,
    freeze_done,
    new_state,
)
from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.losses import is_successful, margin_loss, prediction
from jaxser.attacks.projections import Bounds, Norm, clip_to_bounds, per_row, row_norm, unit_l2
from jaxser.runtime.errors import UsageError

__all__ = [
    "Boundary",
    "DeepFool",
    "DeepFoolState",
    "Margins",
    "boundary_step",
    "check_candidates",
    "check_overshoot",
    "check_untargeted",
    "class_margins",
    "count_classes",
    "likely_others",
    "logit_rounding",
    "nearest_boundary",
    "safe_margin",
    "stuck_flags",
    "within_bounds",
]

# Relative to the largest logit: float32 does not tell smaller margins from zero.
_LOGIT_ROUNDING = 1e-6
_SMALLEST_LOGIT = 1e-20

# Relative to the width of the bounds: how close to a bound a sample counts as sitting at it.
_AT_THE_BOUND = 1e-6

# ART adds this to norms and squared norms.
_ART_TOLERANCE = 1e-7

_STEPS: dict[str | None, int] = {None: 50, "torchattacks": 50, "art": 100}
_OVERSHOOT: dict[str | None, float] = {None: 0.02, "torchattacks": 0.02, "art": 1e-6}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Margins:
    """How far some classes are from overtaking the label, and where that changes fastest.

    Attributes:
      logits: of the input.
      others: the classes.
      values: logit of each of them minus the label's.
      gradients: of ``values`` by the input; zero in rows that are not finite.
      finite: rows whose logits and gradients are finite.
    """

    logits: Float[Array, "batch classes"]
    others: Int[Array, "batch others"]
    values: Float[Array, "batch others"]
    gradients: Float[Array, "batch others ..."]
    finite: Bool[Array, "batch"]


def class_margins(
    logits_fn: LogitsFn,
    x: Float[Array, "batch ..."],
    y: Int[Array, "batch"],
    choose: Callable[[Float[Array, "batch classes"]], Int[Array, "batch others"]],
) -> Margins:
    """Margins against the label and their gradients, for the classes that ``choose`` picks.

    One forward pass and one backward pass per chosen class, all of them in one vmapped pull-back;
    the label itself needs none.
    """
    logits, pull_back = jax.vjp(lambda x: logits_fn(x).astype(jnp.float32), x)
    others = choose(logits)
    classes = jnp.arange(logits.shape[1])[None, None, :]
    against = (classes == others.T[:, :, None]).astype(jnp.float32)
    label = (classes == y[None, :, None]).astype(jnp.float32)
    (gradients,) = jax.vmap(pull_back)(against - label)
    gradients = jnp.moveaxis(gradients, 0, 1).astype(jnp.float32)
    values = jnp.take_along_axis(logits, others, axis=1) - jnp.take_along_axis(
        logits, y[:, None], axis=1
    )
    finite = jnp.isfinite(gradients).all(axis=tuple(range(1, gradients.ndim)))
    finite &= jnp.isfinite(logits).all(axis=1)
    return Margins(
        logits=logits,
        others=others,
        values=jnp.where(finite[:, None], values, 0.0),
        gradients=jnp.where(per_row(finite, gradients), gradients, 0.0),
        finite=finite,
    )


def count_classes(logits_fn: LogitsFn, x: Float[Array, "batch ..."]) -> int:
    """Classes of the victim, found without running it."""
    return int(jax.eval_shape(logits_fn, x).shape[1])


def likely_others(
    logits: Float[Array, "batch classes"], y: Int[Array, "batch"], count: int
) -> Int[Array, "batch count"]:
    """The ``count`` classes with the largest logits besides the label, the largest first."""
    is_label = jnp.arange(logits.shape[1])[None, :] == y[:, None]
    return jax.lax.top_k(jnp.where(is_label, -jnp.inf, logits), count)[1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Boundary:
    """The nearest of the linearised boundaries.

    Attributes:
      place: position of its class among those looked at.
      margin: of that class; negative on the label's side.
      normal: gradient of that margin; zero where no class has one.
      steepness: dual norm of ``normal``; the distance is ``|margin| / steepness``.
    """

    place: Int[Array, "batch"]
    margin: Float[Array, "batch"]
    normal: Float[Array, "batch ..."]
    steepness: Float[Array, "batch"]

    @property
    def flat(self) -> Bool[Array, "batch"]:
        """Rows where no class has a gradient."""
        return row_norm(self.normal, "linf") == 0


_DUAL: dict[Norm, Norm] = {"l2": "l2", "linf": "l1", "l1": "linf"}


def nearest_boundary(
    values: Float[Array, "batch others"],
    gradients: Float[Array, "batch others ..."],
    norm: Norm,
    tolerance: float = 0.0,
) -> Boundary:
    """The class whose linearised boundary is nearest in ``norm``; flat margins are left out."""
    each = gradients.reshape(-1, *gradients.shape[2:])
    steepness = row_norm(each, _DUAL[norm]).reshape(values.shape) + tolerance
    distance = jnp.where(
        steepness > 0, jnp.abs(values) / jnp.where(steepness > 0, steepness, 1.0), jnp.inf
    )
    place = jnp.argmin(distance, axis=1).astype(jnp.int32)

    def pick(values: Array) -> Array:
        index = place.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.take_along_axis(values, index, axis=1)[:, 0]

    return Boundary(
        place=place, margin=pick(values), normal=pick(gradients), steepness=pick(steepness)
    )


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
class DeepFool(MinimalNormAttack):
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
    """

    name: ClassVar[str] = "deepfool"

    norm: Norm = "l2"
    steps: int | None = None
    overshoot: float | None = None
    candidates: int = 10
    compat: Literal["art", "torchattacks"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_untargeted(self.name, self.targeted)
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
        keys: Key[Array, "batch"],
        x: Float[Array, "batch ..."],
        y: Int[Array, "batch"],
        epsilon: Float[Array, "batch"],
    ) -> DeepFoolState:
        """The clean input; the victim is not run yet."""
        others = min(self.candidates, count_classes(logits_fn, x)) - 1
        return extended(
            new_state(keys, x, y, epsilon),
            DeepFoolState,
            total=jnp.zeros_like(x),
            others=jnp.zeros((x.shape[0], others), jnp.int32),
        )

    def step(self, logits_fn: LogitsFn, state: DeepFoolState) -> DeepFoolState:
        """Linearise, step to the nearest boundary, and look whether it is passed."""
        x, first = state.x, (state.steps == 0)[:, None]
        point = self._point(x, state.total)

        def choose(logits: Float[Array, "batch classes"]) -> Int[Array, "batch others"]:
            likely = likely_others(logits, state.y, state.others.shape[1])
            return jnp.where(first, likely, state.others)

        margins = class_margins(logits_fn, point, state.y, choose)
        step, flat = self._step(margins, point, x)
        total, candidate = self._move(x, state.total, step)
        already = self._passed(margins.logits, state.y)
        already |= first[:, 0] & is_successful(prediction(margins.logits), state.y, False)
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
        self, logits: Float[Array, "batch classes"], y: Int[Array, "batch"]
    ) -> Bool[Array, "batch"]:
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
    ) -> tuple[Float[Array, "batch ..."], Bool[Array, "batch"]]:
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


def logit_rounding(logits: Float[Array, "batch classes"]) -> Float[Array, "batch"]:
    """What float32 may have rounded off a difference of logits; 0 where they are not finite."""
    largest = jnp.maximum(jnp.abs(logits).max(axis=1), _SMALLEST_LOGIT)
    return _LOGIT_ROUNDING * jnp.where(jnp.isfinite(largest), largest, 0.0)


def safe_margin(logits: Float[Array, "batch classes"]) -> Float[Array, "batch"]:
    """A margin that no other program of the same victim rounds away."""
    return 4 * logit_rounding(logits)


def boundary_step(nearest: Boundary, norm: Norm) -> Float[Array, "batch ..."]:
    """The smallest step in ``norm`` ("l2" or "linf") onto the boundary; none where it is flat."""
    steepness = jnp.where(nearest.flat, 1.0, nearest.steepness)
    along = unit_l2(nearest.normal) if norm == "l2" else jnp.sign(nearest.normal)
    return per_row(jnp.abs(nearest.margin) / steepness, along) * along


def within_bounds(
    gradients: Float[Array, "batch others ..."],
    point: Float[Array, "batch ..."],
    x: Float[Array, "batch ..."],
    bounds: Bounds,
) -> Float[Array, "batch others ..."]:
    """``gradients`` without the entries that would push a sample beyond the bound it sits at."""
    if bounds is None:
        return gradients
    near = _AT_THE_BOUND * (bounds[1] - bounds[0])
    at_low = (point <= jnp.minimum(x, bounds[0]) + near)[:, None]
    at_high = (point >= jnp.maximum(x, bounds[1]) - near)[:, None]
    outwards = (at_high & (gradients > 0)) | (at_low & (gradients < 0))
    return jnp.where(outwards, 0.0, gradients)


def stuck_flags(flat: Bool[Array, "batch"], finite: Bool[Array, "batch"]) -> UInt[Array, "batch"]:
    """Flags of rows without a gradient, and of rows whose logits or gradients are not finite."""
    return (ZERO_GRADIENT * (flat & finite) + NON_FINITE * ~finite).astype(jnp.uint32)


def check_untargeted(attack: str, targeted: bool) -> None:
    """Refuse ``targeted`` in an attack that goes to the nearest boundary, whichever it is."""
    if targeted:
        raise UsageError(
            f"{attack} leaves a label for the nearest other class and has no targeted form; "
            "use targeted=False."
        )


def check_overshoot(attack: str, overshoot: float | None) -> None:
    """Refuse an overshoot that is not a finite number of at least 0; None is let through."""
    if overshoot is not None and not 0 <= overshoot < float("inf"):
        raise UsageError(f"{attack}: overshoot must be at least 0 and finite, not {overshoot!r}.")


def check_candidates(attack: str, candidates: int) -> None:
    """Refuse fewer than two classes to consider."""
    if candidates < 2:
        raise UsageError(
            f"{attack}: candidates must be at least 2 (the label and another class), not "
            f"{candidates!r}."
        )
