"""Module and variables of a folder with an image network, with a head for so many emotions.

found = read_image_checkpoint("PATH/TO/levit-256", num_classes=7)
logits = found.module.apply(found.variables, x, train=False)
found.new                                                   # ("emotion head",)
"""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxser.models.layers.dense import emotion_head
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.numerics import seed_key
from jaxser.victims.hugging_face.weights import read_weights
from jaxser.victims.image_checkpoints.architecture import (
    Described,
    description,
    family_of,
    image_module,
)
from jaxser.victims.image_checkpoints.sources import Source, source_of_keys
from jaxser.victims.key_tables.entries import Entry, from_torch
from jaxser.victims.key_tables.vit import NORM_EPS
from jaxser.victims.weights_file import check_weights

__all__ = ["HEAD_KEYS", "ImageCheckpoint", "read_image_checkpoint"]

# Of the linear layer from ImageNet's logits to the emotions; this project alone writes them.
HEAD_KEYS = ("emotion_head.weight", "emotion_head.bias")

# Counters, and indices that older programs saved: what they hold follows from the architecture.
_PASSED_OVER = ("num_batches_tracked", "attention_bias_idxs")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCheckpoint:
    """What a folder holds.

    Attributes:
      module: the architecture, with a head for the emotions.
      variables: its variables, NumPy arrays in float32.
      labels: the emotions of the folder's own head, in index order; None where there is none, or it
        does not name them.
      new: what the folder did not hold and was drawn at random: "emotion head", or nothing.
    """

    module: nn.Module
    variables: dict[str, Any]
    labels: tuple[str, ...] | None
    new: tuple[str, ...] = ()


def read_image_checkpoint(
    folder: Path | str,
    num_classes: int | None = None,
    seed: int = 0,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    **settings: Any,
) -> ImageCheckpoint:
    """The module and variables in ``folder``.

    Args:
      folder: with ``model.safetensors`` and, unless they are torchvision's or timm's keys, a
        ``config.json``: a ViT, CvT or LeViT of transformers, a ViT, VGG16 or LeViT of timm, a ViT,
        VGG16 or AlexNet of torchvision; or what this project wrote of one.
      num_classes: emotions; as many as the folder's own head has by default. A folder without
        such a head, or with one for another number, gets a new one, which is logged.
      seed: of what is new.
      name: the architecture ("levit-256"), where the folder does not say it; where it does, they
        must be of one family.
      labels: the emotions in order, where their number is not all that is known of them. A head
        for others, or for these in another order, gives way to a new one.
      **settings: fields of the module (``dtype``, ``gelu`` ...), over what the folder says.

    Raises:
      InputError: a file is missing or damaged, weights are not finite, the network is none of
        these or has another classifier than ImageNet's; keys that do not fit are named.
      UsageError: unknown setting; ``name`` is of another family; no classes are known.
    """
    folder = Path(folder)
    num_classes = num_classes if labels is None else len(labels)
    described = description(folder)
    state = {
        key: array
        for key, array in read_weights(folder).items()
        if key.rpartition(".")[2] not in _PASSED_OVER
    }
    source = source_of_keys(state, folder)
    _check_family(folder, described, name, source)
    own = all(key in state for key in HEAD_KEYS)
    classes = _number_of_classes(folder, state, num_classes)
    if source.family == "vit" and described is None:
        settings.setdefault("norm_eps", NORM_EPS[source.library])
    module: Any = image_module(folder, classes, name or _name_of(source, state), **settings)
    theirs = None if described is None else described.emotions
    others = None not in (labels, theirs) and tuple(labels or ()) != theirs
    new = not own or others or len(state[HEAD_KEYS[0]]) != classes
    if new:
        state = {key: array for key, array in state.items() if key not in HEAD_KEYS}
    table = source.table(module, head=not new)
    _check_classifier(folder, module, state, table)
    check_weights(state, folder)
    variables = _variables(folder, module, state, table)
    if new:
        head = emotion_head(classes, module.imagenet_classes)
        x = jnp.zeros((1, module.imagenet_classes))
        variables["params"]["head"] = jax.tree.map(
            np.asarray, head.init(seed_key(seed), x)["params"]
        )
        _log.warning("%s: the head for %d emotions is new and untrained.", folder, classes)
    if theirs is not None and not new and len(theirs) != classes:
        raise InputError(
            f"{folder} names {len(theirs)} emotions in config.json and has a head for {classes}; "
            "export it again."
        )
    if new:
        return ImageCheckpoint(module, variables, None, ("emotion head",))
    return ImageCheckpoint(module, variables, theirs)


def _check_family(
    folder: Path, described: Described | None, name: str | None, source: Source
) -> None:
    """Refuse weights of another family than the folder or the user says."""
    if described is not None and family_of(described.name) != source.family:
        raise InputError(
            f"config.json in {folder} describes a {family_of(described.name)} network, but the "
            f"weights are of a {source.family}; download both again."
        )
    if described is None and name is not None and family_of(name) != source.family:
        raise UsageError(
            f"model.checkpoint {folder} holds a {source.family} network, not {name}; give the "
            f"--model.name of a {source.family}."
        )


def _number_of_classes(folder: Path, state: Mapping[str, np.ndarray], wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    if HEAD_KEYS[0] not in state:
        raise UsageError(f"{folder} has no head for emotions; give num_classes.")
    return len(state[HEAD_KEYS[0]])


def _name_of(source: Source, state: Mapping[str, np.ndarray]) -> str:
    """The architecture by the weights alone: LeViTs differ in widths and depths."""
    if source.family == "vit":
        return "vit-b16"
    if source.family != "levit":
        return source.family
    width = len(state.get("stem.conv4.linear.weight", ()))
    shallow = width == 128 and not any(key.startswith("stages.0.blocks.2.") for key in state)
    return (
        f"levit-{width}{'s' if shallow else ''}" if width in (128, 192, 256, 384) else "levit-256"
    )


def _check_classifier(
    folder: Path, module: Any, state: Mapping[str, np.ndarray], table: Sequence[Entry]
) -> None:
    """Refuse a head for other classes, such as ImageNet-21k's, in a sentence of its own."""
    target = ("params", "classifier", "kernel")
    (key,) = next(entry.sources for entry in table if entry.target == target)
    weight = state.get(key)
    if weight is not None and len(weight) != module.imagenet_classes:
        raise InputError(
            f"{folder} has a classifier of {len(weight):,} classes ({key}), not of "
            f"{module.imagenet_classes:,}; use weights that were fine-tuned on ImageNet-1k."
        )


def _variables(
    folder: Path, module: Any, state: Mapping[str, np.ndarray], table: Sequence[Entry]
) -> dict[str, Any]:
    # Tracing takes time by the sizes that a file says, so it is not done for sizes that are none of
    # these weights'.
    if sum(key not in state for entry in table for key in entry.sources) > len(state):
        from_torch(state, table, where=str(folder))
    size = module.image_size
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    try:
        shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the network that {folder} describes cannot be built ({reason}); download it again."
        ) from error
    return from_torch(state, table, shapes=shapes, where=str(folder))
