"""An image network written for PyTorch.

write_image_checkpoint(module, variables, ("anger", "joy"), "OUT")
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.models.alexnet import AlexNet
from jaxser.models.cvt import Cvt
from jaxser.models.levit import SHRINKING_MLP_RATIO, SHRINKING_VALUE_RATIO, Levit
from jaxser.models.vgg16 import Vgg16
from jaxser.models.vit import ViT
from jaxser.runtime.errors import UsageError
from jaxser.runtime.files import write_text
from jaxser.victims.hugging_face.layout import CONFIG, PREPROCESSOR, WEIGHTS
from jaxser.victims.image_checkpoints.architecture import EMOTIONS, FIELDS
from jaxser.victims.key_tables.cvt import hugging_face_cvt_table
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.image_cnns import torchvision_alexnet_table, torchvision_vgg16_table
from jaxser.victims.key_tables.levit import hugging_face_levit_table
from jaxser.victims.key_tables.vit import hugging_face_vit_table
from jaxser.victims.weights_file import write_safetensors

__all__ = ["is_image_network", "write_image_checkpoint"]


def is_image_network(module: Any) -> bool:
    """Whether :func:`write_image_checkpoint` can write it."""
    return isinstance(module, ViT | Cvt | Levit | AlexNet | Vgg16)


def write_image_checkpoint(
    module: Any, variables: Mapping[str, Any], labels: Sequence[str], out: Path | str
) -> None:
    """Write ``module`` for transformers' ``*ForImageClassification``, or with torchvision's keys.

    ViT, CvT and LeViT are written for transformers, AlexNet and VGG16 as state dicts of
    torchvision's. Their 1000 logits are ImageNet's; the linear layer from there to the emotions is
    beside them, under the keys ``emotion_head.weight`` and ``emotion_head.bias``, and its labels in
    ``config.json`` under ``emotion_labels``.

    Args:
      module: of these five families.
      variables: its variables.
      labels: emotions in index order.
      out: folder that does not exist or is empty.

    Raises:
      UsageError: ``out`` holds something, or the number of labels is not that of the classes.
    """
    out = Path(out)
    if len(labels) != module.num_classes:
        raise UsageError(f"{len(labels)} labels for a network of {module.num_classes} classes.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; give another, or remove it.")
    config, preprocessor, table = _described(module)
    state = to_torch(variables, table)
    # Every batch norm of PyTorch has a counter, which is part of its state dict.
    for key in [key for key in state if key.endswith(".running_mean")]:
        state[f"{key.removesuffix('running_mean')}num_batches_tracked"] = np.zeros((), np.int64)
    write_safetensors(state, out / WEIGHTS)
    config[EMOTIONS] = list(labels)
    if preprocessor:
        write_text(out / PREPROCESSOR, _json(preprocessor))
    # Last: a folder without it is not read as one that this project wrote.
    write_text(out / CONFIG, _json(config))


def _json(entries: Mapping[str, Any]) -> str:
    return json.dumps(entries, indent=2, sort_keys=True) + "\n"


def _described(module: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """config.json, preprocessor_config.json and key table of a module."""
    if isinstance(module, AlexNet | Vgg16):
        if isinstance(module, AlexNet):
            name, table = "alexnet", torchvision_alexnet_table(module)
        else:
            name, table = "vgg16", torchvision_vgg16_table(module)
        colours = {"mean": list(module.mean), "std": list(module.std)}
        entries: dict[str, Any] = {
            "architecture": name,
            FIELDS: _fields(module),
            "pretrained_cfg": colours,
        }
        return entries, {}, table
    entries, table, processor = _for_transformers(module)
    classes = [f"LABEL_{index}" for index in range(module.imagenet_classes)]
    every: dict[str, Any] = {
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "label2id": {name: index for index, name in enumerate(classes)},
        "num_channels": 3,
        "torch_dtype": "float32",
    }
    entries |= every
    preprocessor: dict[str, Any] = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": list(module.mean),
        "image_processor_type": processor,
        "image_std": list(module.std),
        "size": {"height": module.image_size, "width": module.image_size},
    }
    return entries, preprocessor, table


def _fields(module: Any) -> dict[str, Any]:
    """Of the architecture; not the classes, the type computed in, and what is said elsewhere."""
    others = ("parent", "name", "num_classes", "dtype", "mean", "std")
    return {
        each.name: getattr(module, each.name)
        for each in dataclasses.fields(module)
        if each.name not in others
    }


def _for_transformers(module: Any) -> tuple[dict[str, Any], Any, str]:
    entries: dict[str, Any]
    if isinstance(module, ViT):
        entries = {
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "hidden_size": module.width,
            "num_hidden_layers": module.depth,
            "num_attention_heads": module.heads,
            "intermediate_size": module.mlp,
            "patch_size": module.patch,
            "image_size": module.image_size,
            "layer_norm_eps": module.norm_eps,
            "hidden_dropout_prob": module.dropout,
            "attention_probs_dropout_prob": module.attention_dropout,
            "hidden_act": "gelu",
            "qkv_bias": True,
        }
        return entries, hugging_face_vit_table(module), "ViTImageProcessor"
    stages = len(module.widths)
    if isinstance(module, Cvt):
        entries = {
            "architectures": ["CvtForImageClassification"],
            "model_type": "cvt",
            "embed_dim": module.widths,
            "depth": module.depths,
            "num_heads": module.heads,
            "mlp_ratio": module.mlp_ratios,
            "patch_sizes": module.patch_sizes,
            "patch_stride": module.patch_strides,
            "patch_padding": module.patch_paddings,
            "stride_kv": module.key_strides,
            "stride_q": [1] * stages,
            "kernel_qkv": [3] * stages,
            "padding_q": [1] * stages,
            "padding_kv": [1] * stages,
            "qkv_projection_method": ["dw_bn"] * stages,
            "qkv_bias": [True] * stages,
            "cls_token": [False] * (stages - 1) + [True],
            "drop_rate": [module.dropout] * stages,
            "attention_drop_rate": [module.attention_dropout] * stages,
            "drop_path_rate": module.drop_path,
            # transformers passes it over, and computes the exact GELU whatever it says.
            "hidden_act": "quick_gelu" if module.gelu == "quick" else "gelu",
            "image_size": module.image_size,
        }
        return entries, hugging_face_cvt_table(module), "ConvNextImageProcessor"
    assert isinstance(module, Levit)
    entries = {
        "architectures": ["LevitForImageClassificationWithTeacher"],
        "model_type": "levit",
        "hidden_sizes": module.widths,
        "depths": module.depths,
        "num_attention_heads": module.heads,
        "key_dim": [module.key_size] * stages,
        "attention_ratio": [module.value_ratio] * stages,
        "mlp_ratio": [module.mlp_ratio] * stages,
        "down_ops": [
            [
                "Subsample",
                module.key_size,
                width // module.key_size,
                SHRINKING_VALUE_RATIO,
                SHRINKING_MLP_RATIO,
                2,
            ]
            for width in module.widths[:-1]
        ],
        "image_size": module.image_size,
        # transformers takes integers alone; it is of training, where this project has its own.
        "drop_path_rate": 0,
        "patch_size": 16,
    }
    return entries, hugging_face_levit_table(module), "LevitImageProcessor"
