"""The key table of every source of an image victim's weights."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.victims.key_tables import image_cnns, vit
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_images import module_of, seeded_state

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

TABLES: dict[str, Any] = {
    "echim_cnn_lstm": image_cnns.image_cnn_lstm_table,
    "torchvision_alexnet": image_cnns.torchvision_alexnet_table,
    "torchvision_vgg16": image_cnns.torchvision_vgg16_table,
    "timm_vgg16": image_cnns.timm_vgg16_table,
    "torchvision_vit": vit.torchvision_vit_table,
    "timm_vit": vit.timm_vit_table,
    "hugging_face_vit": vit.hugging_face_vit_table,
}


def golden(source: str, kind: str) -> dict[str, np.ndarray]:
    """What PyTorch computed for ``source``, of ``kind`` eval, train or dropped."""
    with np.load(GOLDEN / f"images_{source}.npz") as file:
        prefix = f"{kind}/"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def golden_state(source: str) -> dict[str, np.ndarray]:
    """The weights of the golden file."""
    with np.load(GOLDEN / f"images_{source}.npz") as file:
        return seeded_state(json.loads(str(file["shapes"])))


def variables_of(source: str, module: Any = None) -> Any:
    """The same as variables of the small module."""
    table = TABLES[source](module_of(source) if module is None else module)
    return jax.tree.map(jnp.asarray, from_torch(golden_state(source), table))
