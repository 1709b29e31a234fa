"""Files of a folder in Hugging Face's layout, and how such a folder comes from the hub.

folder = fetch_from_hub("superb/hubert-base-superb-er")
is_pretrained_folder(folder)
read_json(folder / CONFIG)["model_type"]
"""

import json
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import write_text
from jaxser.runtime.text import listed, shown_value

__all__ = [
    "CONFIG",
    "INDEX",
    "PREPROCESSOR",
    "WEIGHTS",
    "copy_architecture",
    "fetch_from_hub",
    "is_pretrained_folder",
    "read_json",
    "stranger",
]

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# The index of a model in a thousand shards has a tenth of it.
_MOST_JSON_BYTES = 1 << 24


# Files by which other programs' models are known, and what to say of them.
_OURS = "a wav2vec 2.0, HuBERT or WavLM model as transformers saves it"
_STRANGERS = {
    "adapter_config.json adapter_model.*": (
        "adapters of PEFT ({}) and no whole model; merge them into their base model "
        "(merge_and_unload, then save_pretrained) and give that folder."
    ),
    "hyperparams.yaml": f"a model of SpeechBrain ({{}}), which is not supported; use {_OURS}.",
    "*.nemo": f"a model of NeMo ({{}}), which is not supported; use {_OURS}.",
    "*.pt *.pth *.ckpt": (
        "a checkpoint of PyTorch, fairseq or Lightning ({}), which is a pickle and never read "
        f"here; convert it with the program that it is of, and give {_OURS}; of torchvision's "
        "networks of images: python -m scripts.convert_to_safetensors FILE."
    ),
    "*.h5 *.msgpack *.onnx": (
        f"weights in another format ({{}}), which is not supported; give {_OURS}, in safetensors."
    ),
}


def is_pretrained_folder(folder: Path | str) -> bool:
    """Whether ``folder`` looks like a checkpoint in Hugging Face's layout."""
    folder = Path(folder)
    return any((folder / name).is_file() for name in (CONFIG, WEIGHTS, INDEX))


def stranger(folder: Path) -> str | None:
    """What another program's model ``folder`` holds, in a sentence; None where nothing says so."""
    for marks, what in _STRANGERS.items():
        found = sorted(path.name for mark in marks.split() for path in folder.glob(mark))
        if found:
            return f"{folder} holds {what.format(listed(found, most=3))}"
    return None


def copy_architecture(folder: Path | str, out: Path | str) -> None:
    """Copy what says how the model in ``folder`` is built, without its weights, to ``out``."""
    for name in (CONFIG, PREPROCESSOR):
        if (Path(folder) / name).is_file():
            write_text(Path(out) / name, (Path(folder) / name).read_text(encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file of the folder holds.

    Raises:
      InputError: the file is missing or damaged, or holds something else.
    """
    if not path.is_file():
        raise InputError(
            f"{path.parent} has no {path.name}, so it is no checkpoint in Hugging Face's layout; "
            "give the folder that holds config.json and model.safetensors."
        )
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size:,} bytes, which is too much for a description of a "
            "model; download it again."
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:  # also of integers that are too long for Python
        reason = listed([" ".join(str(error).split())])
        raise InputError(f"{path} is damaged ({reason}); download it again.") from error
    if not isinstance(entries, dict):
        raise InputError(f"{path} holds no JSON object; download it again.")
    return entries


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown_value(twice)} is there twice")
    return entries


def fetch_from_hub(name: str) -> Path:
    """Folder with the model ``name`` ("superb/hubert-base-superb-er") of the Hugging Face hub.

    It is kept in huggingface_hub's cache and fetched once.

    Raises:
      InputError: there is no such model, or no network.
    """
    import huggingface_hub

    wanted = [CONFIG, PREPROCESSOR, "*.safetensors", INDEX]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # of three libraries, without a common base
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
        raise InputError(
            f"{name} is no folder here and could not be fetched from the Hugging Face hub "
            f"({reason or type(error).__name__}); give a folder, or check the name and the network."
        ) from error
