"""The architecture of a speech transformer, by the names of Hugging Face's JSON files."""

import dataclasses
from typing import Any, ClassVar, Literal

from jaxser.models.transformer.activations import ACTIVATIONS, UNSUPPORTED
from jaxser.runtime.errors import InputError
from jaxser.runtime.text import listed, shown_value

__all__ = ["RANGES", "AttentionKernel", "SpeechConfig"]

# Who computes attention, see SpeechTransformer; no field of the configuration.
AttentionKernel = Literal["xla", "cudnn"]

_SHARE = (0.0, 1.0)

# The least and the most of every number; of a tuple, of each of its parts. No published model comes
# near the upper ends: what is beyond is damage, and would fill the memory or never end.
RANGES: dict[str, tuple[float, float]] = {
    "hidden_size": (1, 16_384),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 256),
    "intermediate_size": (1, 131_072),
    "layer_norm_eps": _SHARE,
    "initializer_range": (0.0, 10.0),
    "conv_dim": (1, 16_384),
    "conv_stride": (1, 1000),
    "conv_kernel": (1, 1000),
    "num_conv_pos_embeddings": (1, 10_000),
    "num_conv_pos_embedding_groups": (1, 256),
    "hidden_dropout": _SHARE,
    "activation_dropout": _SHARE,
    "attention_dropout": _SHARE,
    "feat_proj_dropout": _SHARE,
    "layerdrop": _SHARE,
    "mask_time_prob": _SHARE,
    "mask_time_length": (1, 1_000_000),
    "mask_time_min_masks": (0, 1_000_000),
    "mask_feature_prob": _SHARE,
    "mask_feature_length": (1, 1_000_000),
    "mask_feature_min_masks": (0, 1_000_000),
    "classifier_proj_size": (1, 65_536),
    "sampling_rate": (1000, 768_000),
    "num_buckets": (4, 100_000),
    "max_bucket_distance": (2, 1_000_000),
}

_MOST_CONVOLUTIONS = 32
# Samples that one frame may see.
_LONGEST_FRAME = 1_000_000


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
        names = [(name, getattr(self, name)) for name in ("hidden_act", "feat_extract_activation")]
        unsupported = [f"{name} {value!r}" for name, value in names if value in UNSUPPORTED]
        if unsupported:
            raise InputError(
                f"{self.model_type} models with {' and '.join(unsupported)} are not supported; use "
                f"a checkpoint with one of {', '.join(ACTIVATIONS)}."
            )
        faults = self._beyond_ranges()
        faults += [
            f"{name} is {shown_value(value)}, not one of {', '.join(ACTIVATIONS)}"
            for name, value in names
            if value not in ACTIVATIONS
        ]
        if self.feat_extract_norm not in ("group", "layer"):
            faults.append(f"feat_extract_norm is {self.feat_extract_norm!r}, not group or layer")
        # What several numbers say together can be asked once each is one.
        faults = faults or self._contradictions()
        if faults:
            raise InputError(
                f"the {self.model_type} configuration cannot be built: {listed(faults, '; ')}; "
                "correct config.json."
            )

    def _beyond_ranges(self) -> list[str]:
        faults = []
        for field in dataclasses.fields(self):
            if field.name not in RANGES:
                continue
            value = getattr(self, field.name)
            low, high = RANGES[field.name]
            parts = value if isinstance(value, tuple) else (value,)
            if not all(_is_number(part) and low <= part <= high for part in parts):
                faults.append(f"{field.name} is {shown_value(value)}, not from {low:g} to {high:g}")
        return faults

    def _contradictions(self) -> list[str]:
        faults = []
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel) > 0:
            faults.append("conv_dim, conv_stride and conv_kernel differ in length")
        elif len(self.conv_dim) > _MOST_CONVOLUTIONS or self.shortest_input() > _LONGEST_FRAME:
            faults.append("conv_stride and conv_kernel make frames of a million samples and more")
        for parts in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if self.hidden_size % getattr(self, parts):
                faults.append(f"hidden_size is not a multiple of {parts}")
        return faults

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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
