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

from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["check_keys", "from_mapping", "hints_of", "load_yaml", "to_mapping"]

ConfigType = TypeVar("ConfigType")


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
    """The mapping that a YAML file holds ({} for an empty one)."""
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise UsageError(f"there is no config file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a config: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UsageError(f"{path}{where} is not valid YAML: {problem}.") from None
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
    check_keys(config_class, values, where)
    try:
        config: ConfigType = TypeAdapter(config_class).validate_python(dict(values))
        return config
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic adds the tried branch of a union to the path: keep the config's own keys.
        location = ".".join(str(part) for part in first["loc"] if _is_key(part))
        given = first["input"]
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise UsageError(f"{location} = {given!r} in {where} is not valid: {reason}.") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as plain values, ready for YAML or JSON (the inverse of from_mapping)."""
    mapping: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return mapping


def check_keys(config_class: type, values: Mapping[str, Any], where: str, prefix: str = "") -> None:
    hints = hints_of(config_class)
    for key, value in values.items():
        if key not in hints:
            hint = nearest_name(str(key), hints)
            raise UsageError(f"unknown key {f'{prefix}{key}'!r} in {where}: {hint}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            check_keys(typing.cast(type, hints[key]), value, where, f"{prefix}{key}.")


def hints_of(config_class: type) -> dict[str, Any]:
    return typing.get_type_hints(config_class, include_extras=True)


def _is_key(part: int | str) -> bool:
    return isinstance(part, int) or part.isidentifier()
