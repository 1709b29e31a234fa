"""The victim linearised around an input: its margins, and the nearest of the boundaries they give.

    margins = class_margins(logits_fn, x, y, lambda logits: likely_others(logits, y, 9))
    nearest = nearest_boundary(margins.values, margins.gradients, "l2")
    x = x + boundary_step(nearest, "l2")                # DeepFool's step (Moosavi-Dezfooli, 2016)

DeepFool, SparseFool and FAB step to such boundaries; see :class:`LinearisingAttack`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxser.attacks.base import NON_FINITE, ZERO_GRADIENT, LogitsFn, MinimalNormAttack
from jaxser.attacks.projections import Bounds, Norm, per_row, row_norm, unit_l2
from jaxser.runtime.errors import UsageError

__all__ = [
    "LinearisingAttack",
    "Margins",
    "NearestBoundary",
    "boundary_step",
    "check_candidates",
    "check_overshoot",
    "class_margins",
    "clean_others",
    "likely_others",
    "logit_rounding",
    "nearest_boundary",
    "no_others",
    "safe_margin",
    "stuck_flags",
    "within_bounds",
]

# Relative to the largest logit: float32 does not tell smaller margins from zero.
_LOGIT_ROUNDING = 1e-6
_SMALLEST_LOGIT = 1e-20

# Relative to the width of the bounds: how close to a bound a sample counts as sitting at it.
_AT_THE_BOUND = 1e-6


@dataclasses.dataclass(frozen=True)
class LinearisingAttack(MinimalNormAttack):
    """A minimal-norm attack that goes to the nearest boundary, whichever it is: untargeted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targeted:
            raise UsageError(
                f"{self.name} leaves a label for the nearest other class and has no targeted "
                "form; give no target (--target, targeted=True), or take another attack."
            )


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
    finite: Bool[Array, " batch"]


def class_margins(
    logits_fn: LogitsFn,
    x: Float[Array, "batch ..."],
    y: Int[Array, " batch"],
    choose: Callable[[Float[Array, "batch classes"]], Int[Array, "batch others"]],
) -> Margins:
    """Margins against the label and their gradients, for the classes that ``choose`` picks.

    One forward pass and one backward pass per chosen class, all of them in one vmapped pull-back;
    the label itself needs none.
    """
    # ``jax.jacrev`` would pull back every class. Here the forward pass is done once, its residuals
    # serve all chosen classes, and each class minus the label is one cotangent: the difference of
    # two logits costs as much as one. Victims keep rows apart, so a cotangent over the whole batch
    # gives each row its own gradient.
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
        # Zeros, so that a broken row takes no step and makes no NaN; its attack ends it.
        values=jnp.where(finite[:, None], values, 0.0),
        gradients=jnp.where(per_row(finite, gradients), gradients, 0.0),
        finite=finite,
    )


def no_others(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."], most: int
) -> Int[Array, "batch others"]:
    """Room for ``most`` classes besides the label, as far as there are that many; zeros for now.

    What an attack goes towards is known after the first forward pass, the shape of its state
    before: ``eval_shape`` traces the victim for its number of classes and runs nothing.
    """
    classes = jax.eval_shape(logits_fn, x).shape[1]
    return jnp.zeros((x.shape[0], min(most, classes - 1)), jnp.int32)


def likely_others(
    logits: Float[Array, "batch classes"], y: Int[Array, " batch"], count: int
) -> Int[Array, "batch count"]:
    """The ``count`` classes with the largest logits besides the label, the largest first."""
    is_label = jnp.arange(logits.shape[1])[None, :] == y[:, None]
    return jax.lax.top_k(jnp.where(is_label, -jnp.inf, logits), count)[1]


def clean_others(
    logits: Float[Array, "batch classes"],
    y: Int[Array, " batch"],
    first: Bool[Array, " batch"],
    others: Int[Array, "batch others"],
) -> Int[Array, "batch others"]:
    """``others``; in a row's first step, whose input is the clean one, the likeliest of that."""
    likely = likely_others(logits, y, others.shape[1])
    return jnp.where(first[:, None], likely, others)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NearestBoundary:
    """The nearest of the linearised boundaries.

    Attributes:
      place: position of its class among those looked at.
      margin: of that class; negative on the label's side.
      normal: gradient of that margin; zero where no class has one.
      steepness: dual norm of ``normal``; the distance is ``|margin| / steepness``.
    """

    place: Int[Array, " batch"]
    margin: Float[Array, " batch"]
    normal: Float[Array, "batch ..."]
    steepness: Float[Array, " batch"]

    @property
    def flat(self) -> Bool[Array, " batch"]:
        """Rows where no class has a gradient."""
        return row_norm(self.normal, "linf") == 0


_DUAL: dict[Norm, Norm] = {"l2": "l2", "linf": "l1", "l1": "linf"}


def nearest_boundary(
    values: Float[Array, "batch others"],
    gradients: Float[Array, "batch others ..."],
    norm: Norm,
    tolerance: float = 0.0,
) -> NearestBoundary:
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

    return NearestBoundary(
        place=place, margin=pick(values), normal=pick(gradients), steepness=pick(steepness)
    )


def logit_rounding(logits: Float[Array, "batch classes"]) -> Float[Array, " batch"]:
    """What float32 may have rounded off a difference of logits; 0 where they are not finite."""
    largest = jnp.maximum(jnp.abs(logits).max(axis=1), _SMALLEST_LOGIT)
    return _LOGIT_ROUNDING * jnp.where(jnp.isfinite(largest), largest, 0.0)


def safe_margin(logits: Float[Array, "batch classes"]) -> Float[Array, " batch"]:
    """A margin that no other program of the same victim rounds away."""
    return 4 * logit_rounding(logits)


def boundary_step(nearest: NearestBoundary, norm: Norm) -> Float[Array, "batch ..."]:
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


def stuck_flags(
    flat: Bool[Array, " batch"], finite: Bool[Array, " batch"]
) -> UInt[Array, " batch"]:
    """Flags of rows without a gradient, and of rows whose logits or gradients are not finite."""
    return (ZERO_GRADIENT * (flat & finite) + NON_FINITE * ~finite).astype(jnp.uint32)


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
