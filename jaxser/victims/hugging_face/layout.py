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

__all__ = [
    "CONFIG",
    "INDEX",
    "PREPROCESSOR",
    "WEIGHTS",
    "copy_architecture",
    "fetch_from_hub",
    "is_pretrained_folder",
    "read_json",
]

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def is_pretrained_folder(folder: Path | str) -> bool:
    """Whether ``folder`` looks like a checkpoint in Hugging Face's layout."""
    folder = Path(folder)
    return any((folder / name).is_file() for name in (CONFIG, WEIGHTS, INDEX))


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
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again.") from error
    if not isinstance(entries, dict):
        raise InputError(f"{path} holds no JSON object; download it again.")
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
