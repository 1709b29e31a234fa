"""Where a network that computes in half precision keeps float32."""

from typing import Any

import jax.numpy as jnp

__all__ = ["at_least_float32"]


def at_least_float32(dtype: Any) -> Any:
    """The type of statistics, softmax, an LSTM's cell and logits in a network of type ``dtype``.

    These are sums over many samples or steps, of which bfloat16 keeps 8 bits only. float64 stays
    float64: in it the tests compare a layer with its textbook form.
    """
    return jnp.promote_types(dtype, jnp.float32)
