"""The architecture of a speech transformer, by the names of Hugging Face's JSON files."""

import dataclasses
from typing import Any, ClassVar, Literal

from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.runtime.errors import InputError

__all__ = ["AttentionKernel", "SpeechConfig"]

# Who computes attention, see SpeechTransformer; no field of the configuration.
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
