"""The image network that a folder describes: its family and the fields of its module.

    described = description(folder)                # None where there is no config.json
    module = image_module(folder, 7, name="cvt-21")

``config.json`` of transformers is read by transformers' own configuration classes, which need no
PyTorch, and what they say is checked again here: a module is only made of what it can compute.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxser import models
from jaxser.models.levit import SHRINKING_MLP_RATIO, SHRINKING_VALUE_RATIO
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.text import listed, shown_value
from jaxser.victims.hugging_face.fields import field, names_fault
from jaxser.victims.hugging_face.layout import CONFIG, PREPROCESSOR, read_json
from jaxser.victims.image_checkpoints.fields import check_numbers, check_types

__all__ = [
    "EMOTIONS",
    "FIELDS",
    "MODEL_TYPES",
    "Described",
    "description",
    "family_of",
    "image_module",
]

# Key of config.json with the labels of the head that this project put behind ImageNet's.
EMOTIONS = "emotion_labels"

# Key of config.json with the module's fields, where this project writes what has no configuration
# class.
FIELDS = "fields"

# model_type of transformers -> (its configuration class, an architecture of that family)
MODEL_TYPES = {
    "vit": ("ViTConfig", "vit-b16"),
    "cvt": ("CvtConfig", "cvt-13"),
    "levit": ("LevitConfig", "levit-256"),
}

# timm's names, and those that this project writes -> the architecture.
_TIMM = {
    "alexnet": "alexnet",
    "vgg16": "vgg16",
    "vit_b_16": "vit-b16",
    "vit_base_patch16_224": "vit-b16",
    **{
        f"levit{form}_{size}": f"levit-{size}"
        for form in ("", "_conv")
        for size in ("128s", "128", "192", "256", "384")
    },
}

_FAMILIES = ("alexnet", "cvt", "levit", "vgg16", "vit")


@dataclasses.dataclass(frozen=True)
class Described:
    """What ``config.json`` says.

    Attributes:
      name: an architecture of the family.
      fields: of its module.
      emotions: labels of this project's head, where the folder has it.
    """

    name: str
    fields: Mapping[str, Any]
    emotions: tuple[str, ...] | None = None


def family_of(name: str) -> str:
    """Family of an architecture: "cvt" of "cvt-21"."""
    return next((family for family in _FAMILIES if name.startswith(family)), name)


def description(folder: Path) -> Described | None:
    """What the folder's ``config.json`` says of the architecture; None where there is none.

    Raises:
      InputError: it is damaged, or describes another kind of network.
    """
    file = folder / CONFIG
    if not file.is_file():
        return None
    entries = read_json(file)
    emotions = field(entries, EMOTIONS, list[str] | None, file)
    emotions = None if emotions is None else tuple(emotions)
    fault = names_fault(emotions or ())
    if fault is not None:
        raise InputError(f"{EMOTIONS} in {file} {fault}; correct it.")
    kind = entries.get("model_type")
    if isinstance(kind, str):
        if kind not in MODEL_TYPES:
            raise InputError(
                f"{file} describes a model of type {shown_value(kind)}, which is no image network "
                f"that is known here; use one of {', '.join(sorted(MODEL_TYPES))}."
            )
        fields = {**_of_hugging_face(kind, entries, file), **_colours(folder)}
        return Described(MODEL_TYPES[kind][1], fields, emotions)
    name = field(entries, "architecture", str | None, file)
    if name is None:
        raise InputError(
            f"{file} says neither model_type nor architecture, so it describes no image network of "
            "transformers or timm; download it again."
        )
    if name not in _TIMM:
        raise InputError(
            f"{file} describes timm's {shown_value(name)}, which is not known here; use one of "
            f"{', '.join(sorted(_TIMM))}."
        )
    fields = _tuples(field(entries, FIELDS, dict[str, Any] | None, file) or {})
    pretrained = field(entries, "pretrained_cfg", dict[str, Any] | None, file) or {}
    for key in ("mean", "std"):
        values = field(pretrained, key, tuple[float, float, float] | None, file)
        if values is not None:
            fields[key] = values
    return Described(_TIMM[name], fields, emotions)


def image_module(
    folder: Path, num_classes: int, name: str | None = None, **settings: Any
) -> nn.Module:
    """The module that ``folder`` describes, with a head for so many classes; no weights are read.

    Args:
      folder: of the checkpoint.
      num_classes: of the victim.
      name: the architecture where the folder does not say it.
      **settings: fields of the module, over what the folder says.

    Raises:
      InputError: the folder describes no network of images.
      UsageError: unknown setting; the folder does not say the architecture, nor does ``name``.
    """
    described = description(folder)
    if described is None and name is None:
        raise UsageError(f"{folder} has no {CONFIG}; give the name of the architecture.")
    if described is None:
        assert name is not None
        return models.build(name, num_classes, **settings)
    family = family_of(described.name)
    if name is not None and family_of(name) != family:
        raise UsageError(
            f"model.checkpoint {folder} holds a {family} network, not {name}; give "
            f"--model.name {described.name}."
        )
    fields = dict(described.fields)
    check_types(type(models.build(described.name, 2)), fields, folder / CONFIG)
    fields |= settings
    check_numbers(fields, folder / CONFIG)
    return models.build(described.name, num_classes, **fields)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _of_hugging_face(kind: str, entries: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Fields of the module, from transformers' configuration of that type."""
    entries = dict(entries)
    # transformers wants an integer there, and the authors' is 0.1.
    dropped = entries.pop("drop_path_rate", None) if kind == "levit" else None
    config = _configuration(kind, entries, file)
    reader = {"vit": _vit_fields, "cvt": _cvt_fields, "levit": _levit_fields}[kind]
    said = _Said(config, file)
    said.must("num_channels", 3)
    fields = reader(said)
    fields["imagenet_classes"] = _classes(entries, file)
    if dropped is not None:
        fields["drop_path"] = float(
            field({"drop_path_rate": dropped}, "drop_path_rate", float, file)
        )
    if kind == "cvt":
        gelu = field(entries, "hidden_act", str | None, file) or "gelu"
        if gelu not in ("gelu", "quick_gelu"):
            raise _unsupported(file, "hidden_act", gelu)
        fields["gelu"] = "quick" if gelu == "quick_gelu" else "exact"
    return fields


