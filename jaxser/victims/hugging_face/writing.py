"""A victim written as Hugging Face keeps it.

write_pretrained(module, variables, ("anger", "joy"), "OUT")
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import write_text
from jaxser.victims.hugging_face.architecture import FAMILIES, OF_HUBERT, OF_PREPROCESSOR
from jaxser.victims.hugging_face.layout import CONFIG, PREPROCESSOR, WEIGHTS
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.speech_transformer import unstack_layers
from jaxser.victims.weights_file import write_safetensors

__all__ = ["write_pretrained"]


def write_pretrained(
    module: SpeechTransformer, variables: Mapping[str, Any], labels: Sequence[str], out: Path | str
) -> None:
    """Write ``module`` for transformers' ``*ForSequenceClassification``.

    Args:
      module: any of the three families. With ``normalise_last_state`` and a weighted sum of the
        layers, transformers 4 gives its logits, and transformers 5 others.
      variables: its variables.
      labels: class names in index order.
      out: folder that does not exist or is empty.

    Raises:
      UsageError: ``out`` holds something, or the number of labels is not that of the classes.
    """
    out, config = Path(out), module.config
    if len(labels) != module.num_classes:
        raise UsageError(f"{len(labels)} labels for a model of {module.num_classes} classes.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; give another, or remove it.")
    family = FAMILIES[config.model_type]
    state = to_torch(unstack_layers(variables), family.table(config))
    if config.conv_pos_batch_norm:
        counter = f"{config.model_type}.encoder.pos_conv_embed.batch_norm.num_batches_tracked"
        state[counter] = np.zeros((), np.int64)
    write_safetensors(state, out / WEIGHTS)
    fields = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in OF_HUBERT or config.model_type == "hubert"
    }
    preprocessor = {name: fields.pop(name) for name in OF_PREPROCESSOR}
    preprocessor |= {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
    }
    fields |= {
        "architectures": [f"{family.torch_class}ForSequenceClassification"],
        "model_type": config.model_type,
        "num_feat_extract_layers": len(config.conv_dim),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "torch_dtype": "float32",
    }
    for name, entries in ((PREPROCESSOR, preprocessor), (CONFIG, fields)):
        write_text(out / name, json.dumps(entries, indent=2, sort_keys=True) + "\n")
