"""Weights of a folder, with the keys that transformers' classes for classification have.

state, faults = canonical(read_weights(folder), "wav2vec2")
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxser.runtime.errors import InputError
from jaxser.victims.hugging_face.layout import INDEX, WEIGHTS, read_json
from jaxser.victims.weights_file import CONVERTER, read_safetensors

__all__ = ["OTHER_HEADS", "OWN_HEAD", "canonical", "read_weights"]

# What checkpoints hold beside the model: heads of pre-training and of speech recognition.
OTHER_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.")
OWN_HEAD = ("projector.", "classifier.", "layer_weights")

# Weight normalisation as PyTorch spelt it before its parametrisations.
_OLD_SPELLINGS = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the folder's safetensors, in float32.

    Raises:
      InputError: files are missing or damaged, or there are pickles only.
    """
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise InputError(f"{folder / INDEX} has no weight_map; download it again.")
        files = sorted({Path(str(name)).name for name in places.values()})
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise InputError(
                f"{folder} lacks {', '.join(absent)} of {len(files)} files that {INDEX} names; "
                "download it again."
            )
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            raise InputError(
                f"{folder} holds weights as a pickle only ({', '.join(pickled)}), which is never "
                f"read here; convert it with: {CONVERTER} {folder}"
            )
        raise InputError(f"{folder} has no {WEIGHTS}; download it again.")
    state: dict[str, np.ndarray] = {}
    for name in files:
        state.update(read_safetensors(folder / name))
    return state


def canonical(
    state: Mapping[str, np.ndarray], base: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Keys as the class with a classification head has them, and those that are there twice.

    Checkpoints differ in spelling: models without a head leave the first part of the keys out, and
    PyTorch changed its names of weight normalisation. The key tables know one spelling, so that
    they can be strict.

    Args:
      state: arrays by key.
      base: the model type, with which the keys of all but the head begin.
    """
    bare = not any(key.startswith(f"{base}.") for key in state)
    named: dict[str, np.ndarray] = {}
    faults = []
    for key, array in state.items():
        name = key
        for old, new in _OLD_SPELLINGS.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if bare and not name.startswith((*OTHER_HEADS, *OWN_HEAD)):
            name = f"{base}.{name}"
        if name in named:
            faults.append(f"{key} is there twice, in two spellings")
        named[name] = array
    return named, faults
