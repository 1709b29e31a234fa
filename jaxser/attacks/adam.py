"""Adam for a batch of rows that are each at an iteration of their own.

    first, second, step = adam(first, second, gradient, count)     # count [batch], from 1
    variable = variable - learning_rate * step

Source: Kingma & Ba, ICLR 2015, algorithm 1, with its default constants. optax has one count for all
parameters; here the rows of a batch start their descents at different times.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxser.attacks.projections import per_row

__all__ = ["adam", "reset_rows"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def adam(
    first: Float[Array, "batch ..."],
    second: Float[Array, " batch *rest"],
    gradient: Float[Array, "batch ..."],
    count: Int[Array, " batch"],
) -> tuple[Float[Array, "batch ..."], Float[Array, " batch *rest"], Float[Array, "batch ..."]]:
    """New moments and the step to subtract, before the learning rate; ``count`` starts at 1.

    ``second`` has one entry per sample of the input, as in Adam, or one per row.
    """
    square = jnp.square(gradient)
    if second.ndim < gradient.ndim:
        square = square.mean(axis=tuple(range(1, gradient.ndim)))
    first = _BETA1 * first + (1 - _BETA1) * gradient
    second = _BETA2 * second + (1 - _BETA2) * square
    steps = count.astype(jnp.float32)
    first_scale = per_row(1 / (1 - _BETA1**steps), first)
    scaled = second * per_row(1 / (1 - _BETA2**steps), second)
    spread = jnp.sqrt(scaled)
    if second.ndim < gradient.ndim:
        spread = per_row(spread, first)
    return first, second, first * first_scale / (spread + _EPSILON)


def reset_rows(rows: Bool[Array, " batch"], values: Float[Array, "batch ..."]) -> Array:
    """``values`` with zeros in the given rows: the moments of a descent that starts anew."""
    return jnp.where(per_row(rows, values), jnp.zeros_like(values), values)
