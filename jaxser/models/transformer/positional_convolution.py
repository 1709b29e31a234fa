"""Where a frame is: a grouped convolution over many frames takes the place of position embeddings.

Sources: Baevski et al., "wav2vec 2.0", NeurIPS 2020, section 2; weight normalisation: Salimans &
Kingma, NeurIPS 2016.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import NORM_EPSILON, RunningStatistics, moments
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.models.transformer.configuration import SpeechConfig
from jaxser.runtime.forms import on_cpu

__all__ = ["PositionalConvolution", "grouped_convolution"]


def grouped_convolution(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs_per_group outputs"],
    groups: int,
) -> Float[Array, "batch time outputs"]:
    """A convolution of ``groups`` groups with as many outputs as inputs in time.

    ``size // 2`` zeros come before the first sample; an even kernel sees one fewer after the last.
    """
    size = kernel.shape[0]

    def convolve(x: Array, kernel: Array, groups: int) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (1,),
            [(size // 2, (size - 1) // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=groups,
        )

    # On a CPU the kernel's gradient of XLA's grouped convolution takes nine times as long as those
    # of one convolution for each group. An accelerator gets the operator: one launch for all.
    if not on_cpu():
        return convolve(x, kernel, groups)
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([convolve(*part, 1) for part in parts], axis=-1)


class PositionalConvolution(nn.Module):
    """What a frame learns of its place: a grouped convolution over many frames.

    Its kernel is ``gain[tap] * direction[tap] / |direction[tap]|`` (weight normalisation), or
    plain behind a batch norm where the configuration says so.
    """

    config: SpeechConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch frames hidden"], train: bool
    ) -> Float[Array, "batch frames hidden"]:
        config = self.config
        size, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        width = config.hidden_size
        shape = (size, width // groups, width)
        init = nn.initializers.normal(2 / math.sqrt(size * width))
        wide = at_least_float32(self.dtype)
        # The norm, of weights or of activations, is in float32; only the convolution is not.
        if config.conv_pos_batch_norm:
            kernel = self.param("kernel", init, shape, self.param_dtype)
            x = self._batch_norm(x.astype(wide), train).astype(self.dtype)
        else:
            direction = self.param("direction", init, shape, self.param_dtype)
            gain = self.param("gain", _norm_of_taps(direction), (size,), self.param_dtype)
            # A direction of length 0 is undefined in the reference too, but there it gives NaN.
            norm = jnp.sqrt(jnp.maximum(jnp.sum(direction**2, axis=(1, 2)), 1e-30))
            kernel = direction * (gain / norm)[:, None, None]
        bias = self.param("bias", nn.initializers.zeros, (width,), self.param_dtype)
        y = grouped_convolution(x, kernel.astype(self.dtype), groups)
        y = y + bias.astype(self.dtype)[None, None]
        return ACTIVATIONS[config.feat_extract_activation](y)

    def _batch_norm(
        self, x: Float[Array, "batch frames hidden"], train: bool
    ) -> Float[Array, "batch frames hidden"]:
        shape = (x.shape[-1],)
        scale = self.param("norm_scale", nn.initializers.ones, shape, self.param_dtype)
        shift = self.param("norm_bias", nn.initializers.zeros, shape, self.param_dtype)
        running = RunningStatistics.of(self, x.shape[-1])
        mean, variance = running.mean.value, running.var.value
        if train:
            mean, variance = moments(x)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                running.update(mean, variance, x.shape[0] * x.shape[1])
        slope = scale * lax.rsqrt(variance + NORM_EPSILON)
        return x * slope[None, None] + (shift - mean * slope)[None, None]


def _norm_of_taps(direction: Array) -> Callable[..., Array]:
    """Gains with which a new kernel is its own direction; their key is not used."""

    def init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        return jnp.linalg.norm(direction, axis=(1, 2)).astype(dtype)

    return init
