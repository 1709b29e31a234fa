"""Bilinear resizing as a matrix: differentiable, and one product per axis.

    smaller = jnp.einsum("oi,bi->bo", jnp.asarray(resize_matrix(229, 224)), rows)

When there are fewer values than before, the triangle is widened with the step from one to the next
("antialias"), as ``torchvision.transforms.Resize`` and ``jax.image.resize`` do by default.
"""

import functools

import numpy as np
from jaxtyping import Float

__all__ = ["resize_matrix"]


@functools.lru_cache(maxsize=32)
def resize_matrix(before: int, after: int) -> Float[np.ndarray, "after before"]:
    """Weights of ``before`` values in each of ``after``, in float64; each line sums to 1.

    The cells of both lie over the same interval, and values stand at their middle. The array is
    shared by all callers and cannot be written to.
    """
    step = before / after
    places = (np.arange(after) + 0.5) * step - 0.5
    distances = np.abs(places[:, None] - np.arange(before)[None])
    weights = np.maximum(0.0, 1.0 - distances / max(step, 1.0))
    matrix = weights / weights.sum(axis=1, keepdims=True)
    matrix.setflags(write=False)
    return matrix
