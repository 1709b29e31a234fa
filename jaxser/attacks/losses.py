"""Per-row losses on logits, for attacks.

    loss = cross_entropy(logits, labels)          # [batch]
    loss, fell_back = attack_loss(logits, labels, targeted=False)
    ratio = dlr_loss(logits, labels)              # no rescaling of the logits changes it
    total = loss.sum()                            # attacks differentiate the sum over rows

Cross-entropy is written with the log-odds against the label, ``m = logsumexp_{j != y} z_j - z_y``:
it equals ``log(1 + exp(m))``, whose gradient keeps its relative precision where the textbook
``softmax - onehot`` cancels. The margin is that of Carlini & Wagner (S&P 2017, loss f6), the
difference of logits ratio (DLR) that of Croce & Hein (ICML 2020).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "DLR_CLASSES",
    "SATURATION_LOG_ODDS",
    "TARGETED_DLR_CLASSES",
    "attack_loss",
    "cross_entropy",
    "dlr_loss",
    "is_successful",
    "lead",
    "log_odds",
    "margin_loss",
    "other_logits",
    "prediction",
    "targeted_dlr_loss",
]

Labels = Int[Array, "..."] | Int[np.ndarray, "..."]

# Below this log-odds, 1 - softmax(z)[y] is under the spacing of float32 at 1: the label's
# probability rounds to 1 and the gradient of cross-entropy is lost.
SATURATION_LOG_ODDS = math.log(2.0**-23)

# Classes that the difference of logits ratios divide by.
DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4


def other_logits(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, "batch classes"]:
    """The logits with the label's own at minus infinity.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import other_logits
      >>> other_logits(jnp.array([[2.0, 1.0, 0.5]]), jnp.array([0])).tolist()
      [[-inf, 1.0, 0.5]]
    """
    # By comparison with an iota, not by a scatter: elementwise, it fuses into what follows.
    is_label = jnp.arange(logits.shape[-1])[None, :] == labels[:, None]
    return jnp.where(is_label, -jnp.inf, logits)


def _label_logit(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def margin_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Largest other logit minus the label's; positive where the prediction is not the label.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import margin_loss
      >>> margin_loss(jnp.array([[2.0, 1.0, 0.5], [0.0, 1.5, 0.0]]), jnp.array([0, 0])).tolist()
      [-1.0, 1.5]
    """
    return other_logits(logits, labels).max(axis=-1) - _label_logit(logits, labels)


def lead(
    logits: Float[Array, "batch classes"], leave: Int[Array, " batch"], reach: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """The logit of ``reach`` over that of ``leave``: the margin between two given classes.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import lead
      >>> lead(jnp.array([[2.0, 1.0, 0.5]]), leave=jnp.array([0]), reach=jnp.array([2])).tolist()
      [-1.5]
    """
    pair = jnp.take_along_axis(logits, jnp.stack([leave, reach], axis=1), axis=1)
    return pair[:, 1] - pair[:, 0]


def dlr_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Margin over the distance of the first from the third logit (Croce & Hein 2020, eq. 6).

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import dlr_loss
      >>> logits, label = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([0])
      >>> dlr_loss(logits, label).tolist() == dlr_loss(100 * logits, label).tolist() == [-0.5]
      True
    """
    top, _ = jax.lax.top_k(logits, DLR_CLASSES)
    return margin_loss(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr_loss(
    logits: Float[Array, "batch classes"], leave: Int[Array, " batch"], reach: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Lead of ``reach`` over ``leave``, scaled (Croce & Hein 2020, eq. 7).

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import targeted_dlr_loss
      >>> logits = jnp.array([[2.0, 1.0, 0.0, 0.0]])
      >>> targeted_dlr_loss(logits, leave=jnp.array([0]), reach=jnp.array([1])).tolist()
      [-0.5]
    """
    top, _ = jax.lax.top_k(logits, TARGETED_DLR_CLASSES)
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12
    return lead(logits, leave, reach) / scale


def log_odds(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Log of the odds against the label, ``log((1 - p) / p)``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import log_odds
      >>> print(log_odds(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([0])).round(3))  # log 2
      [0.693]
    """
    return jax.nn.logsumexp(other_logits(logits, labels), axis=-1) - _label_logit(logits, labels)


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """Cross-entropy of each row in nats.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import cross_entropy
      >>> print(cross_entropy(jnp.array([[0.0, 0.0], [60.0, 0.0]]), jnp.array([0, 0])))
      [6.93...e-01 8.75...e-27]
    """
    return jax.nn.softplus(log_odds(logits, labels))


def attack_loss(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], targeted: bool
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """The loss an attack ascends, and the rows where it had to be the margin.

    Untargeted attacks ascend the cross-entropy of the attacked label, targeted ones descend
    that of the target. Where the softmax is saturated at the label (``1 - p`` underflows in
    float32) the row's loss is the margin instead; the choice is made before the backward pass,
    so it costs none.

    Examples:
      The second row is so sure that its probability rounds to 1: its loss is the margin.

      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import attack_loss
      >>> logits = jnp.array([[0.0, 0.0], [60.0, 0.0]])
      >>> loss, fell_back = attack_loss(logits, jnp.array([0, 0]), targeted=False)
      >>> print(loss.round(2), fell_back)
      [  0.69 -60.  ] [False  True]
    """
    # The choice is a constant to the gradient, which is that of the branch taken. Both branches
    # have finite gradients where the logits are, so `where` lets no NaN of the other one through.
    saturated = jax.lax.stop_gradient(log_odds(logits, labels)) < SATURATION_LOG_ODDS
    loss = jnp.where(saturated, margin_loss(logits, labels), cross_entropy(logits, labels))
    return (-loss if targeted else loss), saturated


def prediction(logits: Float[Array, "batch classes"]) -> Int[Array, " batch"]:
    """Predicted class, or -1 where a logit is not finite (then there is no prediction).

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.attacks.losses import prediction
      >>> prediction(jnp.array([[0.1, 0.9], [jnp.nan, 0.0]])).tolist()
      [1, -1]
    """
    finite = jnp.isfinite(logits).all(axis=-1)
    return jnp.where(finite, jnp.argmax(logits, axis=-1), -1).astype(jnp.int32)


def is_successful(predicted: Labels, labels: Labels, targeted: bool) -> Any:
    """Whether a prediction is what the attack wants: the target, or any class but the label.

    A row without a prediction (-1: non-finite logits) is never a success. The result is a
    ``[batch]`` bool array of the arguments' kind, JAX or NumPy.

    Examples:
      >>> import numpy as np
      >>> from jaxser.attacks.losses import is_successful
      >>> is_successful(np.array([1, 0, -1]), np.array([0, 0, 0]), targeted=False).tolist()
      [True, False, False]
    """
    reached = predicted == labels if targeted else predicted != labels
    return reached & (predicted >= 0)
