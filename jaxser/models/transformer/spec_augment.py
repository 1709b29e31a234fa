"""SpecAugment: which frames and which features are masked in training.

Source: Park et al., "SpecAugment", Interspeech 2019, as transformers' speech models have it.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key

__all__ = ["span_mask"]


def span_mask(
    key: Key[Array, ""],
    lengths: Int[Array, " batch"],
    size: int,
    probability: float,
    span: int,
    fewest: int,
) -> Bool[Array, "batch size"]:
    """Where SpecAugment masks: spans of ``span`` that start at different places.

    ``probability * length / span`` spans per row, rounded up or down at random (the same way for
    the whole batch) and ``fewest`` at least; spans may overlap and stay within the row's length.
    """
    most = min(max(int(probability * size / span + 1), fewest), size // span)
    if most == 0:
        return jnp.zeros((lengths.shape[0], size), bool)
    rounding, places = jax.random.split(key)
    spans = jnp.floor(probability * lengths / span + jax.random.uniform(rounding))
    starts_allowed = jnp.maximum(lengths - (span - 1), 0)
    spans = jnp.minimum(jnp.clip(spans.astype(int), fewest, most), starts_allowed)
    position = jnp.arange(size)
    order = jax.random.uniform(places, (lengths.shape[0], size))
    order = jnp.where(position[None] < starts_allowed[:, None], order, -1.0)
    start = lax.top_k(order, most)[1]
    chosen = jnp.arange(most)[None] < spans[:, None]
    offset = position[None, None] - start[..., None]
    return jnp.any((offset >= 0) & (offset < span) & chosen[..., None], axis=1)
