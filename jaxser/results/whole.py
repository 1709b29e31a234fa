"""Rows of windows or chunks as rows of the whole utterances that they are cut from.

    whole = of_whole_utterances(rows, victim.labels)
    print(format_table(summarise(whole)))

The logits of an utterance are the mean of those of its windows, before and after the attack.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jaxser.results.schema import SCHEMA

__all__ = ["are_parts", "of_whole_utterances"]

# What windows of one utterance share if they are of the same attack.
_KEY = (
    *("victim", "victim_fingerprint", "threat", "corpus", "split", "domain", "label_source"),
    *("targeted", "attack", "parameters", "epsilon", "epsilon_unit", "seed", "source"),
)
_MEANS = (
    *("l0", "l1", "l2", "linf", "mean_abs", "sparsity", "snr_peak", "snr_power", "stoi"),
    *("colour_distance", "decibel_change", "dead_gradients", "epsilon_amplitude"),
)
_SUMS = ("steps", "queries", "gradients", "seconds")


def are_parts(rows: pa.Table) -> bool:
    """Whether ``rows`` are of several windows or chunks of an utterance, all with logits."""
    sources, parts = (len(set(rows[name].to_pylist())) for name in ("source", "utterance"))
    return sources < parts and not (rows["logits"].null_count or rows["clean_logits"].null_count)


def of_whole_utterances(rows: pa.Table, labels: Sequence[str]) -> pa.Table:
    """One row for all windows of an utterance under the same attack.

    An attack succeeded where it takes the prediction of the mean logits away from the label (or to
    the target). Sizes of the change are means over the windows, costs are sums; a smallest
    perturbation and a stage belong to windows alone and are left out.

    Args:
      rows: of one victim, with logits.
      labels: its class names in index order.
    """
    keys = zip(*(rows[name].to_pylist() for name in _KEY), strict=True)
    number: dict[Any, int] = {}
    group = np.array([number.setdefault(key, len(number)) for key in keys])
    _, first = np.unique(group, return_index=True)
    names = np.array([*labels, None], dtype=object)
    before = names[_predicted(rows["clean_logits"], group)]
    after = names[_predicted(rows["logits"], group)]
    columns: dict[str, Any] = {name: rows[name].take(first) for name in SCHEMA.names}
    attacked = np.array(columns["attacked_label"].to_pylist(), dtype=object)
    by_prediction = np.array(columns["label_source"].to_pylist()) == "prediction"
    attacked = np.where(by_prediction, before, attacked)
    targeted = np.array(columns["targeted"].to_pylist())
    success = np.where(targeted, after == attacked, after != attacked)
    sums = {name: np.bincount(group, rows[name].to_numpy()) for name in _SUMS}
    columns |= {
        "utterance": columns["source"],
        "clean_prediction": before,
        "prediction": after,
        "attacked_label": attacked,
        "success": success.astype(bool),
        "success_share": success.astype(float),
        "stage": pa.nulls(len(first), pa.string()),
        "found_norm": np.full(len(first), np.nan),
        "flags": _union(rows["flags"], group),
        **{name: _mean_of_defined(rows[name].to_numpy(), group) for name in _MEANS},
        **{
            name: values.astype(columns[name].type.to_pandas_dtype())
            for name, values in sums.items()
        },
    }
    return pa.table(
        [pa.array(columns[n], f.type) if isinstance(columns[n], np.ndarray | list) else columns[n]
         for n, f in zip(SCHEMA.names, SCHEMA, strict=True)],
        schema=SCHEMA,
    )  # fmt: skip


def _predicted(logits: pa.ChunkedArray, group: np.ndarray) -> np.ndarray:
    """Class of each group's mean logits; -1, the place of None, where they are not finite."""
    values = np.array(logits.to_pylist(), np.float64)
    mean = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(mean, group, values)
    return np.where(np.isfinite(mean).all(axis=1), mean.argmax(axis=1), -1)


def _mean_of_defined(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    count = np.bincount(group, defined)
    total = np.bincount(group, np.where(defined, values, 0.0))
    with np.errstate(invalid="ignore"):
        return total / np.where(count > 0, count, np.nan)


def _union(flags: pa.ChunkedArray, group: np.ndarray) -> list[list[str]]:
    found: list[set[str]] = [set() for _ in range(group.max() + 1)]
    for place, names in zip(group, flags.to_pylist(), strict=True):
        found[place].update(names)
    return [sorted(names) for names in found]
