"""Where weights of image networks come from, and how each source is known by its keys.

source = source_of_keys(state, "PATH")
table = source.table(module, head=False)
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import listed, shown_value
from jaxser.victims.key_tables.cvt import hugging_face_cvt_table
from jaxser.victims.key_tables.entries import Entry
from jaxser.victims.key_tables.image_cnns import (
    timm_vgg16_table,
    torchvision_alexnet_table,
    torchvision_vgg16_table,
)
from jaxser.victims.key_tables.levit import (
    hugging_face_levit_table,
    timm_levit_conv_table,
    timm_levit_table,
)
from jaxser.victims.key_tables.vit import (
    hugging_face_vit_table,
    timm_vit_table,
    torchvision_vit_table,
)

__all__ = ["SOURCES", "Source", "source_of_keys"]


@dataclasses.dataclass(frozen=True)
class Source:
    """One library's form of one family.

    Attributes:
      library: "hugging_face", "timm" or "torchvision".
      family: how the names of the architectures begin.
      table: key table of a module, with or without this project's head.
      mark: a key that no other source has.
      dimensions: of the array under ``mark``, where two sources share their keys; 0 is any.
    """

    library: str
    family: str
    table: Callable[..., tuple[Entry, ...]]
    mark: str
    dimensions: int = 0


_FIRST_QKV = "stages.0.blocks.0.attn.qkv.linear.weight"

SOURCES = (
    Source("hugging_face", "vit", hugging_face_vit_table, "vit.embeddings.cls_token"),
    Source(
        "hugging_face",
        "cvt",
        hugging_face_cvt_table,
        "cvt.encoder.stages.0.embedding.convolution_embeddings.projection.weight",
    ),
    Source(
        "hugging_face",
        "levit",
        hugging_face_levit_table,
        "levit.patch_embeddings.embedding_layer_1.convolution.weight",
    ),
    Source("timm", "levit", timm_levit_table, _FIRST_QKV, 2),
    Source("timm", "levit", timm_levit_conv_table, _FIRST_QKV, 4),
    Source("timm", "vit", timm_vit_table, "patch_embed.proj.weight"),
    Source("timm", "vgg16", timm_vgg16_table, "pre_logits.fc1.weight"),
    Source("torchvision", "vit", torchvision_vit_table, "conv_proj.weight"),
    Source("torchvision", "vgg16", torchvision_vgg16_table, "classifier.0.weight"),
    Source("torchvision", "alexnet", torchvision_alexnet_table, "classifier.1.weight"),
)


def source_of_keys(state: Mapping[str, np.ndarray], where: Any) -> Source:
    """The source whose keys ``state`` has; its table says later whether it has all of them.

    Raises:
      InputError: it is none of these.
    """
    for source in SOURCES:
        array = state.get(source.mark)
        if array is not None and source.dimensions in (0, array.ndim):
            return source
    first = listed([shown_value(key) for key in state], most=3)
    raise InputError(
        f"{where} holds the weights of no image network that is known here (keys {first}); use a "
        "ViT, CvT or LeViT of transformers, a ViT, VGG16 or LeViT of timm, or a ViT, VGG16 or "
        "AlexNet of torchvision, each with its classifier."
    )
