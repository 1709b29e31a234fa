"""Parts of error messages: lists and values from files, cut to what can be read.

listed(["a is missing", "b is missing"])       # of a long list the first, "and 31 more"
shown(value)                                   # its repr, of at most 80 characters
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["listed", "shown"]

_MOST_PARTS, _MOST_CHARACTERS = 12, 80


def listed(parts: Sequence[str], separator: str = ", ", most: int = _MOST_PARTS) -> str:
    """``parts`` in one line; of more than ``most`` the first, and how many there are besides."""
    told = [_cut(part, 4 * _MOST_CHARACTERS) for part in parts[:most]]
    if len(parts) > most:
        told.append(f"and {len(parts) - most:,} more")
    return separator.join(told)


def shown(value: Any) -> str:
    """``value`` as Python writes it, cut where it is long."""
    if isinstance(value, str | bytes):
        return _cut(repr(value[: 2 * _MOST_CHARACTERS]), _MOST_CHARACTERS)
    if isinstance(value, int) and value.bit_length() > 8 * _MOST_CHARACTERS:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write long ones
    if isinstance(value, list | tuple | dict):
        kind = "an object" if isinstance(value, dict) else "a list"
        # Its parts may be as large as the file, however few they are.
        return f"{kind} of {len(value)}" if len(value) > 8 or _nested(value) else _flat(value)
    return _cut(repr(value), _MOST_CHARACTERS)


def _flat(value: Any) -> str:
    """A flat list or object, with each part cut."""
    if isinstance(value, dict):
        inside = ", ".join(f"{shown(key)}: {shown(each)}" for key, each in value.items())
        return _cut(f"{{{inside}}}", _MOST_CHARACTERS)
    return _cut(f"[{', '.join(map(shown, value))}]", _MOST_CHARACTERS)


def _nested(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, list | tuple | dict) for part in parts)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."
