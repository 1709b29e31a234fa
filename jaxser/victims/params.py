"""Weights of other frameworks into Linen variables, by strict key tables.

    table = conv_lstm_table(blocks=3)
    variables = from_torch({key: tensor.numpy() for key, tensor in state.items()}, table)
    logits = model.apply(jax.tree.map(jnp.asarray, variables), x, train=False)

    state = to_torch(variables, table)                          # and back, where the table can

A table has one line per Linen array: where it goes, which keys it comes from and how they are
laid out there. Every key must be used and every line satisfied, or one error names them all.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxser.runtime.errors import InputError

if TYPE_CHECKING:
    from jaxser.models.transformer.configuration import SpeechConfig

__all__ = [
    "Entry",
    "cnn_lstm_table",
    "conv_lstm_table",
    "from_torch",
    "hubert_table",
    "lookup",
    "place",
    "stack_layers",
    "to_torch",
    "torch_parameter_count",
    "unstack_layers",
    "wav2vec2_table",
    "wave_unet_table",
    "wavlm_table",
]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a key table.

    Attributes:
      target: path of the array in the Linen variables, ``("params", "head", "kernel")``.
      sources: keys of the state dict.
      convert: from the arrays under ``sources`` to the Linen array.
      restore: back from the Linen array to those under ``sources``; None where that is ambiguous.
    """

    target: tuple[str, ...]
    sources: tuple[str, ...]
    convert: Callable[..., np.ndarray]
    restore: Callable[[np.ndarray], tuple[np.ndarray, ...]] | None = None


def _same(a: np.ndarray) -> np.ndarray:
    return a


def _transpose(a: np.ndarray) -> np.ndarray:
    return a.T


def _image_kernel(a: np.ndarray) -> np.ndarray:
    """[out, in, height, width] to [height, width, in, out]."""
    return a.transpose(2, 3, 1, 0)


def conv_lstm_table(blocks: int) -> tuple[Entry, ...]:
    """Key table of a PyTorch ConvLSTM (Emo18: 3 blocks, Zhao19: 4).

    There, ``features`` is a ``Sequential`` of Conv1d, BatchNorm1d, activation and MaxPool1d per
    block, ``lstm`` an ``LSTM`` of two layers, ``head`` a ``Linear``.
    """
    entries = []
    for block in range(blocks):
        params, stats = ("params", f"block{block}"), ("batch_stats", f"block{block}")
        conv, norm = f"features.{4 * block}", f"features.{4 * block + 1}"
        entries += [
            Entry((*params, "kernel"), (f"{conv}.weight",), _transpose),
            Entry((*params, "bias"), (f"{conv}.bias",), _same),
            Entry((*params, "norm_scale"), (f"{norm}.weight",), _same),
            Entry((*params, "norm_bias"), (f"{norm}.bias",), _same),
            Entry((*stats, "mean"), (f"{norm}.running_mean",), _same),
            Entry((*stats, "var"), (f"{norm}.running_var",), _same),
        ]
    for layer in range(2):
        params = ("params", f"lstm{layer}")
        biases = (f"lstm.bias_ih_l{layer}", f"lstm.bias_hh_l{layer}")
        entries += [
            Entry((*params, "input_kernel"), (f"lstm.weight_ih_l{layer}",), _transpose),
            Entry((*params, "recurrent_kernel"), (f"lstm.weight_hh_l{layer}",), _transpose),
            Entry((*params, "bias"), biases, np.add),
        ]
    entries += [
        Entry(("params", "head", "kernel"), ("head.weight",), _transpose),
        Entry(("params", "head", "bias"), ("head.bias",), _same),
    ]
    return tuple(entries)


