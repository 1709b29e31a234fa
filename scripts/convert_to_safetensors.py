"""Rewrite a checkpoint that PyTorch pickled as safetensors, once and offline.

    python -m scripts.convert_to_safetensors FOLDER      # pytorch_model*.bin -> model.safetensors
    python -m scripts.convert_to_safetensors vgg16/vgg16-397923af.pth  # -> vgg16/model.safetensors

PyTorch's restricted unpickler reads it: tensors and nothing else, so a file that carries code is
refused. Needs torch.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxser.runtime.errors import InputError, report_errors
from jaxser.runtime.files import atomic_file

__all__ = ["convert", "main"]

PICKLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def convert(folder: Path) -> Path:
    """Write ``model.safetensors`` beside the pickled weights; returns its path.

    Args:
      folder: with ``pytorch_model.bin``, whole or in shards; or a file with a state dict.

    Raises:
      InputError: there are no such weights, or they hold more than tensors.
    """
    import pickle

    import safetensors.torch
    import torch

    if folder.is_file():
        folder, files = folder.parent, [folder.name]
    elif (folder / INDEX).is_file():
        places = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files = sorted({Path(name).name for name in places.values()})
    else:
        files = [PICKLE]
    state = {}
    for name in files:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder} has no {name}; give the folder of a checkpoint.")
        try:
            part = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path} is damaged or holds more than tensors ({reason}); do not use it."
            ) from error
        if not isinstance(part, dict) or not all(
            isinstance(tensor, torch.Tensor) for tensor in part.values()
        ):
            raise InputError(f"{path} is not a state dict of tensors; save the model's own.")
        # Copies: safetensors refuses tensors that share memory.
        state.update({key: tensor.detach().clone().contiguous() for key, tensor in part.items()})
    out = folder / "model.safetensors"
    with atomic_file(out) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, convert, print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.convert_to_safetensors",
        description="Rewrite pickled weights as model.safetensors (tensors only).",
    )
    parser.add_argument(
        "folder", type=Path, help="folder with pytorch_model.bin, or a file with a state dict"
    )
    print(convert(parser.parse_args(argv).folder))
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
