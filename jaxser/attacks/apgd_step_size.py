"""How APGD sets its own step size: what a run remembers, its checkpoints, and what they change.

    state = after_look(state, loss, gradient, first, norm, count_first=False)
    state, at, gradient = checkpoint(state, gradient, index, steps, norm, rho)

Source: Croce & Hein, ICML 2020, section 3.2 and algorithm 1; for L1, where a checkpoint also sets
how many positions a step moves, Croce & Hein, ICML 2021, section 4.1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.base import AttackState
from jaxser.attacks.projections import Norm, per_row, row_norm

__all__ = ["APGDState", "after_look", "checkpoint", "window_lengths"]

# First window, shortest window and shortening per window, as shares of the iterations.
_WINDOW, _SHORTEST, _SHORTER = 0.22, 0.06, 0.03
_WINDOW_L1 = 0.04

# Of the sparse variant: share of the positions in the first steps, the divisor of the share and
# of the step, the shortest step, and what counts as a fall of the sparsity.
_L1_SHARE, _L1_DIVISOR, _L1_SHORTEST, _L1_FALL = 0.2, 1.5, 0.1, 0.95


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
    loss: Float[Array, " batch"]
    best_loss: Float[Array, " batch"]
    checked_loss: Float[Array, " batch"]
    rises: Int[Array, " batch"]
    length: Float[Array, " batch"]
    reduced: Bool[Array, " batch"]
    moving: Int[Array, " batch"]
    changed: Int[Array, " batch"]
    score: Float[Array, " batch"]
    others: Int[Array, "batch runs"]


def after_look(
    state: APGDState,
    loss: Float[Array, " batch"],
    gradient: Float[Array, "batch ..."],
    first: Bool[Array, " batch"],
    norm: Norm,
    count_first: bool,
) -> APGDState:
    """The state with the look at ``now`` taken in.

    Args:
      state: before.
      loss: at ``now``.
      gradient: there.
      first: rows whose look is the first of a run; everything begins anew there.
      norm: of the ball.
      count_first: count the first loss as a rise where it is positive.
    """
    better = first | (loss > state.best_loss)
    wide = per_row(better, state.now)
    size = state.x[0].size
    # Steps of 2ε, for L1 of ε.
    whole = state.epsilon if norm == "l1" else 2.0 * state.epsilon
    few = max(1, math.ceil(_L1_SHARE * size))
    last = jnp.where(first, 0.0, loss) if count_first else loss
    return dataclasses.replace(
        state,
        best=jnp.where(wide, state.now, state.best),
        best_gradient=jnp.where(wide, gradient, state.best_gradient),
        best_loss=jnp.where(better, loss, state.best_loss),
        loss=last,
        checked_loss=jnp.where(first, loss, state.checked_loss),
        rises=jnp.where(first, 0, state.rises + (loss > state.loss)),
        reduced=first | state.reduced,
        length=jnp.where(first, whole, state.length),
        moving=jnp.where(first, few, state.moving),
        changed=jnp.where(first, size, state.changed),
        previous=jnp.where(per_row(first, state.now), state.now, state.previous),
    )


def checkpoint(
    state: APGDState,
    gradient: Float[Array, "batch ..."],
    index: Int[Array, " batch"],
    steps: int,
    norm: Norm,
    rho: float,
) -> tuple[APGDState, Float[Array, "batch ..."], Float[Array, "batch ..."]]:
    """The state after the checkpoint, and the point and gradient that the next step sets out from.

    Args:
      state: with the look at ``now`` taken in.
      gradient: at ``now``.
      index: of the look within its run; the rows of a batch are at different ones, and most of
        them at no checkpoint, where nothing changes.
      steps: of a run.
      norm: of the ball.
      rho: share of a window's steps that have to raise the loss.
    """
    # A table made while tracing: which iterations are checkpoints depends on static fields alone.
    window = jnp.asarray(window_lengths(steps, norm))[index]
    check = window > 0
    if norm == "l1":
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
        back = check & ((state.rises <= rho * window) | stuck)
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


def window_lengths(steps: int, norm: Norm) -> np.ndarray:
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
