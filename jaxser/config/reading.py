"""Config files: YAML read with the safe loader, and mappings checked into frozen dataclasses.

    config = from_mapping(TrainConfig, load_yaml(path), str(path))

Values are checked by pydantic against the annotations; unknown keys are refused with the nearest
valid name.
"""

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from jaxser.config.shipped import shipped
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.text import cut, one_line, shown_value

__all__ = ["check_keys", "from_mapping", "hints_of", "load_yaml", "to_mapping"]

ConfigType = TypeVar("ConfigType")

# Far more than any config has: what is given in its place, /dev/zero for one, may have no end.
_LONGEST_FILE = 200_000

# Integers that arrays and counters can hold.
_LARGEST = 2**63 - 1

# What Python's and YAML's readers raise for text that is none of theirs: dates of no calendar,
# integers of thousands of digits, tags that do not fit their text, and lists in lists without end.
_NOT_YAML = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which takes the last of equal keys; here they are an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value[:80]!r} is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds ({} for an empty one).

    Where there is no such file, ``configs/...`` is one that jaxser comes with.
    """
    try:
        values = yaml.load(_text_of(shipped(Path(path))), _UniqueKeys)
    except FileNotFoundError:
        raise UsageError(f"there is no config file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a config: {one_line(error)}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = one_line(getattr(error, "problem", None) or "it is not YAML")
        raise UsageError(f"{path}{where} is not valid YAML: {problem}.") from None
    except UsageError:  # a ValueError, and a whole sentence already
        raise
    except _NOT_YAML as error:
        problem = _problem_of(error)
        raise UsageError(f"{path} is not valid YAML: {problem}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} must hold 'key: value' lines, but holds a {type(values).__name__}."
        )
    return values


def from_mapping(
    config_class: type[ConfigType], values: Mapping[str, Any], where: str
) -> ConfigType:
    """Validate a nested mapping into a ``config_class``; ``where`` names it in errors."""
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where} has {shown_value(values)} where 'key: value' lines must be; see the files in "
            "configs/."
        )
    check_keys(config_class, values, where)
    _check_values(values, where)
    try:
        config: ConfigType = _adapter(config_class).validate_python(dict(values))
        return config
    except ValidationError as error:
        errors = error.errors()
        location, given = _location(errors[0]), shown_value(errors[0]["input"])
        # Of a union there is one for each branch, and each says what may stand there.
        same = [each["msg"] for each in errors if _location(each) == location]
        reason = one_line(", or ".join(dict.fromkeys(m[0].lower() + m[1:] for m in same)))
        raise UsageError(f"{location} = {given} in {where} is not valid: {reason}.") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as plain values, ready for YAML or JSON (the inverse of from_mapping)."""
    mapping: dict[str, Any] = _adapter(type(config)).dump_python(config, mode="json")
    return mapping


# Made once for each class, as that takes pydantic tens of milliseconds.
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(config_class: type) -> TypeAdapter[Any]:
    if config_class not in _ADAPTERS:
        _ADAPTERS[config_class] = TypeAdapter(config_class)
    return _ADAPTERS[config_class]


def check_keys(config_class: type, values: Mapping[str, Any], where: str, prefix: str = "") -> None:
    hints = hints_of(config_class)
    for key, value in values.items():
        if key not in hints:
            named = cut(f"{prefix}{key}" if isinstance(key, str) else shown_value(key))
            hint = nearest_name(named.removeprefix(prefix), hints)
            raise UsageError(f"unknown key {named!r} in {where}: {hint}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            check_keys(typing.cast(type, hints[key]), value, where, f"{prefix}{key}.")


def _text_of(path: Path) -> str:
    """The text of a config file, a pipe of a shell ("<(...)") included."""
    if path.is_fifo() and not {"dev", "proc"} & set(path.parts[1:2]):
        raise UsageError(f"{path} is a pipe, which may have no end; give a file.")
    with path.open(encoding="utf-8") as file:
        text = file.read(_LONGEST_FILE + 1)
    if len(text) > _LONGEST_FILE:
        raise UsageError(f"{path} is longer than any config; give a YAML file.")
    return text


def _problem_of(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its lists or mappings are nested too deep"
    if isinstance(error, ValueError):
        return one_line(error)
    return f"a value does not fit its tag ({one_line(error)})"


def _check_values(values: Any, where: str) -> None:
    """Refuse what fits a field's type and no use of it: characters that no file name can have, and
    integers that no array can hold."""
    # Aliases of YAML may hold one list a million times, or itself.
    seen, waiting = set(), [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += [*value, *value.values()] if isinstance(value, Mapping) else value
        elif isinstance(value, str) and ("\0" in value or _is_broken(value)):
            raise UsageError(
                f"{shown_value(value)} in {where} has a character that no text has; take it away."
            )
        elif isinstance(value, int) and abs(value) > _LARGEST:
            raise UsageError(f"{shown_value(value)} in {where} is too large; give a smaller one.")


def _is_broken(text: str) -> bool:
    """Whether halves of surrogate pairs are in it that do not stand for bytes of a file's name."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def hints_of(config_class: type) -> dict[str, Any]:
    return typing.get_type_hints(config_class, include_extras=True)


def _location(error: Mapping[str, Any]) -> str:
    """The config's own keys; pydantic adds the tried branch of a union to the path."""
    return cut(".".join(str(part) for part in error["loc"] if _is_key(part)))


def _is_key(part: int | str) -> bool:
    return isinstance(part, int) or part.isidentifier()
