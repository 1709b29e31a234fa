"""What wav2vec 2.0, HuBERT and WavLM have in common: all but their attention.

    waveform -> FeatureEncoder -> FeatureProjection -> Encoder -> ClassificationHead -> logits

    model = jaxser.models.build("wav2vec2-base", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)               # x [batch, time] -> [batch, 7]
    states = model.apply(variables, x, method="hidden_states")    # 13 x [batch, frames, 768]

Fields of a configuration have the names of Hugging Face's ``config.json`` and
``preprocessor_config.json``, and the semantics are those of its PyTorch classes, to float32's
rounding. The order of the work is not: everything is ``[batch, time, channels]``, the three
projections of attention are one product, and the mean over frames comes before the projector,
with which it commutes.

Sources: Baevski et al., "wav2vec 2.0", NeurIPS 2020; Hsu et al., "HuBERT", TASLP 2021; Park et al.,
"SpecAugment", Interspeech 2019; Fan et al., "Reducing Transformer Depth on Demand with Structured
Dropout" (layer drop), ICLR 2020.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxser.models.layers import (
    NORM_EPSILON,
    NORM_MOMENTUM,
    check_waveforms,
    moments,
    on_cpu,
)
from jaxser.runtime.errors import InputError, UsageError

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "SpeechConfig",
    "SpeechTransformer",
    "gelu",
    "grouped_convolution",
    "normalise_input",
    "normalised_waveform_convolution",
    "span_mask",
    "strided_convolution",
]

AttentionKernel = Literal["xla", "cudnn"]


@dataclasses.dataclass(frozen=True)
class SpeechConfig:
    """Architecture of a speech transformer, by the names of Hugging Face's JSON files.

    Those of ``preprocessor_config.json`` are ``do_normalize``, ``return_attention_mask`` (whether
    the checkpoint wants to be told where padding begins) and ``sampling_rate``.
    ``feat_proj_layer_norm`` and ``conv_pos_batch_norm`` are HuBERT's alone.
    """

    model_type: ClassVar[str]

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    do_stable_layer_norm: bool = False

    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    feat_proj_layer_norm: bool = True
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    conv_pos_batch_norm: bool = False

    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    layerdrop: float = 0.1
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0

    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256

    do_normalize: bool = True
    return_attention_mask: bool = False
    sampling_rate: int = 16_000

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {getattr(self, name)!r}, not one of {', '.join(ACTIVATIONS)}"
            for name in ("hidden_act", "feat_extract_activation")
            if getattr(self, name) not in ACTIVATIONS
        ]
        if self.feat_extract_norm not in ("group", "layer"):
            faults.append(f"feat_extract_norm is {self.feat_extract_norm!r}, not group or layer")
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel) > 0:
            faults.append("conv_dim, conv_stride and conv_kernel differ in length")
        for parts in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if self.hidden_size % getattr(self, parts):
                faults.append(f"hidden_size is not a multiple of {parts}")
        if faults:
            raise InputError(
                f"the {self.model_type} configuration cannot be built: {'; '.join(faults)}; "
                "correct config.json."
            )

    @property
    def masks(self) -> bool:
        """Whether there is an embedding for masked frames, as the torch classes decide it."""
        return self.mask_time_prob > 0 or self.mask_feature_prob > 0

    def frames(self, samples: Any) -> Any:
        """Frames that ``samples`` (a number or an array of them) give."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def shortest_input(self) -> int:
        """Samples that one frame sees: 400 in all published models."""
        samples = 1
        for kernel, stride in reversed(list(zip(self.conv_kernel, self.conv_stride, strict=True))):
            samples = (samples - 1) * stride + kernel
        return samples


# --- functions -----------------------------------------------------------------------------


