"""Which parts of an input a victim's logit of a class depends on.

    logits, gradient = input_gradient(victim, victim.variables, x, classes)
    maps = scaled_map(grad_cam_plus_plus(activations, gradients), rows=224, columns=224)
    total = sum(weight * gradient_between(victim, variables, x, baseline, place, classes)[1]
                for place, weight in zip(*path(32)))         # times x - baseline: an attribution

Everything is a pure function of a batch, and no row depends on another.

Sources: Simonyan et al., "Deep Inside Convolutional Networks", 2014 (the gradient by the input);
Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017 (integrated gradients);
Chattopadhay et al., "Grad-CAM++", WACV 2018.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxser.speech.resizing import resize_matrix
from jaxser.victims.victim import Victim

__all__ = [
    "GradCamCompat",
    "cells",
    "grad_cam_plus_plus",
    "gradient_between",
    "input_gradient",
    "input_gradient_and_map",
    "path",
    "scaled_map",
]

GradCamCompat = Literal["grad-cam"]

# What grad-cam 1.5.7 adds to its denominators.
_PEER_ALPHA, _PEER_SCALE = 1e-6, 1e-7


def input_gradient(
    victim: Victim, variables: Any, x: Float[Array, "batch ..."], classes: Int[Array, " batch"]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch ..."]]:
    """Logits, and of every row the gradient of its class' logit by its input."""

    def score(x: Array) -> tuple[Array, Array]:
        logits = victim.apply(variables, x)
        return _chosen(logits, classes).sum(), logits

    gradient, logits = jax.grad(score, has_aux=True)(x)
    return logits, gradient


def input_gradient_and_map(
    victim: Victim, variables: Any, x: Float[Array, "batch ..."], classes: Int[Array, " batch"]
) -> tuple[Array, Array, Array, Array]:
    """Logits, the gradient by the input, the feature map and the gradient by it, in one pass.

    ``victim`` has a feature map.
    """
    assert victim.feature_map is not None
    look, shape = victim.feature_map, victim.feature_map.shape(variables, x)
    assert shape is not None

    def score(x: Array, offset: Array) -> tuple[Array, tuple[Array, Array]]:
        logits, maps = look(variables, x, offset)
        return _chosen(logits, classes).sum(), (logits, maps)

    offset = jnp.zeros((len(x), *shape), jnp.float32)
    (by_input, by_map), (logits, maps) = jax.grad(score, argnums=(0, 1), has_aux=True)(x, offset)
    return logits, by_input, maps.astype(jnp.float32), by_map


def gradient_between(
    victim: Victim,
    variables: Any,
    x: Float[Array, "batch ..."],
    baseline: Float[Array, "batch ..."],
    place: Float[Array, ""],
    classes: Int[Array, " batch"],
) -> tuple[Float[Array, " batch"], Float[Array, "batch ..."]]:
    """A class' logit and its gradient at a place on the line from ``baseline``, 0, to ``x``, 1."""
    logits, gradient = input_gradient(victim, variables, baseline + place * (x - baseline), classes)
    return _chosen(logits, classes), gradient


def path(steps: int) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Places from 0 to 1 and their weights, which sum to 1: Gauss and Legendre's quadrature.

    It is exact for polynomials of degree ``2 steps - 1``, and what captum does.
    """
    places, weights = np.polynomial.legendre.leggauss(steps)
    return (places + 1) / 2, weights / 2


def grad_cam_plus_plus(
    activations: Float[Array, "batch rows columns channels"],
    gradients: Float[Array, "batch rows columns channels"],
    compat: GradCamCompat | None = None,
) -> Float[Array, "batch rows columns"]:
    """Grad-CAM++ of a feature map, not scaled: how much its places speak for a class; 0 or more.

    Equations 10 and 19 of the paper, whose score is the exponential of the logit; that factor is
    one for a whole map, and is left out.

    Args:
      activations: a feature map.
      gradients: of the logit by it.
      compat: "grad-cam" adds 1e-6 to the denominator, as grad-cam 1.5.7 does. Beside gradients of
        less than 7e-4 that is all of the denominator, and weights become those of other channels.
    """
    total = activations.sum(axis=(1, 2), keepdims=True)
    if compat == "grad-cam":
        square = gradients**2
        alpha = square / (2 * square + total * square * gradients + _PEER_ALPHA)
    else:
        # Both sides of the fraction by the square of the gradient, which may be too small for one.
        denominator = 2 + total * gradients
        alpha = 1 / jnp.where(denominator == 0, 1.0, denominator)
    weights = (jax.nn.relu(gradients) * jnp.where(gradients == 0, 0.0, alpha)).sum(
        axis=(1, 2), keepdims=True
    )
    return jax.nn.relu((weights * activations).sum(axis=3))


def scaled_map(
    maps: Float[Array, "batch rows columns"],
    size: tuple[int, int],
    compat: GradCamCompat | None = None,
) -> Float[Array, "batch height width"]:
    """Maps in the size of a picture, bilinear, from 0 to 1; a map that is the same all over is 0.

    Args:
      maps: of any scale.
      size: rows and columns of the picture.
      compat: "grad-cam" adds 1e-7 to the largest before it divides, before the map is resized and
        after it, as grad-cam 1.5.7 does.
    """
    if compat == "grad-cam":
        maps = _stretched(maps, _PEER_SCALE)
    down, across = (
        jnp.asarray(resize_matrix(before, after), jnp.float32)
        for before, after in zip(maps.shape[1:], size, strict=True)
    )
    maps = jnp.einsum("or,brc,pc->bop", down, maps, across)
    return _stretched(maps, _PEER_SCALE if compat == "grad-cam" else 0.0)


def cells(attribution: Float[Array, "batch ..."], signed: bool) -> Float[Array, "batch ..."]:
    """An attribution per cell of a picture, or sample of a waveform.

    Args:
      attribution: of inputs; of images ``[batch, rows, columns, channels]``.
      signed: sum a cell's channels, as attributions add up; else the largest magnitude among them
        (Simonyan et al., section 3.1).
    """
    if signed:
        return attribution.sum(axis=3) if attribution.ndim == 4 else attribution
    magnitude = jnp.abs(attribution)
    return magnitude.max(axis=3) if attribution.ndim == 4 else magnitude


def _chosen(
    logits: Float[Array, "batch classes"], classes: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def _stretched(maps: Float[Array, "batch rows columns"], added: float) -> Array:
    """From 0 to 1."""
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    largest = maps.max(axis=(1, 2), keepdims=True) + added
    return maps / jnp.where(largest == 0, 1.0, largest)
