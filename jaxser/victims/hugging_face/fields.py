"""Fields of a folder's JSON files, each read by its type: what a file says is not what is there.

kind = field(entries, "model_type", str, folder / CONFIG)
labels = class_names(entries, folder / CONFIG)              # None where the file names none
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.text import listed, shown_value

__all__ = ["class_names", "field", "names_fault"]


def field(entries: Mapping[str, Any], name: str, kind: Any, file: Path) -> Any:
    """The value of a field, of the type ``kind``; None where it is not there.

    JSON has one kind of number and no tuples: an integer does for a float, and a list for a tuple.
    Nothing else is converted: "768" is no integer, 1 is not true, and null is no string.

    Raises:
      InputError: it is of another type.
    """
    if name not in entries:
        return None
    # Networks that are built and written, not read, do without it.
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(json.dumps(entries[name]), strict=True)
    except ValidationError as error:
        reason = listed([" ".join(str(error.errors()[0]["msg"]).split())])
        raise InputError(
            f"{name} in {file} is {shown_value(entries[name])}: {reason}; download the file again."
        ) from error


def class_names(entries: Mapping[str, Any], file: Path) -> tuple[str, ...] | None:
    """Names of the classes in index order, as ``id2label`` gives them; None where it gives none.

    Raises:
      InputError: its numbers are not those from 0 on, or a name is empty, missing or there twice.
    """
    labels = field(entries, "id2label", dict[str, str | int] | None, file)
    if not labels:
        return None
    by_index = {
        int(index): str(label)
        for index, label in labels.items()
        if index.isascii() and index.isdecimal() and len(index) < 10
    }
    if sorted(by_index) != list(range(len(labels))):
        raise InputError(
            f"id2label in {file} does not number its {len(labels):,} labels from 0; correct it."
        )
    names = tuple(by_index[index] for index in range(len(by_index)))
    fault = names_fault(names)
    if fault is not None:
        raise InputError(f"id2label in {file} {fault}; correct it.")
    return names


def names_fault(names: tuple[str, ...]) -> str | None:
    """What is wrong with names of classes, as the second half of a sentence."""
    empty = [str(index) for index, name in enumerate(names) if not name.strip()]
    if empty:
        return f"has no name for class {listed(empty)}"
    plain = [name.strip() for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        return f"names more than one class {listed([shown_value(name) for name in twice])}"
    return None
