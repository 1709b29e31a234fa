"""Gradients of the victim per row: of an attack's loss, its mean over noise, and of all logits.

    found = loss_gradient(logits_fn, x, y, targeted=False)       # cross-entropy, or the margin
    found = row_gradient(logits_fn, x, y, False, loss=margin)    # any loss of the logits
    found = expected_gradient(logits_fn, x, y, False, samples=3) # over draws of the victim's noise
    logits, jacobian = class_gradients(logits_fn, x)

The gradients of a loss are one forward and one backward pass of the whole batch, those of the
logits one backward pass per class. A row whose logits or loss gradient are not finite gets a zero
gradient and a flag, so that it stays where it is.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxser.attacks.base import MARGIN_FALLBACK, NON_FINITE, ZERO_GRADIENT, LogitsFn
from jaxser.attacks.losses import attack_loss, is_successful, prediction
from jaxser.attacks.projections import per_row
from jaxser.attacks.randomised import RandomLogits, independent_draws

__all__ = [
    "Loss",
    "LossGradient",
    "RowGradient",
    "any_draw",
    "class_gradients",
    "expected_gradient",
    "loss_gradient",
    "mean_over_draws",
    "row_gradient",
]

# Of the logits: the loss of each row, and the flags of the rows where there is something to say.
Loss = Callable[
    [Float[Array, "batch classes"]], tuple[Float[Array, " batch"], UInt[Array, " batch"] | int]
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossGradient:
    """What a step along the gradient needs to know.

    Attributes:
      gradient: of each row's loss, to ascend; zero where it is not finite.
      reached: rows whose input already is what the attack wants.
      flags: what has to be said about the row.
    """

    gradient: Float[Array, "batch ..."]
    reached: Bool[Array, " batch"]
    flags: UInt[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowGradient(LossGradient):
    """One forward and one backward pass.

    Attributes:
      loss: of each row, as it came.
      logits: in float32.
      finite: rows whose logits and gradient are.
    """

    loss: Float[Array, " batch"]
    logits: Float[Array, "batch classes"]
    finite: Bool[Array, " batch"]


def row_gradient(
    logits_fn: LogitsFn,
    x: Float[Array, "batch ..."],
    y: Int[Array, " batch"],
    targeted: bool,
    loss: Loss,
) -> RowGradient:
    """Gradient of each row's loss by its own input.

    Args:
      logits_fn: of the victim.
      x: inputs.
      y: the labels to leave, or to reach where ``targeted``; ``reached`` is about them.
      targeted: see ``y``.
      loss: of the logits.
    """

    # A row's loss depends on its own input alone, so the gradient of the sum is all rows' gradients
    # in one backward pass; a mean would make them depend on the batch size, and underflow sooner.
    def total(
        x: Float[Array, "batch ..."],
    ) -> tuple[Float[Array, ""], tuple[Array, Array, Array | int]]:
        # The victim may compute in half precision; losses and their differences may not.
        logits = logits_fn(x).astype(jnp.float32)
        losses, flags = loss(logits)
        return losses.sum(), (logits, losses, flags)

    gradient, (logits, losses, flags) = jax.grad(total, has_aux=True)(x)
    axes = tuple(range(1, x.ndim))
    predicted = prediction(logits)
    finite = jnp.isfinite(gradient).all(axis=axes) & (predicted >= 0)
    gradient = jnp.where(per_row(finite, x), gradient, 0.0)
    flat = ZERO_GRADIENT * (finite & (gradient == 0).all(axis=axes))
    return RowGradient(
        gradient=gradient,
        reached=is_successful(predicted, y, targeted),
        flags=jnp.where(finite, flags, NON_FINITE).astype(jnp.uint32) | flat.astype(jnp.uint32),
        loss=losses,
        logits=logits,
        finite=finite,
    )


def loss_gradient(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."], y: Int[Array, " batch"], targeted: bool
) -> RowGradient:
    """Gradient of the attack loss: the cross-entropy, or the margin where that is saturated."""

    def loss(
        logits: Float[Array, "batch classes"],
    ) -> tuple[Float[Array, " batch"], UInt[Array, " batch"]]:
        losses, fell_back = attack_loss(logits, y, targeted)
        return losses, (MARGIN_FALLBACK * fell_back).astype(jnp.uint32)

    return row_gradient(logits_fn, x, y, targeted, loss)


def expected_gradient(
    logits_fn: RandomLogits,
    x: Float[Array, "batch ..."],
    y: Int[Array, " batch"],
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
    return LossGradient(
        gradient=mean_over_draws(found.gradient, samples),
        reached=mean_over_draws(found.reached, samples) > 0.5,
        flags=any_draw(found.flags, samples),
    )


def mean_over_draws(values: Array, draws: int) -> Float[Array, "batch ..."]:
    """Mean of ``[batch * draws, ...]`` values, those of a row together, over a row's draws."""
    return values.reshape(-1, draws, *values.shape[1:]).mean(axis=1)


def any_draw(flags: UInt[Array, " rows"], draws: int) -> UInt[Array, " batch"]:
    """Union of the flags of a row's draws."""
    return jax.lax.reduce(flags.reshape(-1, draws), jnp.uint32(0), jax.lax.bitwise_or, (1,))


def class_gradients(
    logits_fn: LogitsFn, x: Float[Array, "batch ..."]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch classes ..."]]:
    """Logits and the gradient of each of them: one forward pass, one backward pass per class."""
    logits, pull_back = jax.vjp(lambda x: logits_fn(x).astype(jnp.float32), x)
    # vmap of the pull-back, not jacrev of each row: rows stay one batch to the victim, and the
    # forward pass is shared by all classes.
    each = jnp.broadcast_to(jnp.eye(logits.shape[1])[:, None, :], (logits.shape[1], *logits.shape))
    (gradients,) = jax.vmap(pull_back)(each)
    return logits, jnp.moveaxis(gradients, 0, 1)
