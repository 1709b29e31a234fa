"""Dense layers: one in float32 for logits, and one whose gradient is cheap on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.initialisers import BIAS, KERNEL, uniform_as_torch
from jaxser.runtime.forms import on_cpu

__all__ = ["Dense", "emotion_head", "matrix_product", "product_dense"]


class Dense(nn.Module):
    """A linear layer in float32 (at least)."""

    features: int
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL
    bias_init: Initializer = BIAS

    @nn.compact
    def __call__(self, x: Float[Array, "batch channels"]) -> Float[Array, "batch features"]:
        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return x @ kernel + bias[None]


def emotion_head(num_classes: int, inputs: int, name: str | None = None) -> Dense:
    """The linear layer from ImageNet's logits to the emotions.

    It is new beside weights that were trained in PyTorch, so it begins as it would begin there.
    """
    draw = uniform_as_torch(inputs)
    return Dense(num_classes, kernel_init=draw, bias_init=draw, name=name)


def product_dense(
    features: int,
    dtype: Any,
    kernel_init: Initializer = KERNEL,
    name: str | None = None,
    **settings: Any,
) -> nn.Dense:
    """A dense layer that computes in ``dtype``, by :func:`matrix_product` on a CPU."""
    return nn.Dense(
        features,
        dtype=dtype,
        kernel_init=kernel_init,
        # What it avoids is a copy of the kernel that XLA's CPU backend makes; elsewhere the plain
        # operator, which has forward mode as well.
        dot_general=_product if on_cpu() else None,
        name=name,
        **settings,
    )


def _product(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What ``nn.Dense`` calls on a CPU, in float32 or float64."""
    return matrix_product(x, kernel)


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
