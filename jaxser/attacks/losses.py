"""Per-row losses on logits, for attacks.

    loss = cross_entropy(logits, labels)          # [batch]
    loss, fell_back = attack_loss(logits, labels, targeted=False)
    total = loss.sum()                            # attacks differentiate the sum over rows

Cross-entropy is written with the log-odds against the label, ``m = logsumexp_{j != y} z_j - z_y``:
it equals ``log(1 + exp(m))``, whose gradient keeps its relative precision where the textbook
``softmax - onehot`` cancels. The margin is that of Carlini & Wagner (S&P 2017, loss f6).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "SATURATION_LOG_ODDS",
    "attack_loss",
    "cross_entropy",
    "is_successful",
    "log_odds",
    "margin_loss",
    "prediction",
]

Labels = Int[Array, "batch"] | Int[np.ndarray, "batch"]

# Below this log-odds, 1 - softmax(z)[y] is under the spacing of float32 at 1: the label's
# probability rounds to 1 and the gradient of cross-entropy is lost.
SATURATION_LOG_ODDS = math.log(2.0**-23)


def _is_label(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Bool[Array, "batch classes"]:
    return jnp.arange(logits.shape[-1])[None, :] == labels[:, None]


def _label_logit(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def margin_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Largest other logit minus the label's; positive where the prediction is not the label."""
    others = jnp.where(_is_label(logits, labels), -jnp.inf, logits)
    return others.max(axis=-1) - _label_logit(logits, labels)


def log_odds(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Log of the odds against the label, ``log((1 - p) / p)``."""
    others = jnp.where(_is_label(logits, labels), -jnp.inf, logits)
    return jax.nn.logsumexp(others, axis=-1) - _label_logit(logits, labels)


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Cross-entropy of each row in nats."""
    return jax.nn.softplus(log_odds(logits, labels))


def attack_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"], targeted: bool
) -> tuple[Float[Array, "batch"], Bool[Array, "batch"]]:
    """The loss an attack ascends, and the rows where it had to be the margin.

    Untargeted attacks ascend the cross-entropy of the attacked label, targeted ones descend
    that of the target. Where the softmax is saturated at the label (``1 - p`` underflows in
    float32) the row's loss is the margin instead; the choice is made before the backward pass,
    so it costs none.
    """
    saturated = jax.lax.stop_gradient(log_odds(logits, labels)) < SATURATION_LOG_ODDS
    loss = jnp.where(saturated, margin_loss(logits, labels), cross_entropy(logits, labels))
    return (-loss if targeted else loss), saturated


def prediction(logits: Float[Array, "batch classes"]) -> Int[Array, "batch"]:
    """Predicted class, or -1 where a logit is not finite (then there is no prediction)."""
    finite = jnp.isfinite(logits).all(axis=-1)
    return jnp.where(finite, jnp.argmax(logits, axis=-1), -1).astype(jnp.int32)


def is_successful(predicted: Labels, labels: Labels, targeted: bool) -> Any:
    """Whether a prediction is what the attack wants: the target, or any class but the label.

    A row without a prediction (-1: non-finite logits) is never a success. The result is a
    ``[batch]`` bool array of the arguments' kind, JAX or NumPy.
    """
    reached = predicted == labels if targeted else predicted != labels
    return reached & (predicted >= 0)
