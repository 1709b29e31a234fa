"""Columns of text as integer codes with a list of names, so that a million rows take seconds.

    codes, names = codes_of(table["victim"])            # a code per row, -1 for null
    key = numbered(("victim", "epsilon"), {"victim": (codes, names)}, {"epsilon": epsilon})

A column of a million Python strings takes tens of megabytes and a comparison of strings for every
row; there are few different names, and codes compare as integers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

__all__ = ["Coded", "codes_of", "numbered"]

# Code of every row, -1 for null, and what the codes stand for.
Coded = tuple[Int[np.ndarray, " rows"], tuple[str, ...]]


def codes_of(column: pa.ChunkedArray) -> Coded:
    """Code of every row, -1 for null, and what the codes stand for."""
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, tuple(encoded.dictionary.to_pylist())


def numbered(
    columns: Sequence[str],
    coded: Mapping[str, Coded],
    numbers: Mapping[str, Float[np.ndarray, " rows"]],
) -> Int[np.ndarray, " rows"]:
    """A number per row, the same for rows that agree in all columns."""
    key = np.zeros(len(numbers["epsilon"]), np.int64)
    bound = 1
    for column in columns:
        if column in coded:
            # Null, -1, is a value like others.
            codes, size = coded[column][0] + 1, len(coded[column][1]) + 1
        else:
            values, codes = np.unique(numbers[column], return_inverse=True)
            size = len(values)
        if bound > np.iinfo(np.int64).max // size:
            # Renumbered where the product of the sizes would overflow: there are no more different
            # keys than rows.
            values, key = np.unique(key, return_inverse=True)
            bound = len(values)
        key, bound = key * size + codes, bound * size
    return key
