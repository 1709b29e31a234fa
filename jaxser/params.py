"""Weights of other frameworks into Linen variables, by strict key tables.

    table = conv_lstm_table(blocks=3)
    variables = from_torch({key: tensor.numpy() for key, tensor in state.items()}, table)
    logits = model.apply(jax.tree.map(jnp.asarray, variables), x, train=False)

A table has one line per Linen array: where it goes, which keys it comes from and how they are
laid out there. Every key must be used and every line satisfied, or one error names them all.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxser.errors import InputError

__all__ = ["Entry", "cnn_lstm_table", "conv_lstm_table", "from_torch", "torch_parameter_count"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a key table.

    Attributes:
      target: path of the array in the Linen variables, ``("params", "head", "kernel")``.
      sources: keys of the state dict.
      convert: from the arrays under ``sources`` to the Linen array.
    """

    target: tuple[str, ...]
    sources: tuple[str, ...]
    convert: Callable[..., np.ndarray]


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


def from_torch(
    state: Mapping[str, np.ndarray],
    table: Sequence[Entry],
    *,
    shapes: Any = None,
    ignored: Sequence[str] = ("num_batches_tracked",),
) -> dict[str, Any]:
    """Linen variables from a state dict.

    Args:
      state: arrays by key.
      table: the architecture's key table.
      shapes: variables of the model (or ``jax.eval_shape`` of its ``init``) to check against.
      ignored: last parts of keys that may be left over.

    Raises:
      InputError: missing, left over or mis-shaped arrays; all of them are named.
    """
    wanted = [key for entry in table for key in entry.sources]
    faults = [f"{key} is missing" for key in wanted if key not in state]
    faults += [
        f"{key} is not part of this model"
        for key in state
        if key not in set(wanted) and key.rpartition(".")[2] not in ignored
    ]
    variables: dict[str, Any] = {}
    for entry in table:
        if not all(key in state for key in entry.sources):
            continue
        folder = variables
        for part in entry.target[:-1]:
            folder = folder.setdefault(part, {})
        arrays = [np.asarray(state[key]) for key in entry.sources]
        if len({a.shape for a in arrays}) > 1:
            faults.append(f"{' and '.join(entry.sources)} differ in shape")
            continue
        array = entry.convert(*arrays)
        folder[entry.target[-1]] = np.ascontiguousarray(array)
        if shapes is not None:
            expected = _lookup(shapes, entry.target).shape
            if array.shape != expected:
                faults.append(f"{' + '.join(entry.sources)} gives {array.shape}, not {expected}")
    if faults:
        raise InputError(
            f"the weights do not fit the model: {'; '.join(faults)}; "
            "use a checkpoint of the same architecture and number of classes."
        )
    return variables


def _lookup(tree: Any, path: Sequence[str]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def torch_parameter_count(variables: Mapping[str, Any]) -> int:
    """Number of trained parameters as PyTorch counts them: an LSTM layer has two biases there."""
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    count = 0
    for path, leaf in leaves:
        name = path[-1].key
        lstm_bias = name == "bias" and "recurrent_kernel" in _lookup(
            variables["params"], [part.key for part in path[:-1]]
        )
        count += int(np.prod(leaf.shape)) * (2 if lstm_bias else 1)
    return count