def cnn_lstm_table(bidirectional: bool = True) -> tuple[Entry, ...]:
    """Key table of a PyTorch CNN-LSTM (``cnn_lstm`` and its relatives).

    There, ``conv0`` to ``conv2`` are Conv2d, ``norm`` a BatchNorm2d, ``lstm`` an ``LSTM`` of one
    layer that reads features in the order (frames, bands, channels), ``head`` a ``Linear``.
    """
    params, stats = ("params", "BatchNorm_0"), ("batch_stats", "BatchNorm_0")
    entries = [
        Entry((*params, "scale"), ("norm.weight",), _same),
        Entry((*params, "bias"), ("norm.bias",), _same),
        Entry((*stats, "mean"), ("norm.running_mean",), _same),
        Entry((*stats, "var"), ("norm.running_var",), _same),
        Entry(("params", "Dense_0", "kernel"), ("head.weight",), _transpose),
        Entry(("params", "Dense_0", "bias"), ("head.bias",), _same),
    ]
    for block in range(3):
        entries += [
            Entry(("params", f"Conv_{block}", "kernel"), (f"conv{block}.weight",), _image_kernel),
            Entry(("params", f"Conv_{block}", "bias"), (f"conv{block}.bias",), _same),
        ]
    directions = {"forward": "l0"} | ({"backward": "l0_reverse"} if bidirectional else {})
    for name, key in directions.items():
        biases = (f"lstm.bias_ih_{key}", f"lstm.bias_hh_{key}")
        entries += [
            Entry(("params", name, "input_kernel"), (f"lstm.weight_ih_{key}",), _transpose),
            Entry(("params", name, "recurrent_kernel"), (f"lstm.weight_hh_{key}",), _transpose),
            Entry(("params", name, "bias"), biases, np.add),
        ]
    return tuple(entries)


# --- speech transformers -------------------------------------------------------------------


def _kept(target: tuple[str, ...], source: str) -> Entry:
    return Entry(target, (source,), _same, lambda a: (a,))


def _transposed(target: tuple[str, ...], source: str) -> Entry:
    return Entry(target, (source,), _transpose, lambda a: (a.T,))


def _linear(target: tuple[str, ...], source: str) -> list[Entry]:
    return [
        _transposed((*target, "kernel"), f"{source}.weight"),
        _kept((*target, "bias"), f"{source}.bias"),
    ]


def _norm(target: tuple[str, ...], source: str) -> list[Entry]:
    return [
        _kept((*target, "scale"), f"{source}.weight"),
        _kept((*target, "bias"), f"{source}.bias"),
    ]


def _side_by_side(*kernels: np.ndarray) -> np.ndarray:
    return np.concatenate([kernel.T for kernel in kernels], axis=1)


def _three_kernels(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(part.T for part in np.split(kernel, 3, axis=1))


def _end_to_end(*biases: np.ndarray) -> np.ndarray:
    return np.concatenate(biases)


def _three_biases(bias: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.split(bias, 3))


def wav2vec2_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' Wav2Vec2ForSequenceClassification."""
    return _speech_transformer_table(config)


def hubert_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' HubertForSequenceClassification."""
    return _speech_transformer_table(config)


def wavlm_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    """Key table of transformers' WavLMForSequenceClassification: also the relative positions."""
    embedding = "wavlm.encoder.layers.0.attention.rel_attn_embed.weight"
    entries = [_kept(("params", "encoder", "shared", "embedding"), embedding)]
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
            _transposed((*here, "gate_kernel"), f"{there}.gru_rel_pos_linear.weight"),
            _kept((*here, "gate_bias"), f"{there}.gru_rel_pos_linear.bias"),
        ]
    return _speech_transformer_table(config) + tuple(entries)


def _speech_transformer_table(config: "SpeechConfig") -> tuple[Entry, ...]:
    base = config.model_type
    return (
        *_feature_encoder_entries(config, f"{base}.feature_extractor.conv_layers"),
        *_feature_projection_entries(config, f"{base}.feature_projection"),
        *_encoder_entries(config, f"{base}.encoder"),
        *([_kept(("params", "masked_frame"), f"{base}.masked_spec_embed")] if config.masks else []),
        *_head_entries(config),
    )


def _feature_encoder_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "feature_encoder")
    entries = []
    for layer in range(len(config.conv_dim)):
        there = f"{source}.{layer}"
        entries.append(_transposed((*here, f"kernel{layer}"), f"{there}.conv.weight"))
        if config.conv_bias:
            entries.append(_kept((*here, f"bias{layer}"), f"{there}.conv.bias"))
        if layer == 0 or config.feat_extract_norm == "layer":
            entries += [
                _kept((*here, f"norm{layer}_scale"), f"{there}.layer_norm.weight"),
                _kept((*here, f"norm{layer}_bias"), f"{there}.layer_norm.bias"),
            ]
    return entries


