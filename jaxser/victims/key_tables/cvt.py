"""Keys of CvT in transformers.

    table = hugging_face_cvt_table(module)                  # a victim of this project
    table = hugging_face_cvt_table(module, head=False)      # what is published

timm has no CvT.
"""

from jaxser.models.cvt import Cvt
from jaxser.victims.key_tables.entries import Entry, batch_norm, conv2d, linear, norm
from jaxser.victims.key_tables.image_cnns import emotion_head_entries

__all__ = ["hugging_face_cvt_table"]


def hugging_face_cvt_table(module: Cvt, head: bool = True) -> tuple[Entry, ...]:
    """Key table of transformers' CvtForImageClassification."""
    entries = []
    for stage, depth in enumerate(module.depths):
        here, there = ("params", f"stage_{stage}"), f"cvt.encoder.stages.{stage}"
        embedding = f"{there}.embedding.convolution_embeddings"
        entries += conv2d((*here, "patches"), f"{embedding}.projection")
        entries += norm((*here, "patches_norm"), f"{embedding}.normalization")
        if stage == len(module.depths) - 1:
            entries.append(_token((*here, "class_token"), f"{there}.cls_token"))
        for block in range(depth):
            entries += _block((f"stage_{stage}", f"block_{block}"), f"{there}.layers.{block}")
    entries += norm(("params", "norm"), "layernorm")
    entries += linear(("params", "classifier"), "classifier")
    return (*entries, *emotion_head_entries(head))


def _token(target: tuple[str, ...], source: str) -> Entry:
    return Entry(target, (source,), lambda a: a.reshape(a.shape[-1]), lambda a: (a[None, None],))


def _block(path: tuple[str, ...], source: str) -> list[Entry]:
    here, attention = ("params", *path), f"{source}.attention.attention"
    entries = []
    for part in ("query", "key", "value"):
        conv = f"{attention}.convolution_projection_{part}.convolution_projection"
        entries += [
            # One kernel for each channel: [channels, 1, rows, columns] there.
            Entry(
                (*here, f"{part}_conv", "kernel"),
                (f"{conv}.convolution.weight",),
                lambda a: a.transpose(2, 3, 1, 0),
                lambda a: (a.transpose(3, 2, 0, 1),),
            ),
            *batch_norm((*path, f"{part}_norm"), f"{conv}.normalization"),
            *linear((*here, part), f"{attention}.projection_{part}"),
        ]
    return [
        *entries,
        *linear((*here, "out"), f"{source}.attention.output.dense"),
        *norm((*here, "attention_norm"), f"{source}.layernorm_before"),
        *linear((*here, "intermediate"), f"{source}.intermediate.dense"),
        *linear((*here, "output"), f"{source}.output.dense"),
        *norm((*here, "mlp_norm"), f"{source}.layernorm_after"),
    ]
