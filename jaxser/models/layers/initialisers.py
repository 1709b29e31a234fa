"""Initial weights: LeCun's variance for kernels, orthogonal recurrences, no bias; or PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array

__all__ = ["AS_TORCH", "BIAS", "KERNEL", "orthogonal_gates", "uniform_as_torch"]

# PyTorch's defaults, which the papers' code starts from, have a third of that variance; with Adam's
# steps of a fixed size, kernels that small are overwritten in the first epochs, and with few
# utterances the victim generalises worse to new speakers.
KERNEL = nn.initializers.lecun_normal()
BIAS = nn.initializers.zeros

# What PyTorch draws kernels from by default: up to the square root of 1 / inputs.
AS_TORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def orthogonal_gates(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """One orthogonal matrix per gate (Saxe et al., ICLR 2014), ``[hidden, gates * hidden]``."""
    hidden, gates = shape
    square = nn.initializers.orthogonal()
    keys = jax.random.split(key, gates // hidden)
    return jnp.concatenate([square(each, (hidden, hidden), dtype) for each in keys], axis=1)


def uniform_as_torch(inputs: int) -> Initializer:
    """What ``torch.nn.Linear`` draws kernel and bias from: up to the square root of 1 / inputs."""

    def draw(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return draw
