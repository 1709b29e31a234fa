"""From a transformer's states to logits."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.waveform import before_padding
from jaxser.models.transformer.configuration import SpeechConfig

__all__ = ["ClassificationHead"]


class ClassificationHead(nn.Module):
    """Weighted sum of the layers (where asked for), mean over frames, two dense layers."""

    num_classes: int
    config: SpeechConfig
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        last: Float[Array, "batch frames hidden"],
        states: Sequence[Float[Array, "batch frames hidden"]],
        counts: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch classes"]:
        config = self.config
        wide = at_least_float32(last.dtype)

        def mean(state: Float[Array, "batch frames hidden"]) -> Float[Array, "batch hidden"]:
            state = state.astype(wide)
            if counts is None:
                return state.mean(axis=1)
            valid = before_padding(counts, state.shape[1])
            state = jnp.where(valid[..., None], state, 0)
            return state.sum(axis=1) / counts[:, None].astype(wide)

        # The projector is linear, so the mean may come before it.
        if config.use_weighted_layer_sum:
            equal = nn.initializers.constant(1 / len(states))
            weights = self.param("layer_weights", equal, (len(states),), self.param_dtype)
            means = jnp.stack([mean(state) for state in states])
            pooled = jnp.einsum("l,lbh->bh", nn.softmax(weights.astype(wide)), means)
        else:
            pooled = mean(last)
        init = nn.initializers.normal(config.initializer_range)
        for name, features in (
            ("projector", config.classifier_proj_size),
            ("classifier", self.num_classes),
        ):
            pooled = nn.Dense(
                features, dtype=wide, param_dtype=self.param_dtype, kernel_init=init, name=name
            )(pooled)
        return pooled
