"""From a transformer's states to logits."""

import functools
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

    def __call__(
        self,
        last: Float[Array, "batch frames hidden"],
        states: Sequence[Float[Array, "batch frames hidden"]],
        counts: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch classes"]:
        """Logits of the states of all layers, of which ``counts`` frames are no padding."""
        return self._layers(last, states, counts)[1]

    def embed(
        self,
        last: Float[Array, "batch frames hidden"],
        states: Sequence[Float[Array, "batch frames hidden"]],
        counts: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch projected"]:
        """What the last linear layer reads."""
        return self._layers(last, states, counts)[0]

    @nn.compact
    def _layers(
        self,
        last: Float[Array, "batch frames hidden"],
        states: Sequence[Float[Array, "batch frames hidden"]],
        counts: Int[Array, " batch"] | None,
    ) -> tuple[Float[Array, "batch projected"], Float[Array, "batch classes"]]:
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
        dense = functools.partial(
            nn.Dense,
            dtype=wide,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(config.initializer_range),
        )
        projected = dense(config.classifier_proj_size, name="projector")(pooled)
        return projected, dense(self.num_classes, name="classifier")(projected)
