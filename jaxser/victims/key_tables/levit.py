"""Keys of LeViT in transformers and timm, one table for each source.

    table = timm_levit_table(module)                  # a victim of this project
    table = timm_levit_table(module, head=False)      # what is published

The two count their blocks apart: what shrinks the grid between two stages is the END of the first
in transformers and the BEGINNING of the second in timm.
"""

from collections.abc import Sequence

from jaxser.models.levit import Levit
from jaxser.victims.key_tables.entries import Entry, batch_norm, kept, linear, transposed
from jaxser.victims.key_tables.image_cnns import emotion_head_entries

__all__ = ["hugging_face_levit_table", "timm_levit_conv_table", "timm_levit_table"]


def hugging_face_levit_table(module: Levit, head: bool = True) -> tuple[Entry, ...]:
    """Key table of transformers' LevitForImageClassificationWithTeacher."""
    entries = []
    for index in range(4):
        there = f"levit.patch_embeddings.embedding_layer_{index + 1}"
        entries += _conv_norm(f"stem_{index}", f"{there}.convolution", f"{there}.batch_norm")
    for stage, depth in enumerate(module.depths):
        there = f"levit.encoder.stages.{stage}.layers"
        # Attention and the products after it are counted by themselves.
        for block in range(depth):
            here = f"stage_{stage}_block_{block}"
            attention = f"{there}.{2 * block}.module"
            parts = {"qkv": "queries_keys_values", "out": "projection"}
            entries += _hugging_face_attention(f"{here}_attention", attention, parts)
            entries += _hugging_face_mlp(f"{here}_mlp", f"{there}.{2 * block + 1}.module")
        if stage < len(module.depths) - 1:
            here, parts = f"shrink_{stage}", {"kv": "keys_values", "q": "queries"}
            parts["out"] = "projection"
            entries += _hugging_face_attention(here, f"{there}.{2 * depth}", parts)
            entries += _hugging_face_mlp(f"{here}_mlp", f"{there}.{2 * depth + 1}.module")
    entries += _classifiers("classifier", "classifier_distill", "batch_norm")
    return (*entries, *emotion_head_entries(head))


def timm_levit_table(module: Levit, head: bool = True) -> tuple[Entry, ...]:
    """Key table of timm's ``levit_128s`` to ``levit_384``."""
    return _timm_table(module, head, as_convolutions=False)


def timm_levit_conv_table(module: Levit, head: bool = True) -> tuple[Entry, ...]:
    """Key table of timm's ``levit_conv_128s`` ...: its products are convolutions of 1 by 1."""
    return _timm_table(module, head, as_convolutions=True)


def _timm_table(module: Levit, head: bool, as_convolutions: bool) -> tuple[Entry, ...]:
    def dense_norms(path: Sequence[str], parts: dict[str, str]) -> list[Entry]:
        entries = []
        for name, source in parts.items():
            kernel = _dense_as_conv if as_convolutions else transposed
            entries.append(
                kernel(("params", *path, name, "dense", "kernel"), f"{source}.linear.weight")
            )
            entries += batch_norm((*path, name, "norm"), f"{source}.bn")
        return entries

    def attention(here: str, there: str, parts: Sequence[str]) -> list[Entry]:
        named = {part: f"{there}.{_TIMM_PARTS[part]}" for part in parts}
        biases = kept(("params", here, "biases"), f"{there}.attention_biases")
        return [biases, *dense_norms((here,), named)]

    def mlp(here: str, there: str) -> list[Entry]:
        return dense_norms((here,), {"up": f"{there}.ln1", "down": f"{there}.ln2"})

    entries = []
    for index in range(4):
        there = f"stem.conv{index + 1}"
        entries += _conv_norm(f"stem_{index}", f"{there}.linear", f"{there}.bn")
    for stage, depth in enumerate(module.depths):
        if stage:
            here, there = f"shrink_{stage - 1}", f"stages.{stage}.downsample"
            entries += attention(here, f"{there}.attn_downsample", ("kv", "q", "out"))
            entries += mlp(f"{here}_mlp", f"{there}.mlp")
        for block in range(depth):
            here, there = f"stage_{stage}_block_{block}", f"stages.{stage}.blocks.{block}"
            entries += attention(f"{here}_attention", f"{there}.attn", ("qkv", "out"))
            entries += mlp(f"{here}_mlp", f"{there}.mlp")
    entries += _classifiers("head", "head_dist", "bn")
    return (*entries, *emotion_head_entries(head))


_TIMM_PARTS = {"qkv": "qkv", "kv": "kv", "q": "q.ln", "out": "proj.ln"}


def _hugging_face_attention(here: str, there: str, parts: dict[str, str]) -> list[Entry]:
    entries = [kept(("params", here, "biases"), f"{there}.attention_biases")]
    for name, source in parts.items():
        entries += _hugging_face_dense((here, name), f"{there}.{source}")
    return entries


def _hugging_face_mlp(here: str, there: str) -> list[Entry]:
    return [
        *_hugging_face_dense((here, "up"), f"{there}.linear_up"),
        *_hugging_face_dense((here, "down"), f"{there}.linear_down"),
    ]


def _hugging_face_dense(path: tuple[str, ...], source: str) -> list[Entry]:
    return [
        transposed(("params", *path, "dense", "kernel"), f"{source}.linear.weight"),
        *batch_norm((*path, "norm"), f"{source}.batch_norm"),
    ]


def _dense_as_conv(target: tuple[str, ...], source: str) -> Entry:
    return Entry(target, (source,), lambda a: a[:, :, 0, 0].T, lambda a: (a.T[:, :, None, None],))


def _conv_norm(here: str, conv: str, norm: str) -> list[Entry]:
    kernel = Entry(
        ("params", here, "conv", "kernel"),
        (f"{conv}.weight",),
        lambda a: a.transpose(2, 3, 1, 0),
        lambda a: (a.transpose(3, 2, 0, 1),),
    )
    return [kernel, *batch_norm((here, "norm"), norm)]


def _classifiers(label: str, teacher: str, norm: str) -> list[Entry]:
    """The head trained on labels and the one trained on a teacher."""
    return [
        *batch_norm(("norm",), f"{label}.{norm}"),
        *linear(("params", "classifier"), f"{label}.linear"),
        *batch_norm(("teacher_norm",), f"{teacher}.{norm}"),
        *linear(("params", "teacher_classifier"), f"{teacher}.linear"),
    ]
