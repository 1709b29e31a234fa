"""From a waveform to frames: the convolutions, and the projection to the transformer's width.

Source: Baevski et al., "wav2vec 2.0", NeurIPS 2020, section 2.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import NORM_EPSILON
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.models.transformer.configuration import SpeechConfig
from jaxser.models.transformer.layers import dense, layer_norm

__all__ = [
    "FeatureEncoder",
    "FeatureProjection",
    "normalised_waveform_convolution",
    "strided_convolution",
]


def strided_convolution(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs outputs"],
    stride: int,
) -> Float[Array, "batch frames outputs"]:
    """A convolution without padding."""
    return lax.conv_general_dilated(
        x, kernel, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )


def normalised_waveform_convolution(
    x: Float[Array, "batch time"],
    kernel: Float[Array, "size outputs"],
    stride: int,
    scale: Float[Array, " outputs"],
    shift: Float[Array, " outputs"],
    dtype: Any,
) -> Float[Array, "batch frames outputs"]:
    """A convolution of a waveform whose outputs are normalised over time, row by row.

    The waveform's covariance under the kernel's taps says what mean and variance the outputs have,
    so the normalisation goes into the kernel and the shift: the large array of outputs is written
    once, and its gradient is one matrix product. Taps are first rotated to their cosine
    transform, in which those of speech are nearly uncorrelated: otherwise the small variance of a
    filter for high frequencies would be a difference of large numbers. A bias of the convolution
    would have no effect.
    """
    size = kernel.shape[0]
    blocks = -(-size // stride)
    frames = (x.shape[1] - size) // stride + 1
    length = (frames + blocks - 1) * stride
    x = jnp.pad(x, ((0, 0), (0, max(length - x.shape[1], 0))))[:, :length]
    x = x.reshape(x.shape[0], -1, stride)
    shifted = [x[:, block : block + frames] for block in range(blocks)]
    taps = jnp.concatenate(shifted, axis=-1)[..., :size]
    cosine = jnp.asarray(_cosine_transform(size), x.dtype)
    taps = (taps - taps.mean(axis=1, keepdims=True)) @ cosine
    kernel = cosine.T @ kernel
    # Centred first, so that it is a covariance and no difference of second moments.
    covariance = jnp.einsum("bti,btj->bij", taps, taps) / frames
    variance = jnp.sum(kernel[None] * (covariance @ kernel), axis=1)
    slope = scale[None] * lax.rsqrt(jnp.maximum(variance, 0) + NORM_EPSILON)
    # Each row has statistics, so a kernel, of its own: half precision begins after them.
    kernel = (kernel[None] * slope[:, None]).astype(dtype)
    return taps.astype(dtype) @ kernel + shift.astype(dtype)[None, None]


def _cosine_transform(size: int) -> Float[np.ndarray, "size size"]:
    """The orthonormal DCT-II, a frequency per column."""
    place = np.arange(size)
    matrix = np.cos(np.pi / size * (place[:, None] + 0.5) * place[None]) * math.sqrt(2 / size)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


class FeatureEncoder(nn.Module):
    """Convolutions that turn a waveform into frames, 20 ms apart in the published models.

    ``feat_extract_norm`` "group" normalises every channel of the first convolution over time
    (padding included), "layer" the channels of every frame of every convolution.
    """

    config: SpeechConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames channels"]:
        config = self.config
        activation = ACTIVATIONS[config.feat_extract_activation]
        over_time = config.feat_extract_norm == "group"
        y = x[..., None]
        shapes = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
        for layer, (features, size, stride) in enumerate(shapes):

            def vector(
                name: str,
                init: nn.initializers.Initializer,
                layer: int = layer,
                size: int = features,
            ) -> Array:
                return self.param(name.format(layer), init, (size,), self.param_dtype)

            kernel = self.param(
                f"kernel{layer}",
                nn.initializers.he_normal(),
                (size, y.shape[-1], features),
                self.param_dtype,
            )
            bias = vector("bias{}", nn.initializers.zeros) if config.conv_bias else None
            if not over_time or layer == 0:
                scale = vector("norm{}_scale", nn.initializers.ones)
                shift = vector("norm{}_bias", nn.initializers.zeros)
            if over_time and layer == 0:
                y = normalised_waveform_convolution(
                    x, kernel[:, 0], stride, scale, shift, self.dtype
                )
            else:
                y = strided_convolution(y.astype(self.dtype), kernel.astype(self.dtype), stride)
                if bias is not None:
                    y = y + bias.astype(self.dtype)[None, None]
                if not over_time:
                    y = _normalise_channels(y, scale, shift)
            y = activation(y)
        return y


def _normalise_channels(
    y: Float[Array, "batch frames channels"],
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
) -> Float[Array, "batch frames channels"]:
    """A layer norm, with PyTorch's own epsilon."""
    dtype = y.dtype
    y = y.astype(at_least_float32(dtype))
    y = y - y.mean(axis=2, keepdims=True)
    y = y * lax.rsqrt(jnp.mean(y**2, axis=2, keepdims=True) + NORM_EPSILON)
    return (y * scale[None, None] + shift[None, None]).astype(dtype)


class FeatureProjection(nn.Module):
    """Frames of the feature encoder to the transformer's width."""

    config: SpeechConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch frames channels"], train: bool
    ) -> Float[Array, "batch frames hidden"]:
        if self.config.feat_proj_layer_norm:
            x = layer_norm(self, "norm")(x)
        x = dense(self, "projection", self.config.hidden_size)(x)
        return nn.Dropout(self.config.feat_proj_dropout, deterministic=not train)(x)
