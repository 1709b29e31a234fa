"""What a folder says of its image network, field by field: types and numbers that can be computed.

check_types(type(module), fields, folder / CONFIG)          # InputError: dropout is "much"
check_numbers(fields, folder / CONFIG)                      # InputError: std is (0.0, 0.0, 0.0)
"""

import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxser.runtime.errors import InputError, nearest_name
from jaxser.runtime.text import listed, shown_value
from jaxser.victims.hugging_face.fields import field

__all__ = ["check_numbers", "check_types"]

# Fields of a module that are not the file's to say.
_OURS = ("dtype", "name", "num_classes", "parent")

# The least and the most of a number and of each part of a tuple: what is beyond is damage, and
# would fill the memory or never end.
_MOST = {"depth": 256, "depths": 256, "heads": 1024}
_MOST_OF_ALL = 65_536

# Colours are divided by their deviation, of which a level of 256 is 0.004.
_LEAST_DEVIATION = 1e-4

# Shares that are dropped in training.
_SHARES = ("attention_dropout", "drop_path", "dropout")


def check_types(module: type[nn.Module], fields: Mapping[str, Any], file: Path) -> None:
    """Refuse what is no field of ``module``, and values of another type than the field's.

    Raises:
      InputError: naming the field and the file.
    """
    kinds = {
        name: kind for name, kind in typing.get_type_hints(module).items() if name not in _OURS
    }
    known = [name for name in kinds if name in module.__dataclass_fields__]
    for name in fields:
        if name not in known:
            raise InputError(
                f"{file} says {shown_value(name)}, which is no field of a network of images; "
                f"{nearest_name(name, known)}"
            )
        field(fields, name, kinds[name], file)


def check_numbers(fields: Mapping[str, Any], file: Path) -> None:
    """Refuse numbers that are no sizes or shares, tuples of unlike lengths, and contradictions.

    Raises:
      InputError: naming the fields and the file.
    """
    faults = [fault for name, value in fields.items() if (fault := _fault(name, value))]
    stages = [
        name
        for name, value in fields.items()
        if isinstance(value, tuple) and name not in ("mean", "std")
    ]
    if len({len(fields[name]) for name in stages}) > 1:
        faults.append(f"{listed(stages)} differ in length")
    faults = faults or _contradictions(fields)
    if faults:
        raise InputError(
            f"the network of {file} cannot be built: {listed(faults, '; ')}; correct it."
        )


def _fault(name: str, value: Any) -> str | None:
    """What is wrong with the numbers of a field."""
    if name in ("mean", "std") and len(value) != 3:
        return f"{name} is {shown_value(value)}, not one number for each of three colours"
    parts = list(_numbers(value))
    if name in _SHARES:
        right = all(0 <= part < 1 for part in parts)
        return None if right else f"{name} is {shown_value(value)}, not from 0 to less than 1"
    least = _LEAST_DEVIATION if name == "std" else 0 if name in ("mean", "patch_paddings") else 1
    if all(isinstance(part, float) for part in parts) and name != "std":
        least = 0
    most = _MOST.get(name, _MOST_OF_ALL)
    if all(math.isfinite(part) and least <= part <= most for part in parts):
        return None
    return f"{name} is {shown_value(value)}, not from {least} to {most:,}"


def _numbers(value: Any) -> Iterator[int | float]:
    """All numbers of a field, of tuples in tuples, too."""
    if isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _contradictions(fields: Mapping[str, Any]) -> list[str]:
    faults = []
    if fields.get("patch", 1) > fields.get("image_size", _MOST_OF_ALL):
        faults.append("patch_size is larger than image_size")
    if "key_size" in fields:
        if any(width < fields["key_size"] or width % 8 for width in fields["widths"]):
            faults.append("a width is less than key_dim, or no multiple of 8")
        if fields.get("image_size", 224) % 16:
            faults.append("image_size is no multiple of 16")
    elif "widths" in fields and "heads" in fields:
        pairs = zip(fields["widths"], fields["heads"], strict=True)
        if any(width % heads for width, heads in pairs):
            faults.append("a width is no multiple of its heads")
    elif "width" in fields and "heads" in fields and fields["width"] % fields["heads"]:
        faults.append("hidden_size is no multiple of num_attention_heads")
    return faults
