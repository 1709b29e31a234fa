"""Files of weights: safetensors, and nothing else.

    state = read_safetensors(Path("model.safetensors"))          # {key: array}

A pickle runs whatever code its author put into it, and checkpoints come from strangers. A file of
safetensors is a table of names, shapes and numbers. What exists as a pickle only is converted once
and offline, by ``scripts/convert_to_safetensors.py``.
"""

from pathlib import Path

import numpy as np
import safetensors

from jaxser.runtime.errors import InputError

__all__ = ["CONVERTER", "read_safetensors"]

# What a user with a pickle is told to run.
CONVERTER = "python -m scripts.convert_to_safetensors"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, in float32; InputError for one that is missing or damaged."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; give one of safetensors.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {key: _wide(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        with path.open("rb") as raw:
            start = raw.read(32)
        if start.startswith((b"PK", b"\x80")):
            raise InputError(
                f"{path} is a pickle under the name of a safetensors file, which is never read "
                f"here; rename it to pytorch_model.bin and convert it with: {CONVERTER} "
                f"{path.parent}"
            ) from error
        if start.startswith(b"version https://git-lfs"):
            raise InputError(
                f"{path} is a pointer of Git LFS, not the weights; fetch them with git lfs pull."
            ) from error
        raise InputError(
            f"{path} is damaged or was not downloaded completely ({error}); download it again."
        ) from error


def _wide(array: np.ndarray) -> np.ndarray:
    # NumPy's own float16, and bfloat16, which is a foreign type to it. Integers stay: they are no
    # weights, but counters and indices.
    return array if array.dtype.kind in "iub" else array.astype(np.float32)
