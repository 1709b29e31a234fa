"""Module and variables of a folder in Hugging Face's layout, with a head for the labels asked for.

found = read_pretrained("PATH/TO/wav2vec2-base-superb-er", labels=("anger", "joy"))
logits = found.module.apply(found.variables, x)
found.new                                                   # ("classifier",)
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.runtime.errors import InputError
from jaxser.runtime.numerics import seed_key
from jaxser.victims.hugging_face.architecture import (
    FAMILIES,
    configuration,
    has_head,
    with_settings,
)
from jaxser.victims.hugging_face.layout import CONFIG, read_json
from jaxser.victims.hugging_face.weights import OTHER_HEADS, OWN_HEAD, canonical, read_weights
from jaxser.victims.key_tables.entries import Entry, from_torch, lookup, place
from jaxser.victims.key_tables.speech_transformer import stack_layers

__all__ = ["Pretrained", "read_pretrained"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """What a folder holds.

    Attributes:
      module: the architecture, with a head for the labels.
      variables: its variables, NumPy arrays in float32.
      labels: class names in index order.
      new: what the folder did not hold and was drawn at random: "classification head",
        "classifier" or "mask embedding".
    """

    module: SpeechTransformer
    variables: dict[str, Any]
    labels: tuple[str, ...]
    new: tuple[str, ...] = ()


def read_pretrained(
    folder: Path | str,
    labels: Sequence[str] | int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Pretrained:
    """The module and variables in ``folder``.

    Args:
      folder: with ``config.json`` and safetensors of a wav2vec 2.0, HuBERT or WavLM model: with a
        head for classification, for pre-training or for CTC, or with none.
      labels: class names, or how many classes; those of ``id2label`` by default. Other labels
        than the checkpoint's, and a checkpoint without a classification head, make a new
        classifier, which is logged.
      seed: of what is new.
      **settings: fields of the module (``dtype``, ``scan_layers`` ...) or of its configuration
        (``layerdrop`` ...).

    Raises:
      InputError: a file is missing or damaged, or the model is none of these; all keys that do not
        fit are named.
      UsageError: unknown setting.
    """
    folder = Path(folder)
    entries = read_json(folder / CONFIG)
    config = configuration(folder, entries)
    family = FAMILIES[config.model_type]
    config, settings = with_settings(config, family.module, settings)
    headed = has_head(folder, entries, family)
    state = read_weights(folder)
    state, faults = canonical(state, config.model_type)

    theirs = _id2label(folder, entries)
    names = _chosen_labels(folder, labels, theirs, headed)
    new: dict[str, tuple[str, ...]] = {}
    if not headed:
        new["classification head"] = OWN_HEAD
    elif theirs is not None and names != theirs:
        new["classifier"] = ("classifier.",)
    embedding = f"{config.model_type}.masked_spec_embed"
    if config.masks and embedding not in state:
        new["mask embedding"] = (embedding,)

    drawn = tuple(prefix for prefixes in new.values() for prefix in prefixes)
    others = (*OTHER_HEADS, *drawn, *(() if config.masks else (embedding,)))
    state = {key: array for key, array in state.items() if not key.startswith(others)}
    module = family.module(num_classes=len(names), config=config, **settings)
    variables = _variables(module, family.table(config), state, drawn, seed, faults, folder)
    if new:
        _log.warning(
            "%s: the %s for %d classes is new and untrained.",
            folder,
            " and the ".join(new),
            len(names),
        )
    return Pretrained(module, variables, names, tuple(new))


def _variables(
    module: SpeechTransformer,
    table: Sequence[Entry],
    state: Mapping[str, np.ndarray],
    drawn: tuple[str, ...],
    seed: int,
    faults: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Variables from ``state``, and at random where a source begins with one of ``drawn``."""
    plain = module.clone(scan_layers=False, attention="xla")
    x = jnp.zeros((1, module.config.shortest_input()))
    shapes = jax.eval_shape(plain.init, jax.random.key(0), x)
    fresh = [entry for entry in table if drawn and entry.sources[0].startswith(drawn)]
    known = [entry for entry in table if entry not in fresh]
    variables = from_torch(state, known, shapes=shapes, faults=faults, where=str(folder))

    @jax.jit
    def draw(key: Array) -> list[Array]:
        initial = plain.init(key, x)
        return [lookup(initial, entry.target) for entry in fresh]

    if fresh:
        for entry, array in zip(fresh, draw(seed_key(seed)), strict=True):
            place(variables, entry.target, np.asarray(array))
    return stack_layers(variables) if module.scan_layers else variables


def _id2label(folder: Path, entries: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names in index order; None where the file names none."""
    labels = entries.get("id2label")
    if not isinstance(labels, dict) or not labels:
        return None
    try:
        by_index = {int(index): str(label) for index, label in labels.items()}
    except ValueError:
        by_index = {}
    if sorted(by_index) != list(range(len(labels))):
        raise InputError(
            f"id2label in {folder / CONFIG} does not number its {len(labels)} labels from 0; "
            "correct it."
        )
    return tuple(by_index[index] for index in range(len(by_index)))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(count))


def _chosen_labels(
    folder: Path,
    wanted: Sequence[str] | int | None,
    theirs: tuple[str, ...] | None,
    has_head: bool,
) -> tuple[str, ...]:
    """The labels of the victim; the checkpoint's names give way to those that are wanted."""
    if wanted is None:
        if theirs is None and has_head:
            theirs = _numbered(2)  # transformers' own default, which it does not write
        if theirs is None:
            raise InputError(
                f"{folder} has neither a classification head nor labels (id2label in {CONFIG}); "
                "give the labels of your classes."
            )
        return theirs
    if isinstance(wanted, int):
        return theirs if theirs is not None and len(theirs) == wanted else _numbered(wanted)
    return tuple(wanted)