def _configuration(kind: str, entries: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """All fields of transformers' configuration, its defaults included."""
    # Without PyTorch it says so at every import, and that is no news here.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    cls = getattr(transformers, MODEL_TYPES[kind][0])
    try:
        values: dict[str, Any] = cls.from_dict(dict(entries)).to_dict()
    except Exception as error:  # the classes of transformers and of huggingface_hub have no base
        reason = listed([" ".join(str(error).split())])
        raise InputError(
            f"{file} is no configuration of a {kind} for transformers ({reason}); download it "
            "again."
        ) from error
    return values


class _Said:
    """Values of a configuration, each read by its type."""

    def __init__(self, values: Mapping[str, Any], file: Path) -> None:
        self.values, self.file = values, file

    def __call__(self, name: str, kind: Any) -> Any:
        value = field(self.values, name, kind, self.file)
        if value is None:
            raise InputError(f"{self.file} does not say {name}; download it again.")
        return value

    def must(self, name: str, *allowed: Any) -> None:
        """Refuse what no module here computes; tuples and lists are alike."""
        value = self.values.get(name)
        plain = tuple(value) if isinstance(value, list) else value
        if plain not in allowed:
            raise _unsupported(self.file, name, value)

    def one(self, name: str) -> float:
        """The value that a tuple has for every stage."""
        values = self(name, tuple[float, ...])
        if len(set(values)) != 1:
            raise _unsupported(self.file, name, list(values))
        return float(values[0])

    def side(self, name: str) -> int:
        """Of a square, which may be said once or twice."""
        value = self.values.get(name)
        if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        return int(field({name: value}, name, int, self.file))


def _vit_fields(said: _Said) -> dict[str, Any]:
    said.must("hidden_act", "gelu")
    said.must("qkv_bias", True)
    return {
        "width": said("hidden_size", int),
        "depth": said("num_hidden_layers", int),
        "heads": said("num_attention_heads", int),
        "mlp": said("intermediate_size", int),
        "patch": said.side("patch_size"),
        "image_size": said.side("image_size"),
        "norm_eps": said("layer_norm_eps", float),
        "dropout": said("hidden_dropout_prob", float),
        "attention_dropout": said("attention_probs_dropout_prob", float),
    }


def _cvt_fields(said: _Said) -> dict[str, Any]:
    widths = said("embed_dim", tuple[int, ...])
    stages = len(widths)
    for name, value in (
        ("qkv_projection_method", "dw_bn"),
        ("qkv_bias", True),
        ("kernel_qkv", 3),
        ("padding_q", 1),
        ("padding_kv", 1),
        ("stride_q", 1),
    ):
        said.must(name, (value,) * stages)
    said.must("cls_token", (False,) * (stages - 1) + (True,))
    strides = said("stride_kv", tuple[int, ...])
    if not set(strides) <= {1, 2}:
        raise _unsupported(said.file, "stride_kv", list(strides))
    # layer_norm_eps is passed over: transformers does not use it. The size of images is a field of
    # this project's alone; transformers takes any.
    size = {"image_size": said.side("image_size")} if "image_size" in said.values else {}
    return {
        **size,
        "widths": widths,
        "depths": said("depth", tuple[int, ...]),
        "heads": said("num_heads", tuple[int, ...]),
        "mlp_ratios": said("mlp_ratio", tuple[float, ...]),
        "patch_sizes": said("patch_sizes", tuple[int, ...]),
        "patch_strides": said("patch_stride", tuple[int, ...]),
        "patch_paddings": said("patch_padding", tuple[int, ...]),
        "key_strides": strides,
        "dropout": said.one("drop_rate"),
        "attention_dropout": said.one("attention_drop_rate"),
        "drop_path": said("drop_path_rate", tuple[float, ...]),
    }


def _levit_fields(said: _Said) -> dict[str, Any]:
    for name, value in (("kernel_size", 3), ("stride", 2), ("padding", 1)):
        said.must(name, value)
    said.must("patch_size", 16)
    widths, key = said("hidden_sizes", tuple[int, ...]), int(said.one("key_dim"))
    shrinking = [
        ["Subsample", key, width // max(key, 1), SHRINKING_VALUE_RATIO, SHRINKING_MLP_RATIO, 2]
        for width in widths[:-1]
    ]
    # transformers adds an empty one for the last stage when it builds the network.
    ops = [list(each) for each in said("down_ops", list[list[Any]]) if list(each) != [""]]
    if ops != shrinking:
        raise _unsupported(said.file, "down_ops", ops)
    return {
        "widths": widths,
        "depths": said("depths", tuple[int, ...]),
        "heads": said("num_attention_heads", tuple[int, ...]),
        "key_size": key,
        "value_ratio": int(said.one("attention_ratio")),
        "mlp_ratio": int(said.one("mlp_ratio")),
        "image_size": said.side("image_size"),
    }


def _classes(entries: Mapping[str, Any], file: Path) -> int:
    """Of ImageNet's classifier: as many as id2label names, 1000 where it names none."""
    labels = field(entries, "id2label", dict[str, str | int] | None, file)
    return len(labels) if labels else int(field(entries, "num_labels", int | None, file) or 1000)


def _colours(folder: Path) -> dict[str, Any]:
    """Mean and deviation that the folder's preprocessor brings the colours to."""
    file = folder / PREPROCESSOR
    if not file.is_file():
        return {}
    entries = read_json(file)
    colours = {}
    for name, key in (("mean", "image_mean"), ("std", "image_std")):
        values = field(entries, key, tuple[float, float, float] | None, file)
        if values is not None:
            colours[name] = values
    return colours


def _unsupported(file: Path, name: str, value: Any) -> InputError:
    return InputError(
        f"{name} in {file} is {shown_value(value)}, which is not supported; use a checkpoint of a "
        "published architecture."
    )
