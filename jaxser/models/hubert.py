"""HuBERT with a classification head.

    model = jaxser.models.build("hubert-base", num_classes=4)
    victim = jaxser.load_victim("PATH/TO/hubert-base-superb-er")         # a Hugging Face folder

Source: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of
Hidden Units", IEEE/ACM TASLP 2021. Configurations are those published with the checkpoints.
"""

import dataclasses
from typing import ClassVar

from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.models.transformer.configuration import SpeechConfig

__all__ = ["CONFIGURATIONS", "Hubert", "HubertConfig"]


@dataclasses.dataclass(frozen=True)
class HubertConfig(SpeechConfig):
    """Architecture of a HuBERT model; the defaults are those of its ``config.json``."""

    model_type: ClassVar[str] = "hubert"


class Hubert(SpeechTransformer):
    """HuBERT: wav2vec 2.0's architecture, trained to predict clusters of frames."""


_LARGE = HubertConfig(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    feat_extract_norm="layer",
    conv_bias=True,
    do_stable_layer_norm=True,
    hidden_dropout=0.0,
    activation_dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
    return_attention_mask=True,
)

CONFIGURATIONS = {
    "hubert-base": HubertConfig(feat_proj_dropout=0.1),
    "hubert-large": _LARGE,
    "hubert-xlarge": dataclasses.replace(
        _LARGE, hidden_size=1280, num_hidden_layers=48, intermediate_size=5120
    ),
}
