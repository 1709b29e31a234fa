"""Carlini & Wagner's change of variables: an input as the tanh of a variable that has no bounds.

    x_adv, slope = in_box(x, offset, (-1.0, 1.0))     # slope: derivative of x_adv by the offset
    offset = offset_to(x, x_adv, (-1.0, 1.0))         # and back

``in_box`` and ``offset_to`` count from x; ``to_tanh``, ``from_tanh`` and ``tanh_slope`` are the
absolute variable with the constants of the Adversarial Robustness Toolbox (ART).

Source: Carlini & Wagner, S&P 2017, section V-B.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.attacks.projections import Box, clip_to_bounds

__all__ = ["from_tanh", "in_box", "offset_to", "tanh_slope", "to_tanh"]

# A sample at its bound has no finite place in tanh space; the published code scales by this.
_SMOOTHER = 0.999999

# Half the width of a box around a sample that is so large that an amplitude rounds away beside it.
_NARROWEST = 1e-30


def in_box(
    x: Float[Array, "batch ..."], offset: Float[Array, "batch ..."], bounds: Box
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch ..."]]:
    """The input at ``offset`` from x in tanh space, and its derivative by the offset.

    The published variable w has ``x_adv = middle + half * tanh(w)``. With ``w = w_0 + offset``
    and ``t_0 = tanh(w_0)`` the addition theorem gives x_adv - x as
    ``half * (1 - t_0²) * tanh(offset) / (1 + t_0 * tanh(offset))``: the same curve, but a zero
    offset is x to the last bit and small perturbations keep all their digits. Without bounds the
    offset is the perturbation.
    """
    if bounds is None:
        return x + offset, jnp.ones_like(x)
    middle, half = _middle_and_half(bounds)
    start = jnp.clip((x - middle) / half, -_SMOOTHER, _SMOOTHER)
    moved = jnp.tanh(offset)
    room, share = half * (1 - start**2), 1 / (1 + start * moved)
    x_adv = clip_to_bounds(x + room * moved * share, x, bounds)
    return x_adv, room * (1 - moved**2) * share**2


def offset_to(
    x: Float[Array, "batch ..."], x_adv: Float[Array, "batch ..."], bounds: Box
) -> Float[Array, "batch ..."]:
    """The offset whose :func:`in_box` is ``x_adv``, short of the infinite one of a bound."""
    delta = x_adv - x
    if bounds is None:
        return delta
    middle, half = _middle_and_half(bounds)
    start = jnp.clip((x - middle) / half, -_SMOOTHER, _SMOOTHER)
    moved = delta / (half * (1 - start**2) - delta * start)
    return jnp.arctanh(jnp.clip(moved, -_SMOOTHER, _SMOOTHER))


def _middle_and_half(bounds: tuple[float | Array, float | Array]) -> tuple[Any, Any]:
    """Centre and half the width, which is not zero where a box has none that float32 can tell."""
    low, high = bounds
    half = (high - low) / 2
    if isinstance(half, Array):
        half = jnp.maximum(half, _NARROWEST)
    return (low + high) / 2, half


def to_tanh(x: Float[Array, "batch ..."], bounds: tuple[float, float]) -> Float[Array, "batch ..."]:
    """ART's variable of an input, which is clipped to the bounds first."""
    low, high = bounds
    unit = (jnp.clip(x, low, high) - low) / (high - low)
    return jnp.arctanh((2 * unit - 1) * _SMOOTHER)


def from_tanh(
    variable: Float[Array, "batch ..."], bounds: tuple[float, float]
) -> Float[Array, "batch ..."]:
    """The input at ART's variable: undoes :func:`to_tanh` but for the smoother."""
    low, high = bounds
    return (jnp.tanh(variable) + 1) / 2 * (high - low) + low


def tanh_slope(
    variable: Float[Array, "batch ..."], bounds: tuple[float, float]
) -> Float[Array, "batch ..."]:
    """ART's derivative of :func:`from_tanh`, which carries the smoother."""
    return (bounds[1] - bounds[0]) * (1 - jnp.square(jnp.tanh(variable))) / (2 * _SMOOTHER)
