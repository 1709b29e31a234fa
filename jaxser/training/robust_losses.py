"""Losses of adversarial training, per row, on logits of clean and of attacked inputs.

    rows = trades_loss(logits, attacked_logits, labels, beta=6.0)       # [batch]
    rows = mart_loss(logits, attacked_logits, labels, beta=5.0)
    step_logits = divergence_logits(logits_fn, jax.nn.log_softmax(logits))

Sources: TRADES: Zhang et al., ICML 2019, equation 5. MART: Wang et al., ICLR 2020, equation 11.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxser.attacks.base import LogitsFn
from jaxser.attacks.losses import other_logits

__all__ = ["divergence", "divergence_logits", "mart_loss", "trades_loss"]

# The authors of MART have 1.0001 in the place of 1, so that its logarithm is bounded.
_MART_ONE = 1.0001


def divergence(
    log_p: Float[Array, "batch classes"], log_q: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Kullback-Leibler divergence of ``q`` from ``p`` in nats, of their logarithms.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.training.robust_losses import divergence
      >>> p, q = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.25, 0.75]]))
      >>> print(divergence(p, p), divergence(p, q).round(2))
      [0.] [0.14]
    """
    return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def trades_loss(
    logits: Float[Array, "batch classes"],
    attacked: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    beta: float,
) -> Float[Array, " batch"]:
    """Cross-entropy of the clean row, and ``beta`` times how far the attack moves its prediction.

    Args:
      logits: of clean inputs.
      attacked: of the same inputs, attacked.
      labels: true classes.
      beta: weight of the divergence; the reciprocal of the paper's λ.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.training.robust_losses import trades_loss
      >>> clean, attacked = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
      >>> f"{trades_loss(clean, clean, jnp.array([0]), beta=6.0).item():.2f}"  # nothing is moved
      '0.13'
      >>> f"{trades_loss(clean, attacked, jnp.array([0]), beta=6.0).item():.2f}"
      '9.27'
    """
    clean = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return clean + beta * divergence(jax.nn.log_softmax(logits), jax.nn.log_softmax(attacked))


def mart_loss(
    logits: Float[Array, "batch classes"],
    attacked: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    beta: float,
) -> Float[Array, " batch"]:
    """Boosted cross-entropy of the attacked row, and a divergence that misclassified rows weigh.

    Arguments as of :func:`trades_loss`; ``beta`` is the paper's λ. The boosted cross-entropy also
    pushes the likeliest wrong class down.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.training.robust_losses import mart_loss
      >>> clean, attacked = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
      >>> f"{mart_loss(clean, attacked, jnp.array([0]), beta=5.0).item():.2f}"
      '5.16'
    """
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(attacked)
    wrong = jnp.exp(other_logits(log_q, labels).max(axis=-1))
    boosted = optax.softmax_cross_entropy_with_integer_labels(attacked, labels)
    boosted -= jnp.log(_MART_ONE - wrong)
    right = jnp.exp(jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0])
    return boosted + beta * divergence(log_p, log_q) * (1.0 - right)


def divergence_logits(logits_fn: LogitsFn, log_p: Float[Array, "batch classes"]) -> LogitsFn:
    """Logits of two classes whose cross-entropy at class 0 grows with the divergence from ``p``.

    So an attack that leaves class 0 by the direction of its gradient, and not by its length,
    ascends the divergence: TRADES' inner problem by the registry's own attacks.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxser.training.robust_losses import divergence_logits
      >>> logits_fn = divergence_logits(lambda x: x, jax.nn.log_softmax(jnp.array([[2.0, 0.0]])))
      >>> print(logits_fn(jnp.array([[2.0, 0.0]])), logits_fn(jnp.array([[0.0, 2.0]])).round(2))
      [[0. 0.]] [[0.   1.52]]
    """

    def logits(x: Float[Array, "batch ..."]) -> Any:
        far = divergence(log_p, jax.nn.log_softmax(logits_fn(x).astype(jnp.float32)))
        return jnp.stack([jnp.zeros_like(far), far], axis=-1)

    return logits