def _feature_projection_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "feature_projection")
    entries = _linear((*here, "projection"), f"{source}.projection")
    if config.feat_proj_layer_norm:
        entries += _norm((*here, "norm"), f"{source}.layer_norm")
    return entries


def _encoder_entries(config: "SpeechConfig", source: str) -> list[Entry]:
    here = ("params", "encoder")
    entries = _norm((*here, "norm"), f"{source}.layer_norm")
    position, there = (*here, "position"), f"{source}.pos_conv_embed"
    entries.append(_kept((*position, "bias"), f"{there}.conv.bias"))
    if config.conv_pos_batch_norm:
        stats = ("batch_stats", "encoder", "position")
        entries += [
            _transposed((*position, "kernel"), f"{there}.conv.weight"),
            _kept((*position, "norm_scale"), f"{there}.batch_norm.weight"),
            _kept((*position, "norm_bias"), f"{there}.batch_norm.bias"),
            _kept((*stats, "mean"), f"{there}.batch_norm.running_mean"),
            _kept((*stats, "var"), f"{there}.batch_norm.running_var"),
        ]
    else:
        weight = f"{there}.conv.parametrizations.weight"
        entries += [
            Entry(
                (*position, "gain"),
                (f"{weight}.original0",),
                np.ravel,
                lambda a: (a.reshape(1, 1, -1),),
            ),
            _transposed((*position, "direction"), f"{weight}.original1"),
        ]
    for layer in range(config.num_hidden_layers):
        block, there = (*here, f"layer{layer}"), f"{source}.layers.{layer}"
        projections = [f"{there}.attention.{part}_proj" for part in "qkv"]
        entries += [
            Entry(
                (*block, "attention", "qkv", "kernel"),
                tuple(f"{each}.weight" for each in projections),
                _side_by_side,
                _three_kernels,
            ),
            Entry(
                (*block, "attention", "qkv", "bias"),
                tuple(f"{each}.bias" for each in projections),
                _end_to_end,
                _three_biases,
            ),
            *_linear((*block, "attention", "out"), f"{there}.attention.out_proj"),
            *_norm((*block, "attention_norm"), f"{there}.layer_norm"),
            *_linear((*block, "intermediate"), f"{there}.feed_forward.intermediate_dense"),
            *_linear((*block, "output"), f"{there}.feed_forward.output_dense"),
            *_norm((*block, "norm"), f"{there}.final_layer_norm"),
        ]
    return entries


def _head_entries(config: "SpeechConfig") -> list[Entry]:
    here = ("params", "head")
    entries = _linear((*here, "projector"), "projector") + _linear(
        (*here, "classifier"), "classifier"
    )
    if config.use_weighted_layer_sum:
        entries.append(_kept((*here, "layer_weights"), "layer_weights"))
    return entries


# --- generator -----------------------------------------------------------------------------


def wave_unet_table(levels: int = 6) -> tuple[Entry, ...]:
    """Key table of STAA-Net's generator with ``levels`` widths, as its authors published it.

    There, blocks of the decoders count from the bottleneck, ``upsampling_blocks`` make the
    locations and ``upsampling_blocks2`` the magnitudes.
    """
    base, entries = "waveunets.ALL", []
    for level in range(levels - 1):
        there = f"{base}.downsampling_blocks.{level}"
        entries += [
            *_conv_norm(("params", f"before{level}"), f"{there}.pre_shortcut_convs.0"),
            *_conv_norm(("params", f"after{level}"), f"{there}.post_shortcut_convs.0"),
            *_conv_norm(("params", f"down{level}"), f"{there}.downconv"),
        ]
    for decoder, suffix in (("locations", ""), ("magnitudes", "2")):
        here = ("params", decoder)
        entries += _conv_norm((*here, "bottleneck"), f"{base}.bottlenecks{suffix}.0")
        for level in range(levels - 1):
            there = f"{base}.upsampling_blocks{suffix}.{levels - 2 - level}"
            entries += [
                *_conv_norm((*here, f"up{level}"), f"{there}.upconv", transposed=True),
                *_conv_norm((*here, f"before{level}"), f"{there}.pre_shortcut_convs.0"),
                *_conv_norm((*here, f"after{level}"), f"{there}.post_shortcut_convs.0"),
            ]
        there = f"{base}.output_conv{suffix}"
        entries += [
            Entry((*here, "kernel"), (f"{there}.weight",), _pointwise, lambda a: (a.T[..., None],)),
            _kept((*here, "bias"), f"{there}.bias"),
        ]
    return tuple(entries)


