"""The dense layer and the layer norm of a speech transformer, as its configuration has them."""

from typing import Any

from flax import linen as nn

from jaxser.models.layers.dense import product_dense

__all__ = ["dense", "layer_norm"]


def dense(module: Any, name: str, features: int) -> nn.Dense:
    """A dense layer ``name`` of a module that has ``config``, ``dtype`` and ``param_dtype``."""
    return product_dense(
        features,
        module.dtype,
        nn.initializers.normal(module.config.initializer_range),
        name=name,
        param_dtype=module.param_dtype,
    )


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
