"""Activations of the speech transformers, by the names of Hugging Face's ``config.json``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "UNSUPPORTED", "gelu"]


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


def _laplace(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Ma et al., "Mega", ICLR 2023, equation 17: mean sqrt(1/2), deviation sqrt(1/(4 pi))."""
    return 0.5 * (1 + lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "gelu_accurate": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_python": gelu,
    "gelu_python_tanh": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "hardswish": nn.hard_swish,
    "laplace": _laplace,
    "leaky_relu": nn.leaky_relu,
    "linear": lambda x: x,
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
    "relu2": lambda x: jnp.square(nn.relu(x)),
    "relu6": nn.relu6,
    "selu": nn.selu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "sqrtsoftplus": lambda x: jnp.sqrt(nn.softplus(x)),
    "swish": nn.silu,
    "tanh": jnp.tanh,
}

# Those of transformers with parameters of their own, for which the key tables have no place.
UNSUPPORTED = ("prelu", "xielu")
