"""Lines of a key table, and variables made from a state dict by them, and back.

table = (*linear(("params", "head"), "classifier"), kept(("params", "scale"), "norm.weight"))
variables = from_torch(state, table, shapes=jax.eval_shape(model.init, key, x))
state = to_torch(variables, table)
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import listed

__all__ = [
    "Entry",
    "batch_norm",
    "conv2d",
    "from_torch",
    "kept",
    "linear",
    "linears",
    "lookup",
    "lstm",
    "norm",
    "place",
    "to_torch",
    "torch_parameter_count",
    "transposed",
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


def kept(target: tuple[str, ...], source: str) -> Entry:
    """An array that is laid out alike on both sides."""
    return Entry(target, (source,), lambda a: a, lambda a: (a,))


def transposed(target: tuple[str, ...], source: str) -> Entry:
    """A kernel whose axes PyTorch has the other way round: ``[out, in, ...]``."""
    return Entry(target, (source,), lambda a: a.T, lambda a: (a.T,))


def linear(target: tuple[str, ...], source: str) -> list[Entry]:
    """A ``Linear``."""
    return [
        transposed((*target, "kernel"), f"{source}.weight"),
        kept((*target, "bias"), f"{source}.bias"),
    ]


def linears(target: tuple[str, ...], sources: Sequence[str]) -> list[Entry]:
    """Several layers ``Linear`` there, of one input, and one product here, side by side."""

    def joined(*kernels: np.ndarray) -> np.ndarray:
        return np.concatenate([kernel.T for kernel in kernels], axis=1)

    def apart(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(part.T for part in np.split(kernel, len(sources), axis=1))

    return [
        Entry((*target, "kernel"), tuple(f"{each}.weight" for each in sources), joined, apart),
        Entry(
            (*target, "bias"),
            tuple(f"{each}.bias" for each in sources),
            lambda *biases: np.concatenate(biases),
            lambda bias: tuple(np.split(bias, len(sources))),
        ),
    ]


def conv2d(target: tuple[str, ...], source: str) -> list[Entry]:
    """A ``Conv2d``: its kernel is ``[out, in, rows, columns]`` there."""
    return [
        Entry(
            (*target, "kernel"),
            (f"{source}.weight",),
            lambda a: a.transpose(2, 3, 1, 0),
            lambda a: (a.transpose(3, 2, 0, 1),),
        ),
        kept((*target, "bias"), f"{source}.bias"),
    ]


def norm(target: tuple[str, ...], source: str, prefix: str = "") -> list[Entry]:
    """Scale and bias of a normalisation; ``prefix`` begins their Linen names."""
    return [
        kept((*target, f"{prefix}scale"), f"{source}.weight"),
        kept((*target, f"{prefix}bias"), f"{source}.bias"),
    ]


def batch_norm(path: tuple[str, ...], source: str, prefix: str = "") -> list[Entry]:
    """A batch normalisation at ``path`` of the parameters and of the running statistics."""
    stats = ("batch_stats", *path)
    return [
        *norm(("params", *path), source, prefix),
        kept((*stats, "mean"), f"{source}.running_mean"),
        kept((*stats, "var"), f"{source}.running_var"),
    ]


def lstm(target: tuple[str, ...], source: str, layer: str) -> list[Entry]:
    """One layer (``l0``, ``l0_reverse`` ...) of an ``LSTM``.

    PyTorch adds two biases where one is enough. Their sum has no way back.
    """
    biases = (f"{source}.bias_ih_{layer}", f"{source}.bias_hh_{layer}")
    return [
        transposed((*target, "input_kernel"), f"{source}.weight_ih_{layer}"),
        transposed((*target, "recurrent_kernel"), f"{source}.weight_hh_{layer}"),
        Entry((*target, "bias"), biases, np.add),
    ]


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
      InputError: missing, left over or mis-shaped arrays; they are named, of many the first and
        how many more there are.
    """
    wanted = [key for entry in table for key in entry.sources]
    expected_keys = set(wanted)
    # Faults are gathered, not raised one by one: together they tell which model the weights are of.
    faults = list(faults)
    missing = [f"{key} is missing" for key in wanted if key not in state]
    strange = [
        f"{key} is not part of this model"
        for key in state
        if key not in expected_keys and key.rpartition(".")[2] not in ignored
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
    # Of each kind some: that one family's keys are missing and another's are there says it all.
    kinds = [listed(kind, "; ", most=8) for kind in (faults, missing, strange) if kind]
    if kinds:
        raise InputError(
            f"the weights {f'in {where} ' if where else ''}do not fit the model: "
            f"{'; '.join(kinds)}; "
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
