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
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.numerics import seed_key
from jaxser.runtime.text import listed, shown_value
from jaxser.victims.hugging_face.architecture import (
    FAMILIES,
    configuration,
    says_head,
    with_settings,
)
from jaxser.victims.hugging_face.fields import class_names, names_fault
from jaxser.victims.hugging_face.fields import field as read_field
from jaxser.victims.hugging_face.layout import CONFIG, read_json
from jaxser.victims.hugging_face.weights import OTHER_HEADS, OWN_HEAD, canonical, read_weights
from jaxser.victims.key_tables.entries import Entry, from_torch, lookup, place
from jaxser.victims.key_tables.speech_transformer import stack_layers
from jaxser.victims.weights_file import check_weights

__all__ = ["Pretrained", "read_pretrained"]

_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
_MOST_CLASSES = 100_000

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
      notes: what else to know of it.
    """

    module: SpeechTransformer
    variables: dict[str, Any]
    labels: tuple[str, ...]
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
        classifier, which is logged; so does a head that gives no classes but values
        (``problem_type`` regression), which needs labels.
      seed: of what is new.
      **settings: fields of the module (``dtype``, ``scan_layers`` ...) or of its configuration
        (``layerdrop`` ...).

    Raises:
      InputError: a file is missing or damaged, weights are not finite, or the model is none of
        these; keys that do not fit are named.
      UsageError: unknown setting, or labels that name no classes.
    """
    folder = Path(folder)
    entries = read_json(folder / CONFIG)
    config = configuration(folder, entries)
    family = FAMILIES[config.model_type]
    config, settings = with_settings(config, family.module, settings)
    says = says_head(folder, entries, family)
    kind = _kind_of_outputs(folder, entries)
    theirs = class_names(entries, folder / CONFIG)
    state, faults = canonical(read_weights(folder), config.model_type)
    # The weights decide: a file that says nothing of a head must not cost a trained one.
    headed = says or any(key.startswith(OWN_HEAD) for key in state)
    if headed and theirs is None:
        theirs = _unnamed(state, labels)
    names = _chosen_labels(folder, labels, theirs)
    if headed and labels is None:
        _check_classes(folder, kind, names)
    new: dict[str, tuple[str, ...]] = {}
    if not headed:
        new["classification head"] = OWN_HEAD
    elif names != theirs or kind == "regression" or len(theirs) == 1:
        new["classifier"] = ("classifier.",)
    embedding = f"{config.model_type}.masked_spec_embed"
    if config.masks and embedding not in state:
        new["mask embedding"] = (embedding,)

    drawn = tuple(prefix for prefixes in new.values() for prefix in prefixes)
    others = (*OTHER_HEADS, *drawn, *(() if config.masks else (embedding,)))
    state = {key: array for key, array in state.items() if not key.startswith(others)}
    check_weights(state, folder)
    module = family.module(num_classes=len(names), config=config, **settings)
    variables = _variables(module, family.table(config), state, drawn, seed, faults, folder)
    if new:
        _log.warning(
            "%s: the %s for %d classes is new and untrained.",
            folder,
            " and the ".join(new),
            len(names),
        )
    several = headed and kind == "multi_label_classification" and "classifier" not in new
    notes = ("was trained to give several labels at once",) if several else ()
    return Pretrained(module, variables, names, tuple(new), notes)


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
    fresh = [entry for entry in table if drawn and entry.sources[0].startswith(drawn)]
    known = [entry for entry in table if not drawn or not entry.sources[0].startswith(drawn)]
    # Tracing takes time and memory by the sizes that the file says, so it is not done for sizes
    # that are none of these weights'.
    missing = sum(key not in state for entry in known for key in entry.sources)
    if missing > len(state):
        from_torch(state, known, faults=faults, where=str(folder))
    shapes = jax.eval_shape(plain.init, jax.random.key(0), x)
    variables = from_torch(state, known, shapes=shapes, faults=faults, where=str(folder))

    @jax.jit
    def draw(key: Array) -> list[Array]:
        initial = plain.init(key, x)
        return [lookup(initial, entry.target) for entry in fresh]

    if fresh:
        for entry, array in zip(fresh, draw(seed_key(seed)), strict=True):
            place(variables, entry.target, np.asarray(array))
    return stack_layers(variables) if module.scan_layers else variables


def _kind_of_outputs(folder: Path, entries: Mapping[str, Any]) -> str | None:
    """What ``problem_type`` says that the head gives."""
    kind: str | None = read_field(entries, "problem_type", str | None, folder / CONFIG)
    if kind is not None and kind not in _PROBLEM_TYPES:
        raise InputError(
            f"problem_type in {folder / CONFIG} is {shown_value(kind)}, not one of "
            f"{', '.join(_PROBLEM_TYPES)}; correct it."
        )
    return kind


def _check_classes(folder: Path, kind: str | None, names: tuple[str, ...]) -> None:
    """Refuse a head whose outputs are values, such as arousal and valence."""
    if kind == "regression" or len(names) == 1:
        why = f"problem_type regression in {CONFIG}" if kind == "regression" else "it has one"
        raise InputError(
            f"the outputs of {folder} ({listed(names, most=5)}) are values and no classes ({why}), "
            "so there is no label to predict; use a classifier, or give the labels of your classes "
            "and train a new one."
        )


def _unnamed(
    state: Mapping[str, np.ndarray], wanted: Sequence[str] | int | None
) -> tuple[str, ...]:
    """Labels of a trained classifier that the file does not name: those given, if as many."""
    weight = state.get("classifier.weight")
    # Two are transformers' own default; a weight of another form is refused with the others.
    count = len(weight) if weight is not None and weight.ndim else 2
    if wanted is not None and not isinstance(wanted, int) and len(wanted) == count:
        return tuple(wanted)
    return _numbered(count)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(count))


def _chosen_labels(
    folder: Path,
    wanted: Sequence[str] | int | None,
    theirs: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """The labels of the victim; the checkpoint's names give way to those that are wanted."""
    if wanted is None:
        if theirs is None:
            raise InputError(
                f"{folder} has neither a classification head nor labels (id2label in {CONFIG}); "
                "give the labels of your classes."
            )
        return theirs
    if isinstance(wanted, int):
        if not 2 <= wanted <= _MOST_CLASSES:
            raise UsageError(f"labels must be from 2 to {_MOST_CLASSES:,} classes, not {wanted}.")
        return theirs if theirs is not None and len(theirs) == wanted else _numbered(wanted)
    names = tuple(wanted)
    fault = names_fault(names)
    if fault is not None or not names:
        raise UsageError(f"the labels given are none or wrong: {fault or 'an empty list'}.")
    return names
