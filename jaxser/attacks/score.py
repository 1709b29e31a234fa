"""What the score-based attacks share: the score that they descend, candidates side by side, draws.

    score, success, finite = label_score(logits, y, targeted=False)      # one per input
    passes, each = shared_out(population, most=20)                       # candidates per pass
    scores, success, flags = candidate_scores(logits, y, targeted=False) # [batch, each]

A score-based attack asks for logits and for no gradient, so its forward passes may hold several
candidates of every row: ``[batch * candidates, ...]``, a row's candidates next to each other.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxser.attacks.base import NON_FINITE, AttackState, LogitsFn, State, extended
from jaxser.attacks.losses import is_successful, log_odds, prediction

__all__ = ["candidate_scores", "label_score", "scored_start", "shared_out", "uniform_index"]


def label_score(
    logits: Float[Array, "rows classes"], y: Int[Array, " rows"], targeted: bool
) -> tuple[Float[Array, " rows"], Bool[Array, " rows"], Bool[Array, " rows"]]:
    """What score-based searches descend, whether a row is a success, and whether it is finite.

    The score is the log-odds of the attacked label (of all but the target when ``targeted``):
    it orders inputs as the label's probability does, without rounding to 1 where the victim is
    sure. Non-finite logits score +inf.
    """
    logits = logits.astype(jnp.float32)
    predicted = prediction(logits)
    finite = predicted >= 0
    against = log_odds(logits, y)
    score = jnp.where(finite, against if targeted else -against, jnp.inf)
    return score, is_successful(predicted, y, targeted), finite


def scored_start(
    state: AttackState, cls: type[State], logits_fn: LogitsFn, targeted: bool, **more: Any
) -> State:
    """``state`` as ``cls`` with the clean input's score: one query, and successes are done."""
    score, success, finite = label_score(logits_fn(state.x), state.y, targeted)
    return extended(
        state,
        cls,
        done=success,
        queries=state.queries + 1,
        flags=(NON_FINITE * ~finite).astype(jnp.uint32),
        score=score,
        **more,
    )


def candidate_scores(
    logits: Float[Array, "rows classes"], y: Int[Array, " batch"], targeted: bool
) -> tuple[
    Float[Array, "batch candidates"], Bool[Array, "batch candidates"], UInt[Array, " batch"]
]:
    """Scores and successes of several candidates per row, and the flags of the rows.

    Args:
      logits: of all candidates, those of a row next to each other.
      y: the rows' labels.
      targeted: whether they are to be reached.
    """
    batch = y.shape[0]
    count = logits.shape[0] // batch
    scores, success, finite = (
        each.reshape(batch, count) for each in label_score(logits, jnp.repeat(y, count), targeted)
    )
    return scores, success, (NON_FINITE * ~finite.all(axis=1)).astype(jnp.uint32)


def shared_out(candidates: int, most: int) -> tuple[int, int]:
    """Forward passes for so many candidates of a row, ``most`` in each, and how many each holds.

    Every pass holds as many, so that one program serves them all, and rows that are at different
    passes of their searches share a batch. What fills up the last pass is the attack's affair.
    """
    passes = -(-candidates // most)
    return passes, -(-candidates // passes)


def uniform_index(
    uniform: Float[Array, "..."], count: int | Int[Array, "..."]
) -> Int[Array, "..."]:
    """Indices below ``count`` from uniform numbers in [0, 1)."""
    index = jnp.floor(uniform * count).astype(jnp.int32)
    return jnp.clip(index, 0, count - 1)
