"""The architecture that a folder describes: its family, configuration and module, not its weights.

config = configuration(folder, read_json(folder / CONFIG))
module = pretrained_module(folder, num_classes=4, scan_layers=True)
"""

import dataclasses
import logging
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxser.models.hubert import Hubert, HubertConfig
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.models.transformer.configuration import SpeechConfig
from jaxser.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from jaxser.models.wavlm import WavLM, WavLMConfig
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.text import shown_value
from jaxser.victims.hugging_face.fields import field as read_field
from jaxser.victims.hugging_face.layout import CONFIG, PREPROCESSOR, read_json, stranger
from jaxser.victims.key_tables.entries import Entry
from jaxser.victims.key_tables.speech_transformer import hubert_table, wav2vec2_table, wavlm_table

__all__ = [
    "FAMILIES",
    "OF_HUBERT",
    "OF_PREPROCESSOR",
    "Family",
    "configuration",
    "pretrained_module",
    "says_head",
    "with_settings",
]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of speech transformer.

    Attributes:
      config: its configuration, with transformers' names of the fields.
      module: the Linen module.
      table: key table of a configuration.
      torch_class: how the names of transformers' classes begin; what they are for follows.
    """

    config: type[SpeechConfig]
    module: type[SpeechTransformer]
    table: Callable[[SpeechConfig], tuple[Entry, ...]]
    torch_class: str


FAMILIES = {
    "wav2vec2": Family(Wav2Vec2Config, Wav2Vec2, wav2vec2_table, "Wav2Vec2"),
    "hubert": Family(HubertConfig, Hubert, hubert_table, "Hubert"),
    "wavlm": Family(WavLMConfig, WavLM, wavlm_table, "WavLM"),
}

# Fields of a configuration that are in the other file, and those that only HuBERT's classes read.
OF_PREPROCESSOR = ("do_normalize", "return_attention_mask", "sampling_rate")
OF_HUBERT = ("feat_proj_layer_norm", "conv_pos_batch_norm")

# Model types of transformers that read images, see ``jaxser.victims.image_checkpoints``.
_OF_IMAGES = ("cvt", "levit", "vit")


def pretrained_module(folder: Path | str, num_classes: int, **settings: Any) -> SpeechTransformer:
    """The architecture in ``folder`` with a head for so many classes; no weights are read.

    Raises:
      InputError, UsageError: as :func:`jaxser.victims.hugging_face.reading.read_pretrained`.
    """
    folder = Path(folder)
    config = configuration(folder, read_json(folder / CONFIG))
    family = FAMILIES[config.model_type].module
    config, settings = with_settings(config, family, settings)
    return family(num_classes=num_classes, config=config, **settings)


def configuration(folder: Path, entries: Mapping[str, Any]) -> SpeechConfig:
    """The architecture that config.json and preprocessor_config.json describe.

    Args:
      folder: of the checkpoint.
      entries: its config.json. What no field of the configuration names is passed over: most of it
        is of training, or of heads that are not here.

    Raises:
      InputError: another kind of model, one with adapters, or a value of the wrong type.
    """
    file = folder / CONFIG
    kind = entries.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        of_images = kind if kind in _OF_IMAGES else entries.get("architecture")
        if isinstance(of_images, str):  # timm names its networks so
            raise InputError(
                f"{file} describes a network of images ({shown_value(of_images)}), which reads no "
                "speech by itself; train a victim with it, by --model.checkpoint and --model.name."
            )
        other = None if isinstance(kind, str) else stranger(folder)
        raise InputError(
            other
            or f"{file} describes a model of type {shown_value(kind)}, which is not supported; "
            f"use one of {', '.join(sorted(FAMILIES))}."
        )
    if read_field(entries, "add_adapter", bool | None, file) or (
        entries.get("adapter_attn_dim") is not None
    ):
        raise InputError(
            f"{folder} holds a model with adapters (add_adapter or adapter_attn_dim in {CONFIG}), "
            "which are not supported; use a checkpoint without."
        )
    if entries.get("quantization_config") is not None:
        raise InputError(
            f"{folder} holds a quantised model (quantization_config in {CONFIG}), which is not "
            "supported; use a checkpoint in float32, float16 or bfloat16."
        )
    preprocessor: dict[str, Any] = {}
    if (folder / PREPROCESSOR).is_file():
        preprocessor = read_json(folder / PREPROCESSOR)
    else:
        _log.warning(
            "%s has no %s: taken to be for normalised speech at 16000 Hz.", folder, PREPROCESSOR
        )
    cls = FAMILIES[kind].config
    types = typing.get_type_hints(cls)
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in OF_HUBERT and kind != "hubert":
            continue
        source, name = (
            (preprocessor, PREPROCESSOR) if field.name in OF_PREPROCESSOR else (entries, CONFIG)
        )
        if field.name in source:
            values[field.name] = read_field(source, field.name, types[field.name], folder / name)
    config = cls(**values)
    layers = read_field(entries, "num_feat_extract_layers", int | None, file)
    if layers not in (None, len(config.conv_dim)):
        raise InputError(
            f"{file} says num_feat_extract_layers {shown_value(layers)} and has "
            f"{len(config.conv_dim)} sizes in conv_dim; download it again."
        )
    return config


def with_settings(
    config: SpeechConfig, module: type[SpeechTransformer], settings: Mapping[str, Any]
) -> tuple[SpeechConfig, dict[str, Any]]:
    """``settings`` split into a changed configuration and the fields of the module.

    Raises:
      UsageError: unknown setting.
    """
    of_config = {field.name for field in dataclasses.fields(config)}
    of_module = {field.name for field in dataclasses.fields(module)}
    of_module -= {"parent", "name", "num_classes", "config"}
    for setting in settings:
        if setting not in of_config | of_module:
            raise UsageError(
                f"a checkpoint has no setting {setting!r}; "
                f"{nearest_name(setting, of_config | of_module)}"
            )
    changed = {key: value for key, value in settings.items() if key in of_config}
    rest = {key: value for key, value in settings.items() if key not in of_config}
    return dataclasses.replace(config, **changed), rest


def says_head(folder: Path, entries: Mapping[str, Any], family: Family) -> bool:
    """Whether the folder says that it has a head for classification; the weights may have more.

    Raises:
      InputError: it was saved for something else than these classes do.
    """
    saved_as = read_field(entries, "architectures", list[str] | None, folder / CONFIG)
    architecture = (saved_as or [f"{family.torch_class}Model"])[0]
    purpose = architecture.removeprefix(family.torch_class)
    if purpose not in ("ForSequenceClassification", "Model", "ForPreTraining", "ForCTC"):
        raise InputError(
            f"{folder} holds a {shown_value(architecture)[1:-1]}, which is not supported; use a "
            f"{family.torch_class}ForSequenceClassification, Model, ForPreTraining or ForCTC."
        )
    return purpose == "ForSequenceClassification"
