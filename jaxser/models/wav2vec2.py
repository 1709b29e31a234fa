"""wav2vec 2.0 with a classification head.

    model = jaxser.models.build("wav2vec2-base", num_classes=7)
    victim = jaxser.load_victim("PATH/TO/wav2vec2-base-superb-er")       # a Hugging Face folder

Source: Baevski, Zhou, Mohamed, Auli, "wav2vec 2.0: A Framework for Self-Supervised Learning of
Speech Representations", NeurIPS 2020; the robust model: Hsu et al., "Robust wav2vec 2.0",
Interspeech 2021. Configurations are those published with the checkpoints.
"""

import dataclasses
from typing import ClassVar

from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.models.transformer.configuration import SpeechConfig

__all__ = ["CONFIGURATIONS", "Wav2Vec2", "Wav2Vec2Config"]


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Config(SpeechConfig):
    """Architecture of a wav2vec 2.0 model; the defaults are those of its ``config.json``."""

    model_type: ClassVar[str] = "wav2vec2"


class Wav2Vec2(SpeechTransformer):
    """wav2vec 2.0; base has 94.57 M parameters at 7 classes, 90.37 M past the feature encoder."""


_BASE = Wav2Vec2Config(activation_dropout=0.0, feat_proj_dropout=0.1, layerdrop=0.0)
_LARGE = dataclasses.replace(
    _BASE, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)

CONFIGURATIONS = {
    "wav2vec2-base": _BASE,
    "wav2vec2-large": _LARGE,
    "wav2vec2-large-robust": dataclasses.replace(
        _LARGE,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        return_attention_mask=True,
    ),
}
