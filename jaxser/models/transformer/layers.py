"""The dense layer and the layer norm of a speech transformer, as its configuration has them."""

from typing import Any

from flax import linen as nn
from jaxtyping import Array

from jaxser.models.layers.backend import on_cpu
from jaxser.models.layers.dense import matrix_product

__all__ = ["dense", "layer_norm"]


def dense(module: Any, name: str, features: int) -> nn.Dense:
    """A dense layer ``name`` of a module that has ``config``, ``dtype`` and ``param_dtype``."""
    return nn.Dense(
        features,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        kernel_init=nn.initializers.normal(module.config.initializer_range),
        # What it avoids is a copy of the kernel that XLA's CPU backend makes; elsewhere the plain
        # operator, which has forward mode as well.
        dot_general=_product if on_cpu() else None,
        name=name,
    )


def _product(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What ``nn.Dense`` calls on a CPU, in float32 or float64."""
    return matrix_product(x, kernel)


def layer_norm(module: Any, name: str) -> nn.LayerNorm:
    """A layer norm ``name`` of a module as for :func:`dense`; statistics in float32."""
    return nn.LayerNorm(
        epsilon=module.config.layer_norm_eps,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        # Flax's default, the mean of squares less the square of the mean, is not torch's and loses
        # what is small beside the mean.
        use_fast_variance=False,
        name=name,
    )
