"""A small model in a folder of Hugging Face's layout, and changes of its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import jaxser
from jaxser.runtime.errors import InputError
from jaxser.victims.hugging_face.layout import CONFIG, WEIGHTS
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.hugging_face.writing import write_pretrained
from scripts.golden_foundation import seeded_batch, seeded_variables, small_model

LABELS = ("anger", "boredom", "disgust", "fear", "joy")
MODEL = small_model("wav2vec2-group-post")


def write(folder: Path) -> None:
    write_pretrained(MODEL, seeded_variables(MODEL), LABELS, folder)


def set_config(folder: Path, drop: tuple[str, ...] = (), **fields: Any) -> None:
    entries = json.loads((folder / CONFIG).read_text()) | fields
    entries = {key: value for key, value in entries.items() if key not in drop}
    (folder / CONFIG).write_text(json.dumps(entries))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    state = safetensors.numpy.load_file(folder / WEIGHTS)
    safetensors.numpy.save_file(change(state), folder / WEIGHTS)


def logits(folder: Path, **options: Any) -> np.ndarray:
    found = read_pretrained(folder, **options)
    return np.asarray(found.module.apply(found.variables, seeded_batch()[0]))


def checked(sentence: str) -> str:
    """One sentence, of a length that can be read."""
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 2500
    return sentence


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        jaxser.load_victim(folder, **options)
    return checked(str(caught.value))


def value_or_sentence(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``read`` gives, or else the sentence that says why it gives nothing."""
    try:
        return read(), None
    except InputError as error:
        return None, checked(str(error))
