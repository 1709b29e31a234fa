"""Dense layers: one in float32 for logits, and a product whose gradient is cheap on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS, KERNEL

__all__ = ["Dense", "matrix_product"]


class Dense(nn.Module):
    """A linear layer in float32 (at least)."""

    features: int
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL

    @nn.compact
    def __call__(self, x: Float[Array, "batch channels"]) -> Float[Array, "batch features"]:
        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        bias = self.param("bias", BIAS, (self.features,), self.param_dtype)
        return x @ kernel + bias[None]


@jax.custom_vjp
def matrix_product(
    x: Float[Array, "*rows inputs"], kernel: Float[Array, "inputs outputs"]
) -> Float[Array, "*rows outputs"]:
    """``x @ kernel`` whose gradient by ``x`` turns the smaller matrices on their side.

    On a CPU XLA copies the kernel, turned, for every such gradient, on one thread; where there are
    few rows, turning what comes in and goes out is less work. This is the form of a transpose,
    which a ``custom_jvp`` would leave to JAX; so there is no forward mode.
    """
    return x @ kernel


def _matrix_product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matrix_product_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    inputs, outputs = kernel.shape
    dy = dy.reshape(-1, outputs)
    # Numbers of what comes in and goes out against those of the kernel.
    few = dy.shape[0] * (inputs + outputs) < inputs * outputs
    dx = (kernel @ dy.T).T if few else dy @ kernel.T
    return dx.reshape(x.shape), x.reshape(-1, inputs).T @ dy


matrix_product.defvjp(_matrix_product_forward, _matrix_product_backward)
