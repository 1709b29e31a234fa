"""Keys of wav2vec 2.0, HuBERT and WavLM in transformers, and layers stacked for ``scan_layers``.

variables = from_torch(state, wavlm_table(model.config))
variables = stack_layers(variables)                         # for a model with scan_layers
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxser.victims.key_tables.entries import (
    Entry,
    batch_norm,
    kept,
    linear,
    linears,
    norm,
    transposed,
)

if TYPE_CHECKING:
    from jaxser.models.transformer.configuration import SpeechConfig

__all__ = [
    "hubert_table",
    "stack_layers",
    "unstack_layers",
    "wav2vec2_table",
    "wavlm_table",
]


def wav2vec2_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' Wav2Vec2ForSequenceClassification."""
    return _speech_transformer_table(config)


def hubert_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' HubertForSequenceClassification."""
    return _speech_transformer_table(config)


def wavlm_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' WavLMForSequenceClassification: also the relative positions."""
    embedding = "wavlm.encoder.layers.0.attention.rel_attn_embed.weight"
    # The first layer holds it for all.
    entries = [kept(("params", "encoder", "shared", "embedding"), embedding)]
    for layer in range(config.num_hidden_layers):
        here = ("params", "encoder", f"layer{layer}", "attention")
        there = f"wavlm.encoder.layers.{layer}.attention"
        entries += [
            Entry(
                (*here, "gate_constant"),
                (f"{there}.gru_rel_pos_const",),
                np.ravel,
                lambda a: (a.reshape(1, -1, 1, 1),),
            ),
            transposed((*here, "gate_kernel"), f"{there}.gru_rel_pos_linear.weight"),
            kept((*here, "gate_bias"), f"{there}.gru_rel_pos_linear.bias"),
        ]
    return _speech_transformer_table(config) + tuple(entries)


def _speech_transformer_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    base = config.model_type
    return (
        *_feature_encoder_entries(config, f"{base}.feature_extractor.conv_layers"),
        *_feature_projection_entries(config, f"{base}.feature_projection"),
        *_encoder_entries(config, f"{base}.encoder"),
        *([kept(("params", "masked_frame"), f"{base}.masked_spec_embed")] if config.masks else []),
        *_head_entries(config),
    )


def _feature_encoder_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "feature_encoder")
    entries = []
    for layer in range(len(config.conv_dim)):
        there = f"{source}.{layer}"
        entries.append(transposed((*here, f"kernel{layer}"), f"{there}.conv.weight"))
        if config.conv_bias:
            entries.append(kept((*here, f"bias{layer}"), f"{there}.conv.bias"))
        if layer == 0 or config.feat_extract_norm == "layer":
            entries += norm(here, f"{there}.layer_norm", prefix=f"norm{layer}_")
    return entries


def _feature_projection_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "feature_projection")
    entries = linear((*here, "projection"), f"{source}.projection")
    if config.feat_proj_layer_norm:
        entries += norm((*here, "norm"), f"{source}.layer_norm")
    return entries


def _encoder_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "encoder")
    entries = norm((*here, "norm"), f"{source}.layer_norm")
    position, there = (*here, "position"), f"{source}.pos_conv_embed"
    entries.append(kept((*position, "bias"), f"{there}.conv.bias"))
    if config.conv_pos_batch_norm:
        entries += [
            transposed((*position, "kernel"), f"{there}.conv.weight"),
            *batch_norm(position[1:], f"{there}.batch_norm", prefix="norm_"),
        ]
    else:
        # Weight normalisation stays gain and direction, as fine-tuning trains them.
        weight = f"{there}.conv.parametrizations.weight"
        entries += [
            Entry(
                (*position, "gain"),
                (f"{weight}.original0",),
                np.ravel,
                lambda a: (a.reshape(1, 1, -1),),
            ),
            transposed((*position, "direction"), f"{weight}.original1"),
        ]
    for layer in range(config.num_hidden_layers):
        block, there = (*here, f"layer{layer}"), f"{source}.layers.{layer}"
        projections = [f"{there}.attention.{part}_proj" for part in "qkv"]
        entries += [
            *linears((*block, "attention", "qkv"), projections),
            *linear((*block, "attention", "out"), f"{there}.attention.out_proj"),
            *norm((*block, "attention_norm"), f"{there}.layer_norm"),
            *linear((*block, "intermediate"), f"{there}.feed_forward.intermediate_dense"),
            *linear((*block, "output"), f"{there}.feed_forward.output_dense"),
            *norm((*block, "norm"), f"{there}.final_layer_norm"),
        ]
    return entries


def _head_entries(config: "SpeechConfig") -> list[Entry]:
    here = ("params", "head")
    entries = linear((*here, "projector"), "projector") + linear(
        (*here, "classifier"), "classifier"
    )
    if config.use_weighted_layer_sum:
        entries.append(kept((*here, "layer_weights"), "layer_weights"))
    return entries


def stack_layers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a speech transformer for ``scan_layers``: ``layer0`` ... in one ``layers``."""
    encoder = dict(variables["params"]["encoder"])
    blocks = [encoder.pop(f"layer{layer}") for layer in range(_layers(encoder))]
    encoder["layers"] = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)
    return {**variables, "params": {**variables["params"], "encoder": encoder}}


def unstack_layers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`stack_layers`; variables without ``layers`` stay as they are."""
    encoder = dict(variables["params"]["encoder"])
    if "layers" not in encoder:
        return dict(variables)
    stacked = jax.tree.map(np.asarray, encoder.pop("layers"))
    for layer in range(len(jax.tree.leaves(stacked)[0])):
        encoder[f"layer{layer}"] = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked)
    return {**variables, "params": {**variables["params"], "encoder": encoder}}


def _layers(encoder: Mapping[str, Any]) -> int:
    return sum(name.startswith("layer") for name in encoder)
