"""WavLM with a classification head: attention with a gated bias for relative positions.

    model = jaxser.models.build("wavlm-base", num_classes=7)
    victim = jaxser.load_victim("PATH/TO/wavlm-base")                    # a Hugging Face folder

Source: Chen et al., "WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
Processing", IEEE JSTSP 2022, section III-B; the buckets are those of Raffel et al. (T5), JMLR 2020.
Configurations are those published with the checkpoints.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.models.transformer.attention import Attention
from jaxser.models.transformer.configuration import SpeechConfig

__all__ = ["CONFIGURATIONS", "WavLM", "WavLMConfig", "position_buckets"]


@dataclasses.dataclass(frozen=True)
class WavLMConfig(SpeechConfig):
    """Architecture of a WavLM model; the defaults are those of its ``config.json``."""

    model_type: ClassVar[str] = "wavlm"

    num_buckets: int = 320
    max_bucket_distance: int = 800

    def _contradictions(self) -> list[str]:
        faults = super()._contradictions()
        if self.max_bucket_distance <= self.num_buckets // 4:
            faults.append("max_bucket_distance is not above a quarter of num_buckets")
        return faults


def position_buckets(
    offsets: Int[np.ndarray, "..."], buckets: int, furthest: int
) -> Int[np.ndarray, "..."]:
    """Bucket of every offset (place of the key minus that of the query).

    Half of the buckets are for keys that come later. The nearer half of each half holds one
    distance per bucket; the others widen by logarithms up to ``furthest`` and end there. Computed
    in float32, whose rounding decides at the edges.
    """
    half, exact = buckets // 2, buckets // 4
    distance = np.abs(offsets)
    octaves = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    octaves = octaves / np.float32(math.log(furthest / exact)) * np.float32(half - exact)
    far = np.minimum((exact + octaves).astype(int), half - 1)
    return (offsets > 0) * half + np.where(distance < exact, distance, far)


class RelativePositions(nn.Module):
    """A learned score for every relative position and head, before the gate."""

    config: WavLMConfig
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, frames: int) -> Float[Array, "heads frames frames"]:
        config = self.config
        heads = config.num_attention_heads
        table = self.param(
            "embedding",
            nn.initializers.normal(config.initializer_range),
            (config.num_buckets, heads),
            self.param_dtype,
        )
        offsets = np.arange(1 - frames, frames)
        scores = table[position_buckets(offsets, config.num_buckets, config.max_bucket_distance)]
        # Every query sees the same scores, one place further on: rows of length n that are read
        # in rows of length n - 1. No gather of frames x frames, and no scatter for its gradient.
        rows = jnp.pad(scores, ((0, 1), (0, 0))).T[:, None]
        rows = jnp.broadcast_to(rows, (heads, frames, 2 * frames))
        rows = rows.reshape(heads, -1)[:, : frames * (2 * frames - 1)]
        return rows.reshape(heads, frames, 2 * frames - 1)[:, :, frames - 1 :]


class GatedAttention(Attention):
    """Attention whose position bias is scaled by a gate that reads the query's frame."""

    def bias(
        self,
        x: Float[Array, "batch frames hidden"],
        shared: Float[Array, "heads frames frames"],
    ) -> Float[Array, "batch heads frames frames"]:
        """The gated position bias of every row."""
        heads = self.config.num_attention_heads
        per_head = x.reshape(*x.shape[:2], heads, -1)
        init = nn.initializers.normal(self.config.initializer_range)
        kernel = self.param("gate_kernel", init, (per_head.shape[-1], 8), self.param_dtype)
        bias = self.param("gate_bias", nn.initializers.zeros, (8,), self.param_dtype)
        constant = self.param("gate_constant", nn.initializers.ones, (heads,), self.param_dtype)
        # Eight outputs are summed in fours: that is linear, so the weights are summed.
        kernel = kernel.reshape(-1, 2, 4).sum(axis=2).astype(self.dtype)
        bias = bias.reshape(2, 4).sum(axis=1)[None, None, None]
        gates = nn.sigmoid((per_head @ kernel).astype(shared.dtype) + bias)
        gate = gates[..., 0] * (gates[..., 1] * constant[None, None] - 1.0) + 2.0
        return gate.transpose(0, 2, 1)[..., None] * shared[None]


class WavLM(SpeechTransformer):
    """WavLM; base has 94.58 M parameters at 7 classes, 90.38 M past the feature encoder."""

    attention_type: ClassVar = GatedAttention
    shared_type: ClassVar = RelativePositions
    keep_first: ClassVar = True


_BASE = WavLMConfig(
    activation_dropout=0.0,
    feat_proj_dropout=0.1,
    layerdrop=0.05,
    do_normalize=False,
    return_attention_mask=True,
)

CONFIGURATIONS = {
    "wavlm-base": _BASE,
    "wavlm-base-plus": _BASE,
    "wavlm-large": dataclasses.replace(
        _BASE,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        layerdrop=0.1,
        do_normalize=True,
    ),
}
