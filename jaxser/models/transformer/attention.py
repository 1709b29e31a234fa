"""Multi-head self-attention over frames, by XLA or by cuDNN."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.waveform import before_padding
from jaxser.models.transformer.configuration import AttentionKernel, SpeechConfig
from jaxser.models.transformer.cudnn_attention import cudnn_attention
from jaxser.models.transformer.layers import dense
from jaxser.runtime.errors import UsageError

__all__ = ["Attention"]


class Attention(nn.Module):
    """Multi-head self-attention over frames.

    Attributes:
      kernel: who computes it, see :class:`SpeechTransformer`.
    """

    config: SpeechConfig
    train: bool
    kernel: AttentionKernel = "xla"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        counts: Int[Array, " batch"] | None,
        shared: Any,
    ) -> Float[Array, "batch frames hidden"]:
        """Attention among the first ``counts`` frames of every row.

        ``shared`` is what all layers have in common; a family may make a bias of it.
        """
        batch, frames, width = x.shape
        heads = self.config.num_attention_heads
        qkv = dense(self, "qkv", 3 * width)(x).reshape(batch, frames, 3, heads, width // heads)
        query, key, value = (qkv[:, :, part] for part in range(3))
        bias = self.bias(x, shared)
        if self.kernel == "cudnn":
            y = self._cudnn(query, key, value, bias, counts)
        else:
            y = self._xla(query, key, value, bias, counts)
        return dense(self, "out", width)(y.reshape(batch, frames, width))

    def bias(
        self, x: Float[Array, "batch frames hidden"], shared: Any
    ) -> Float[Array, "batch heads frames frames"] | None:
        """What is added to the scores."""
        return None

    def _xla(self, query: Any, key: Any, value: Any, bias: Any, counts: Any) -> Array:
        # Scores and softmax in float32: the product of bfloat16 operands leaves its sums unrounded.
        wide = at_least_float32(self.dtype)
        query = query * query.shape[-1] ** -0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)
        if bias is not None:
            scores = scores + bias.astype(wide)
        if counts is not None:
            valid = before_padding(counts, key.shape[1])
            # Not -inf: the softmax of a row that is masked as a whole would be NaN.
            scores = jnp.where(valid[:, None, None], scores, jnp.finfo(wide).min)
        weights = nn.softmax(scores).astype(self.dtype)
        dropout = nn.Dropout(self.config.attention_dropout, deterministic=not self.train)
        return jnp.einsum("bhqk,bkhd->bqhd", dropout(weights), value)

    def _cudnn(self, query: Any, key: Any, value: Any, bias: Any, counts: Any) -> Array:
        if jnp.dtype(self.dtype).itemsize != 2:
            raise UsageError(
                f"cuDNN's attention computes in half precision, not in {jnp.dtype(self.dtype)}; "
                'give dtype="bfloat16" or attention="xla".'
            )
        if self.train and self.config.attention_dropout > 0:
            raise UsageError(
                "cuDNN's attention has no dropout here; train with attention_dropout 0 or with "
                'attention="xla".'
            )
        bias = None if bias is None else bias.astype(self.dtype)
        return cudnn_attention(query, key, value, bias, counts)
