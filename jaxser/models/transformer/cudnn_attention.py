"""Attention by cuDNN's kernel, which never writes the scores, of any number of frames.

    y = cudnn_attention(query, key, value, bias, counts)       # [batch, frames, heads, size]

NVIDIA GPUs alone, in half precision.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxser.runtime.errors import UsageError
from jaxser.runtime.forms import on_gpu
from jaxser.runtime.text import one_line

__all__ = ["cudnn_attention"]


def cudnn_attention(
    query: Float[Array, "batch frames heads size"],
    key: Float[Array, "batch frames heads size"],
    value: Float[Array, "batch frames heads size"],
    bias: Float[Array, "batch heads frames frames"] | None,
    counts: Int[Array, " batch"] | None,
) -> Float[Array, "batch frames heads size"]:
    """Attention among the first ``counts`` frames of every row, or among all.

    Raises:
      UsageError: there is no GPU whose cuDNN has it.
    """
    if not on_gpu():
        raise UsageError(
            'attention="cudnn" needs an NVIDIA GPU, and JAX has none here; give attention="xla".'
        )
    batch, frames, _, _ = query.shape
    # The gradient's kernel refuses an odd number of frames: one is added that no frame looks at.
    # Counts and not a mask: a mask would be a bias of the scores' size.
    odd = frames % 2
    if odd:
        counts = jnp.full(batch, frames) if counts is None else counts
        query, key, value = (
            jnp.pad(each, ((0, 0), (0, 1), (0, 0), (0, 0))) for each in (query, key, value)
        )
        if bias is not None:
            bias = jnp.pad(bias, ((0, 0), (0, 0), (0, 1), (0, 1)))
    counts = None if counts is None else counts.astype(jnp.int32)
    try:
        return _attention(query, key, value, bias, counts)[:, :frames]
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise  # of the device, which has it
        raise UsageError(
            f"cuDNN's attention cannot be used here ({one_line(str(error).rstrip('.'))}); give "
            'attention="xla".'
        ) from error


def _attend(
    query: Array, key: Array, value: Array, bias: Array | None, counts: Array | None
) -> Array:
    return jax.nn.dot_product_attention(
        query, key, value, bias, key_value_seq_lengths=counts, implementation="cudnn"
    )


_attention = jax.custom_vjp(_attend)


def _forward(
    query: Array, key: Array, value: Array, bias: Array | None, counts: Array | None
) -> tuple[Array, Any]:
    y, pull_back = jax.vjp(functools.partial(_attend, counts=counts), query, key, value, bias)
    return y, pull_back


# JAX cannot batch cuDNN's gradient where the cotangents alone have an axis more, as those of all
# classes at once have. One after the other they fill the device just as well.
@jax.custom_batching.sequential_vmap
def _one_by_one(pull_back: Any, cotangent: Array) -> tuple[Array | None, ...]:
    return tuple(pull_back(cotangent))


def _backward(pull_back: Any, cotangent: Array) -> tuple[Array | None, ...]:
    return (*_one_by_one(pull_back, cotangent), None)


_attention.defvjp(_forward, _backward)
