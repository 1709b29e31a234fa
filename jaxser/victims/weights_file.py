"""Files of weights: safetensors, and nothing else.

    state = read_safetensors(Path("model.safetensors"))          # {key: array}
    write_safetensors(state, Path("model.safetensors"))          # with a digest of the arrays
    check_weights(state, "model.safetensors")                    # floats that are finite

A pickle runs whatever code its author put into it, and checkpoints come from strangers. A file of
safetensors is a table of names, shapes and numbers. What exists as a pickle only is converted once
and offline, by ``scripts/convert_to_safetensors.py``.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import atomic_file
from jaxser.runtime.integrity import not_finite
from jaxser.runtime.text import listed, shown_value

__all__ = ["CONVERTER", "check_weights", "read_safetensors", "write_safetensors"]

# What a user with a pickle is told to run.
CONVERTER = "python -m scripts.convert_to_safetensors"

# Where the digest is in the file's own metadata; a program that writes the file anew drops it.
_DIGEST = "jaxser_sha256"

# Types of arrays as safetensors names them; what else there is has less than 16 bits or two parts.
_FLOATS = ("F64", "F32", "F16", "BF16")
_INTEGERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file: floats in float32, and integers, which are counters, as they are.

    Raises:
      InputError: the file is missing or damaged, or its arrays are of a type that is no weight's.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give one of safetensors.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            _check_types(path, file)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            written = (file.metadata() or {}).get(_DIGEST)
    except safetensors.SafetensorError as error:
        raise _unreadable(path, error) from error
    if written is not None and written != _digest(state):
        raise InputError(
            f"{path} is damaged: its arrays are not those that were written (the SHA-256 in its "
            "metadata is another); restore it from a copy, or export it again."
        )
    return {key: _wide(array) for key, array in state.items()}


def write_safetensors(state: Mapping[str, np.ndarray], path: Path | str) -> None:
    """Write arrays as PyTorch's programs read them, with their digest in the metadata.

    Raises:
      OSError: the disk is full, for instance; nothing is then left of it.
    """
    # Without the mark "pt" transformers takes the file for another framework's.
    metadata = {"format": "pt", _DIGEST: _digest(state)}
    with atomic_file(path) as temporary:
        safetensors.numpy.save_file(dict(state), temporary, metadata=metadata)
        _in_one_order(temporary)


def _in_one_order(path: Path) -> None:
    """Metadata comes in an order of chance, so that one state would give several files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(text) == size
        file.seek(8)
        file.write(text)


def check_weights(state: Mapping[str, np.ndarray], where: Path | str) -> None:
    """Refuse what is no weight: integers of a quantised model, NaN and infinities.

    Raises:
      InputError: naming the arrays.
    """
    integers = [
        f"{key} ({array.dtype})"
        for key, array in state.items()
        if array.dtype.kind != "f" and not key.endswith("num_batches_tracked")
    ]
    if integers:
        raise InputError(
            f"{where} holds integers where weights should be, in {listed(integers, most=3)}; it is "
            "a quantised model, which is not supported: use one in float32, float16 or bfloat16."
        )
    strange = not_finite(dict(state))
    if strange:
        raise InputError(
            f"{where} holds values that are not finite in {listed(strange, most=3)}; download it "
            "again, or use another checkpoint."
        )


def _check_types(path: Path, file: Any) -> None:
    types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    strange = [key for key, kind in types.items() if kind not in (*_FLOATS, *_INTEGERS)]
    if strange:
        kinds = Counter(types[key] for key in strange)
        raise InputError(
            f"{path} holds {len(strange):,} arrays of type {listed(sorted(kinds))} (first "
            f"{shown_value(strange[0])}), which is not supported; use a checkpoint in float32, "
            "float16 or bfloat16."
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    with path.open("rb") as raw:
        start = raw.read(32)
    # A header of 640 bytes begins as a pickle of protocol 2 does, but its length ends in zeros.
    if start.startswith(b"PK") or (start.startswith(b"\x80") and any(start[3:8])):
        return InputError(
            f"{path} is a pickle under the name of a safetensors file, which is never read "
            f"here; rename it to pytorch_model.bin and convert it with: {CONVERTER} "
            f"{path.parent}"
        )
    if start.startswith(b"version https://git-lfs"):
        return InputError(
            f"{path} is a pointer of Git LFS, not the weights; fetch them with git lfs pull."
        )
    reason = listed([" ".join(str(error).split())])
    return InputError(
        f"{path} is damaged or was not downloaded completely ({reason}); download it again."
    )


def _digest(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(state):
        array = np.ascontiguousarray(state[key])
        digest.update(f"{key}\0{array.dtype}\0{list(state[key].shape)}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _wide(array: np.ndarray) -> np.ndarray:
    # NumPy's own float16, and bfloat16, which is a foreign type to it.
    if array.dtype.kind in "iub":
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold is named as not finite
        return array.astype(np.float32)