@jax.custom_jvp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gaussian error linear unit, exact.

    Differentiated by hand: one array is kept for the derivative, not three.
    """
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (x,), (dx,) = primals, tangents
    density = jnp.exp(-0.5 * x**2) * math.sqrt(0.5 / math.pi)
    return gelu(x), dx * (0.5 * (1 + lax.erf(x * math.sqrt(0.5))) + x * density)


def _tanh_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return nn.gelu(x, approximate=True)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": nn.relu,
    "selu": nn.selu,
    "silu": nn.silu,
    "swish": nn.silu,
}


def normalise_input(
    x: Float[Array, "batch time"], lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch time"]:
    """Mean 0 and variance 1 of every row; with ``lengths``, of its first samples, then zeros.

    As Hugging Face's feature extractor does: 1e-7 is added to the variance, so that silence stays
    silence and its gradient finite.
    """
    if lengths is None:
        x = x - x.mean(axis=1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, axis=1, keepdims=True) + 1e-7)
    valid = jnp.arange(x.shape[1])[None] < lengths[:, None]
    count = jnp.maximum(lengths, 1).astype(x.dtype)[:, None]
    mean = jnp.sum(jnp.where(valid, x, 0), axis=1, keepdims=True) / count
    x = jnp.where(valid, x - mean, 0)
    return x * lax.rsqrt(jnp.sum(x**2, axis=1, keepdims=True) / count + 1e-7)


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
    covariance = jnp.einsum("bti,btj->bij", taps, taps) / frames
    variance = jnp.sum(kernel[None] * (covariance @ kernel), axis=1)
    slope = scale[None] * lax.rsqrt(jnp.maximum(variance, 0) + NORM_EPSILON)
    kernel = (kernel[None] * slope[:, None]).astype(dtype)
    return taps.astype(dtype) @ kernel + shift.astype(dtype)[None, None]


def _cosine_transform(size: int) -> Float[np.ndarray, "size size"]:
    """The orthonormal DCT-II, a frequency per column."""
    place = np.arange(size)
    matrix = np.cos(np.pi / size * (place[:, None] + 0.5) * place[None]) * math.sqrt(2 / size)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


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

    # On a CPU the kernel's gradient of XLA's grouped convolution takes nine times as long.
    if not on_cpu():
        return convolve(x, kernel, groups)
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([convolve(*part, 1) for part in parts], axis=-1)


def span_mask(
    key: Key[Array, ""],
    lengths: Int[Array, " batch"],
    size: int,
    probability: float,
    span: int,
    fewest: int,
) -> Bool[Array, "batch size"]:
    """Where SpecAugment masks: spans of ``span`` that start at different places.

    ``probability * length / span`` spans per row, rounded up or down at random (the same way for
    the whole batch) and ``fewest`` at least; spans may overlap and stay within the row's length.
    """
    most = min(max(int(probability * size / span + 1), fewest), size // span)
    if most == 0:
        return jnp.zeros((lengths.shape[0], size), bool)
    rounding, places = jax.random.split(key)
    spans = jnp.floor(probability * lengths / span + jax.random.uniform(rounding))
    starts_allowed = jnp.maximum(lengths - (span - 1), 0)
    spans = jnp.minimum(jnp.clip(spans.astype(int), fewest, most), starts_allowed)
    position = jnp.arange(size)
    order = jax.random.uniform(places, (lengths.shape[0], size))
    order = jnp.where(position[None] < starts_allowed[:, None], order, -1.0)
    start = lax.top_k(order, most)[1]
    chosen = jnp.arange(most)[None] < spans[:, None]
    offset = position[None, None] - start[..., None]
    return jnp.any((offset >= 0) & (offset < span) & chosen[..., None], axis=1)


# --- modules -------------------------------------------------------------------------------


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
    y = y.astype(jnp.promote_types(dtype, jnp.float32))
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
            x = _layer_norm(self, "norm")(x)
        x = _dense(self, "projection", self.config.hidden_size)(x)
        return nn.Dropout(self.config.feat_proj_dropout, deterministic=not train)(x)


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
        wide = jnp.promote_types(self.dtype, jnp.float32)
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
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        mean, variance = running_mean.value, running_var.value
        if train:
            mean, variance = moments(x)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                count = x.shape[0] * x.shape[1]
                unbiased = variance * (count / (count - 1))
                running_mean.value += NORM_MOMENTUM * (mean - running_mean.value)
                running_var.value += NORM_MOMENTUM * (unbiased - running_var.value)
        slope = scale * lax.rsqrt(variance + NORM_EPSILON)
        return x * slope[None, None] + (shift - mean * slope)[None, None]


def _norm_of_taps(direction: Array) -> Callable[..., Array]:
    def init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        return jnp.linalg.norm(direction, axis=(1, 2)).astype(dtype)

    return init


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
        qkv = _dense(self, "qkv", 3 * width)(x).reshape(batch, frames, 3, heads, width // heads)
        query, key, value = (qkv[:, :, part] for part in range(3))
        bias = self.bias(x, shared)
        if self.kernel == "cudnn":
            y = self._cudnn(query, key, value, bias, counts)
        else:
            y = self._xla(query, key, value, bias, counts)
        return _dense(self, "out", width)(y.reshape(batch, frames, width))

    def bias(
        self, x: Float[Array, "batch frames hidden"], shared: Any
    ) -> Float[Array, "batch heads frames frames"] | None:
        """What is added to the scores."""
        return None

    def _xla(self, query: Any, key: Any, value: Any, bias: Any, counts: Any) -> Array:
        wide = jnp.promote_types(self.dtype, jnp.float32)
        query = query * query.shape[-1] ** -0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=wide)
        if bias is not None:
            scores = scores + bias.astype(wide)
        if counts is not None:
            valid = jnp.arange(key.shape[1])[None] < counts[:, None]
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
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            bias=None if bias is None else bias.astype(self.dtype),
            key_value_seq_lengths=counts,
            implementation="cudnn",
        )


class Block(nn.Module):
    """Attention and two dense layers, each with a residual connection and a layer norm.

    The norm comes after the addition, or before the layers (``do_stable_layer_norm``).
    """

    config: SpeechConfig
    attention: type[Attention]
    train: bool
    kernel: AttentionKernel = "xla"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        drop: Any,
        counts: Int[Array, " batch"] | None,
        shared: Any,
    ) -> Float[Array, "batch frames hidden"]:
        """``drop`` is the probability of being skipped, or None."""
        config, start = self.config, x
        attention = self.attention(
            config, self.train, self.kernel, self.dtype, self.param_dtype, name="attention"
        )
        norm, last_norm = _layer_norm(self, "attention_norm"), _layer_norm(self, "norm")
        dropout = nn.Dropout(config.hidden_dropout, deterministic=not self.train)
        if config.do_stable_layer_norm:
            x = x + dropout(attention(norm(x), counts, shared))
            x = x + self._feed_forward(last_norm(x))
        else:
            x = norm(x + dropout(attention(x, counts, shared)))
            x = last_norm(x + self._feed_forward(x))
        if drop is not None:
            skipped = jax.random.bernoulli(self.make_rng("dropout"), drop)
            x = jnp.where(skipped, start, x)
        return x

    def _feed_forward(
        self, x: Float[Array, "batch frames hidden"]
    ) -> Float[Array, "batch frames hidden"]:
        config, still = self.config, not self.train
        x = _dense(self, "intermediate", config.intermediate_size)(x)
        x = ACTIVATIONS[config.hidden_act](x)
        x = nn.Dropout(config.activation_dropout, deterministic=still)(x)
        x = _dense(self, "output", config.hidden_size)(x)
        return nn.Dropout(config.hidden_dropout, deterministic=still)(x)


class Encoder(nn.Module):
    """Positional convolution and transformer blocks.

    Attributes:
      attention: of the family.
      shared: module that makes, of the number of frames, what all layers share; or None.
      keep_first: layer drop never skips the first block (WavLM).
    """

    config: SpeechConfig
    attention: type[Attention]
    shared: type[nn.Module] | None
    keep_first: bool
    kernel: AttentionKernel
    scan_layers: bool
    remat: bool
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        counts: Int[Array, " batch"] | None,
        train: bool,
        keep_states: bool,
    ) -> tuple[
        Float[Array, "batch frames hidden"], tuple[Float[Array, "batch frames hidden"], ...]
    ]:
        """(last state, input of the first block and output of every block if asked for).

        The last state is normalised; where the norms come first, the last of the others is not.
        """
        config = self.config
        if counts is not None:
            valid = jnp.arange(x.shape[1])[None] < counts[:, None]
            x = jnp.where(valid[..., None], x, 0)
        position = PositionalConvolution(config, self.dtype, self.param_dtype, name="position")
        norm = _layer_norm(self, "norm")
        x = x + position(x, train)
        if not config.do_stable_layer_norm:
            x = norm(x)
        x = nn.Dropout(config.hidden_dropout, deterministic=not train)(x)
        shared = None
        if self.shared is not None:
            shared = self.shared(config, self.param_dtype, name="shared")(x.shape[1])

        drops = None
        if train and config.layerdrop > 0:
            drops = np.full(config.num_hidden_layers, config.layerdrop, np.float32)
            drops[0] = 0 if self.keep_first else config.layerdrop
        blocks = self._scanned if self.scan_layers else self._unrolled
        start = x
        x, states = blocks(x, drops, counts, shared, train, keep_states)
        if config.do_stable_layer_norm:
            x = norm(x)
        return x, (start, *states) if keep_states else ()

    def _block(self, train: bool) -> Callable[..., nn.Module]:
        block: Any = nn.remat(Block, prevent_cse=not self.scan_layers) if self.remat else Block

        def make(name: str, block: Any = block) -> nn.Module:
            return block(
                self.config,
                self.attention,
                train,
                self.kernel,
                self.dtype,
                self.param_dtype,
                name=name,
            )

        return make

    def _unrolled(
        self, x: Array, drops: Any, counts: Any, shared: Any, train: bool, keep_states: bool
    ) -> tuple[Array, list[Array]]:
        states = []
        make = self._block(train)
        for layer in range(self.config.num_hidden_layers):
            drop = None if drops is None else jnp.asarray(drops[layer])
            x = make(f"layer{layer}")(x, drop, counts, shared)
            if keep_states:
                states.append(x)
        return x, states

    def _scanned(
        self, x: Array, drops: Any, counts: Any, shared: Any, train: bool, keep_states: bool
    ) -> tuple[Array, list[Array]]:
        def body(block: nn.Module, x: Array, drop: Any) -> tuple[Array, Array | None]:
            x = block(x, drop, counts, shared)
            return x, x if keep_states else None

        scan = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.config.num_hidden_layers,
        )
        drops = None if drops is None else jnp.asarray(drops)
        x, states = scan(self._block(train)("layers"), x, drops)
        return x, [] if states is None else list(states)


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
        wide = jnp.promote_types(last.dtype, jnp.float32)

        def mean(state: Float[Array, "batch frames hidden"]) -> Float[Array, "batch hidden"]:
            state = state.astype(wide)
            if counts is None:
                return state.mean(axis=1)
            valid = jnp.arange(state.shape[1])[None] < counts[:, None]
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


class SpeechTransformer(nn.Module):
    """A speech transformer with a classification head; the base of the three families.

    Its parameters are four groups: ``feature_encoder`` (usually frozen in fine-tuning),
    ``feature_projection``, ``encoder`` (blocks ``layer0`` ..., or all in ``layers`` if
    scanned, see ``stack_layers`` in ``jaxser.victims.key_tables.speech_transformer``) and ``head``;
    and ``masked_frame``, the embedding that SpecAugment puts in masked frames.

    In training, dropout, layer drop and SpecAugment draw from the collection "dropout".

    Attributes:
      num_classes: length of a row of logits.
      config: the architecture.
      dtype: type of activations and products; bfloat16 is allowed.
      param_dtype: type of the parameters.
      scan_layers: the blocks are one compiled loop: compiles faster, wants less memory with
        ``remat``; slower on a CPU.
      remat: compute the blocks anew for their gradients instead of keeping what is in them.
      attention: "xla", or "cudnn" (NVIDIA GPUs, half precision, no attention dropout).
      normalise_last_state: the last hidden state of a ``do_stable_layer_norm`` model is the
        normalised one, in the list and in the weighted sum, as in transformers 4; transformers 5
        takes the state before the norm.
    """

    num_classes: int
    config: SpeechConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    scan_layers: bool = False
    remat: bool = False
    attention: AttentionKernel = "xla"
    normalise_last_state: bool = False

    attention_type: ClassVar[type[Attention]] = Attention
    shared_type: ClassVar[type[nn.Module] | None] = None
    keep_first: ClassVar[bool] = False

    def setup(self) -> None:
        config, types = self.config, (self.dtype, self.param_dtype)
        self.feature_encoder = FeatureEncoder(config, *types)
        self.feature_projection = FeatureProjection(config, *types)
        self.encoder = Encoder(
            config,
            self.attention_type,
            self.shared_type,
            self.keep_first,
            self.attention,
            self.scan_layers,
            self.remat,
            *types,
        )
        self.head = ClassificationHead(self.num_classes, config, self.param_dtype)
        if config.masks:
            self.masked_frame = self.param(
                "masked_frame", nn.initializers.uniform(1.0), (config.hidden_size,), types[1]
            )

    def __call__(
        self,
        x: Float[Array, "batch time"],
        train: bool = False,
        lengths: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits of waveforms ``x``.

        Args:
          x: waveforms, as recorded: they are normalised here where the configuration says so.
          train: with dropout, layer drop and SpecAugment, from the rng collection "dropout".
          lengths: samples before each row's padding begins, at least ``config.shortest_input()``;
            frames of padding are then masked out, as torch's are by an ``attention_mask``. Leave
            it out where the checkpoint's ``return_attention_mask`` is false: such a model was
            trained with its padding.

        Raises:
          InputError: ``x`` is not a batch of waveforms or is shorter than the receptive field.
        """
        sums = self.config.use_weighted_layer_sum
        last, states, counts = self._encode(x, train, lengths, keep_states=sums)
        return self.head(last, states, counts)

    def hidden_states(
        self,
        x: Float[Array, "batch time"],
        train: bool = False,
        lengths: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch frames hidden"], ...]:
        """What goes into the first block and comes out of every block; arguments as in a call."""
        return self._encode(x, train, lengths, keep_states=True)[1]

    def _encode(self, x: Any, train: bool, lengths: Any, keep_states: bool) -> tuple[Any, Any, Any]:
        config = self.config
        check_waveforms(type(self).__name__, x, config.shortest_input())
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        if config.do_normalize:
            x = normalise_input(x, lengths)
        counts = None if lengths is None else jnp.maximum(config.frames(lengths), 1)
        y = self.feature_projection(self.feature_encoder(x), train)
        if train and config.masks and config.apply_spec_augment:
            y = self._masked(y, counts)
        last, states = self.encoder(y, counts, train, keep_states)
        if keep_states and config.do_stable_layer_norm and self.normalise_last_state:
            states = (*states[:-1], last)
        return last, states, counts

    def _masked(
        self, y: Float[Array, "batch frames hidden"], counts: Any
    ) -> Float[Array, "batch frames hidden"]:
        config = self.config
        batch, frames, width = y.shape
        if config.mask_time_prob > 0:
            counts = jnp.full(batch, frames) if counts is None else counts
            masked = span_mask(
                self.make_rng("dropout"),
                counts,
                frames,
                config.mask_time_prob,
                config.mask_time_length,
                config.mask_time_min_masks,
            )
            y = jnp.where(masked[..., None], self.masked_frame.astype(y.dtype)[None, None], y)
        if config.mask_feature_prob > 0:
            masked = span_mask(
                self.make_rng("dropout"),
                jnp.full(batch, width),
                width,
                config.mask_feature_prob,
                config.mask_feature_length,
                config.mask_feature_min_masks,
            )
            y = jnp.where(masked[:, None], 0, y)
        return y


def _dense(module: Any, name: str, features: int) -> nn.Dense:
    return nn.Dense(
        features,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        kernel_init=nn.initializers.normal(module.config.initializer_range),
        dot_general=_product if on_cpu() else None,
        name=name,
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
    few rows, turning what comes in and goes out is less work.
    """
    return x @ kernel


def _matrix_product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matrix_product_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    inputs, outputs = kernel.shape
    dy = dy.reshape(-1, outputs)
    few = dy.shape[0] * (inputs + outputs) < inputs * outputs
    dx = (kernel @ dy.T).T if few else dy @ kernel.T
    return dx.reshape(x.shape), x.reshape(-1, inputs).T @ dy


matrix_product.defvjp(_matrix_product_forward, _matrix_product_backward)


def _layer_norm(module: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=module.config.layer_norm_eps,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        use_fast_variance=False,
        name=name,
    )
