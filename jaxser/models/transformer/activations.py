"""Activations of the speech transformers, by the names of Hugging Face's ``config.json``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "gelu"]


@jax.custom_jvp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gaussian error linear unit, exact.

    Differentiated by hand: one array is kept for the derivative, not three. They are large: the
    feature encoder's first layer has a frame for every five samples.
    """
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (x,), (dx,) = primals, tangents
    density = jnp.exp(-0.5 * x**2) * math.sqrt(0.5 / math.pi)
    return gelu(x), dx * (0.5 * (1 + lax.erf(x * math.sqrt(0.5))) + x * density)


def _tanh_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return nn.gelu(x, approximate=True)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": nn.relu,
    "selu": nn.selu,
    "silu": nn.silu,
    "swish": nn.silu,
}
