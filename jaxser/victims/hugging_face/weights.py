"""Weights of a folder, with the keys that transformers' classes for classification have.

state, faults = canonical(read_weights(folder), "wav2vec2")
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import listed
from jaxser.victims.hugging_face.architecture import FAMILIES
from jaxser.victims.hugging_face.layout import INDEX, WEIGHTS, read_json, stranger
from jaxser.victims.weights_file import CONVERTER, read_safetensors

__all__ = ["OTHER_HEADS", "OWN_HEAD", "canonical", "read_weights"]

# What checkpoints hold beside the model: heads of pre-training and of speech recognition.
OTHER_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.")
OWN_HEAD = ("projector.", "classifier.", "layer_weights")

# A layer that every model of these families has, and where it is in one without a head.
_FIRST_LAYER = "feature_extractor.conv_layers.0.conv.weight"

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
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the one that holds {WEIGHTS}.")
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise InputError(f"{folder / INDEX} has no weight_map; download it again.")
        files = sorted({Path(str(name)).name for name in places.values()})
        if not files:
            raise InputError(f"{folder / INDEX} names no files; download it again.")
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise InputError(
                f"{folder} lacks {listed(absent, most=3)} of {len(files)} files that {INDEX} "
                "names; download it again."
            )
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            raise InputError(
                f"{folder} holds weights as a pickle only ({listed(pickled, most=3)}), which is "
                f"never read here; convert it with: {CONVERTER} {folder}"
            )
        raise InputError(stranger(folder) or f"{folder} has no {WEIGHTS}; download it again.")
    state: dict[str, np.ndarray] = {}
    for name in files:
        part = read_safetensors(folder / name)
        twice = [key for key in part if key in state]
        if twice:
            raise InputError(
                f"{folder / name} holds {listed(twice, most=3)}, which another file of the model "
                "holds as well; download it again."
            )
        state.update(part)
    return state


def canonical(
    state: Mapping[str, np.ndarray], base: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Keys as the class with a classification head has them, and those that are there twice.

    Checkpoints differ in spelling: models without a head leave the first part of the keys out,
    PyTorch changed its names of weight normalisation, and programs for training wrap the model
    (``module.``, ``model.``). The key tables know one spelling, so that they can be strict.

    Args:
      state: arrays by key.
      base: the model type, with which the keys of all but the head begin.
    """
    wrapper = _wrapper(state, base)
    bare = not any(key.startswith(f"{wrapper}{base}.") for key in state)
    named: dict[str, np.ndarray] = {}
    faults = []
    for key, array in state.items():
        name = key.removeprefix(wrapper)
        for old, new in _OLD_SPELLINGS.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if bare and not name.startswith((*OTHER_HEADS, *OWN_HEAD)):
            name = f"{base}.{name}"
        if name in named:
            faults.append(f"{key} is there twice, in two spellings")
        named[name] = array
    return named, faults


def _wrapper(state: Mapping[str, np.ndarray], base: str) -> str:
    """What a program has put before all keys of the model: "module.", or nothing."""
    for key in state:
        if key.endswith(_FIRST_LAYER):
            before = key.removesuffix(_FIRST_LAYER)
            *outer, inner = ["", *before.split(".")[:-1]]
            if inner == base:
                return "".join(f"{part}." for part in outer[1:])
            # Another family's keys are no wrapper: its weights would fit, and give other logits.
            return "" if inner in FAMILIES else before
    return ""