def _pointwise(a: np.ndarray) -> np.ndarray:
    """[out, in, 1] to [in, out]."""
    return a.squeeze(2).T


def _conv_norm(target: tuple[str, ...], source: str, transposed: bool = False) -> list[Entry]:
    # [in, out, size] of a transposed convolution, [out, in, size] of others.
    kernel = (*target, "kernel"), (f"{source}.filter.weight",)
    return [
        Entry(*kernel, lambda a: a.transpose(2, 0, 1), lambda a: (a.transpose(1, 2, 0),))
        if transposed
        else _transposed(kernel[0], kernel[1][0]),
        _kept((*target, "bias"), f"{source}.filter.bias"),
        _kept((*target, "norm_scale"), f"{source}.norm.weight"),
        _kept((*target, "norm_bias"), f"{source}.norm.bias"),
    ]


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


# --- from and to a state dict --------------------------------------------------------------


def from_torch(
    state: Mapping[str, np.ndarray],
    table: Sequence[Entry],
    *,
    shapes: Any = None,
    ignored: Sequence[str] = ("num_batches_tracked",),
    faults: Sequence[str] = (),
    where: str = "",
) -> dict[str, Any]:
    """Linen variables from a state dict.

    Args:
      state: arrays by key.
      table: the architecture's key table.
      shapes: variables of the model (or ``jax.eval_shape`` of its ``init``) to check against.
      ignored: last parts of keys that may be left over.
      faults: what is already known to be wrong.
      where: the file or folder, for the message.

    Raises:
      InputError: missing, left over or mis-shaped arrays; all of them are named.
    """
    wanted = [key for entry in table for key in entry.sources]
    faults = list(faults)
    faults += [f"{key} is missing" for key in wanted if key not in state]
    faults += [
        f"{key} is not part of this model"
        for key in state
        if key not in set(wanted) and key.rpartition(".")[2] not in ignored
    ]
    variables: dict[str, Any] = {}
    for entry in table:
        if not all(key in state for key in entry.sources):
            continue
        arrays = [np.asarray(state[key]) for key in entry.sources]
        if len({a.shape for a in arrays}) > 1:
            faults.append(f"{' and '.join(entry.sources)} differ in shape")
            continue
        try:
            array = entry.convert(*arrays)
        except ValueError:
            faults.append(f"{' + '.join(entry.sources)} cannot be {arrays[0].shape}")
            continue
        place(variables, entry.target, np.ascontiguousarray(array))
        if shapes is not None:
            expected = lookup(shapes, entry.target).shape
            if array.shape != expected:
                faults.append(f"{' + '.join(entry.sources)} gives {array.shape}, not {expected}")
    if faults:
        raise InputError(
            f"the weights {f'in {where} ' if where else ''}do not fit the model: "
            f"{'; '.join(faults)}; "
            "use a checkpoint of the same architecture and number of classes."
        )
    return variables


def to_torch(variables: Mapping[str, Any], table: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The state dict that ``table`` makes ``variables`` of: the inverse of :func:`from_torch`."""
    state: dict[str, np.ndarray] = {}
    for entry in table:
        assert entry.restore is not None, f"{entry.target} has no way back"
        arrays = entry.restore(np.asarray(lookup(variables, entry.target)))
        state.update(zip(entry.sources, map(np.ascontiguousarray, arrays), strict=True))
    return state


def lookup(tree: Any, path: Sequence[str]) -> Any:
    """What nested mappings hold at ``path``."""
    for part in path:
        tree = tree[part]
    return tree


def place(tree: dict[str, Any], path: Sequence[str], leaf: Any) -> None:
    """Put ``leaf`` into nested dicts at ``path``, making those that are missing."""
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = leaf


def torch_parameter_count(variables: Mapping[str, Any]) -> int:
    """Number of trained parameters as PyTorch counts them: an LSTM layer has two biases there."""
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    count = 0
    for path, leaf in leaves:
        name = path[-1].key
        lstm_bias = name == "bias" and "recurrent_kernel" in lookup(
            variables["params"], [part.key for part in path[:-1]]
        )
        count += int(np.prod(leaf.shape)) * (2 if lstm_bias else 1)
    return count
