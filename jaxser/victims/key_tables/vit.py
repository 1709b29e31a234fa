"""Keys of ViT in torchvision, timm and transformers, one table for each source.

    module = jaxser.models.build("vit-b16", 7, norm_eps=NORM_EPS["timm"])
    table = timm_vit_table(module)

The layer norms' epsilon is no array of a checkpoint: a module must be built with its source's.
"""

from jaxser.models.vit import ViT
from jaxser.victims.key_tables.entries import (
    Entry,
    kept,
    linear,
    linears,
    norm,
    transposed,
)
from jaxser.victims.key_tables.image_cnns import emotion_head_entries

__all__ = ["NORM_EPS", "hugging_face_vit_table", "timm_vit_table", "torchvision_vit_table"]

# The ``norm_eps`` that a source's weights were trained with.
NORM_EPS = {"torchvision": 1e-6, "timm": 1e-6, "hugging_face": 1e-12}


def torchvision_vit_table(module: ViT, head: bool = True) -> tuple[Entry, ...]:
    """Key table of torchvision's ``vit_b_16``."""
    entries = _before_blocks(module, "class_token", "encoder.pos_embedding", "conv_proj")
    for block in range(module.depth):
        here, there = ("params", f"block_{block}"), f"encoder.layers.encoder_layer_{block}"
        attention = f"{there}.self_attention"
        entries += [
            *norm((*here, "attention_norm"), f"{there}.ln_1"),
            transposed((*here, "qkv", "kernel"), f"{attention}.in_proj_weight"),
            kept((*here, "qkv", "bias"), f"{attention}.in_proj_bias"),
            *linear((*here, "out"), f"{attention}.out_proj"),
            *norm((*here, "mlp_norm"), f"{there}.ln_2"),
            *linear((*here, "intermediate"), f"{there}.mlp.0"),
            *linear((*here, "output"), f"{there}.mlp.3"),
        ]
    entries += norm(("params", "norm"), "encoder.ln")
    entries += linear(("params", "classifier"), "heads.head")
    return (*entries, *emotion_head_entries(head))


def timm_vit_table(module: ViT, head: bool = True) -> tuple[Entry, ...]:
    """Key table of timm's ``vit_base_patch16_224``."""
    entries = _before_blocks(module, "cls_token", "pos_embed", "patch_embed.proj")
    for block in range(module.depth):
        here, there = ("params", f"block_{block}"), f"blocks.{block}"
        entries += [
            *norm((*here, "attention_norm"), f"{there}.norm1"),
            *linear((*here, "qkv"), f"{there}.attn.qkv"),
            *linear((*here, "out"), f"{there}.attn.proj"),
            *norm((*here, "mlp_norm"), f"{there}.norm2"),
            *linear((*here, "intermediate"), f"{there}.mlp.fc1"),
            *linear((*here, "output"), f"{there}.mlp.fc2"),
        ]
    entries += norm(("params", "norm"), "norm")
    entries += linear(("params", "classifier"), "head")
    return (*entries, *emotion_head_entries(head))


def hugging_face_vit_table(module: ViT, head: bool = True) -> tuple[Entry, ...]:
    """Key table of transformers' ViTForImageClassification, by the names that it writes."""
    embeddings = "vit.embeddings"
    entries = _before_blocks(
        module,
        f"{embeddings}.cls_token",
        f"{embeddings}.position_embeddings",
        f"{embeddings}.patch_embeddings.projection",
    )
    for block in range(module.depth):
        here, there = ("params", f"block_{block}"), f"vit.encoder.layer.{block}"
        attention = f"{there}.attention"
        projections = [f"{attention}.attention.{part}" for part in ("query", "key", "value")]
        entries += [
            *norm((*here, "attention_norm"), f"{there}.layernorm_before"),
            *linears((*here, "qkv"), projections),
            *linear((*here, "out"), f"{attention}.output.dense"),
            *norm((*here, "mlp_norm"), f"{there}.layernorm_after"),
            *linear((*here, "intermediate"), f"{there}.intermediate.dense"),
            *linear((*here, "output"), f"{there}.output.dense"),
        ]
    entries += norm(("params", "norm"), "vit.layernorm")
    entries += linear(("params", "classifier"), "classifier")
    return (*entries, *emotion_head_entries(head))


def _before_blocks(module: ViT, class_token: str, positions: str, patches: str) -> list[Entry]:
    """What comes before the blocks."""
    patch, width = module.patch, module.width
    return [
        Entry(
            ("params", "class_token"),
            (class_token,),
            lambda a: a.reshape(width),
            lambda a: (a[None, None],),
        ),
        Entry(
            ("params", "positions"),
            (positions,),
            lambda a: a.reshape(-1, width),
            lambda a: (a[None],),
        ),
        # A convolution there, and here the product of what its windows hold, row by row.
        Entry(
            ("params", "patches", "kernel"),
            (f"{patches}.weight",),
            lambda a: a.reshape(width, 3, patch, patch).transpose(2, 3, 1, 0).reshape(-1, width),
            lambda a: (a.reshape(patch, patch, 3, width).transpose(3, 2, 0, 1),),
        ),
        kept(("params", "patches", "bias"), f"{patches}.bias"),
    ]
