"""The command line of what a config says: ``[CONFIG.yaml] [--any.field value ...]``.

    config = parse_command(TrainConfig, "python -m jaxser.train", "Train a victim.", argv)
    config.training.learning_rate

Precedence: the defaults of the dataclass, then the YAML file, then the flags.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from jaxser.config.parser import CommandParser
from jaxser.config.reading import check_keys, from_mapping, hints_of, load_yaml
from jaxser.config.training import OF_ONE_MODEL
from jaxser.runtime.errors import UsageError

__all__ = ["FlagGroups", "as_flag", "parse_command", "parse_command_and"]

ConfigType = TypeVar("ConfigType")

# Heading -> dotted names of the flags below it, in the order of ``--help``.
FlagGroups = Mapping[str, Sequence[str]]


def parse_command(
    config_class: type[ConfigType],
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    groups: FlagGroups = types.MappingProxyType({}),
) -> ConfigType:
    """Read ``[CONFIG.yaml] [--any.field value ...]`` into a ``config_class``.

    Args:
      config_class: frozen dataclass, nested ones allowed, all fields with defaults.
      prog: command as a user types it.
      description: first line of ``--help``.
      argv: arguments; ``sys.argv[1:]`` by default.
      groups: flags that ``--help`` shows first. Whatever it leaves out comes after them under the
        name of its section, in the order of the fields, on which config files depend.

    Returns:
      The validated config.

    Raises:
      UsageError: unknown key or flag, wrong type, unreadable file.
    """
    return parse_command_and(lambda _: None, config_class, prog, description, argv, groups)[0]


def parse_command_and(
    add_flags: Callable[[CommandParser], None],
    config_class: type[ConfigType],
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    groups: FlagGroups = types.MappingProxyType({}),
) -> tuple[ConfigType, argparse.Namespace]:
    """As :func:`parse_command`, with flags beside the config, which are returned beside it.

    Args:
      add_flags: adds these to the parser.
      others: as there.
    """
    parser = CommandParser(
        prog=prog,
        usage="%(prog)s [CONFIG.yaml] [--any.field VALUE ...]",
        description=description,
    )
    parser.add_argument(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG.yaml",
        help="the same fields as a file; flags take the place of what it says",
    )
    fields = dict(_leaves(config_class))
    for title, (text, names) in _grouped(config_class, fields, groups).items():
        group = parser.add_argument_group(title, text)
        for name in names:
            _add_flag(group, name, fields[name])
    add_flags(parser)
    given = parser.parse_args(argv)
    values = load_yaml(given.config) if given.config else {}
    check_keys(config_class, values, str(given.config))
    _leave_to_another_model(values, vars(given).get("model.name"))
    for name in fields:
        text = getattr(given, name)
        if text is not None:
            _set(values, name, text)
    where = f"{given.config} or the command line" if given.config else "the command line"
    return from_mapping(config_class, values, where), given


def as_flag(config_class: type, name: str, text: str) -> list[str]:
    """A flag and its value as :func:`parse_command` takes them; fields of several values are
    divided at spaces, which names of folders may have."""
    field = dict(_leaves(config_class)).get(name)
    if field is not None and typing.get_origin(_without_marks(field[0])) is tuple:
        return [f"--{name}", *text.split()]
    return [f"--{name}={text}"]


def _without_marks(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _leave_to_another_model(values: Mapping[str, Any], name: str | None) -> None:
    """Drop what a file has tuned for its model where a flag names another one."""
    section = values.get("model")
    if isinstance(section, dict) and name not in (None, section.get("name")):
        for key in OF_ONE_MODEL:
            section.pop(key, None)


def _leaves(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, (annotation, default)) of every field that is not itself a config."""
    defaults = config_class()
    for name, hint in hints_of(config_class).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield prefix + name, (hint, getattr(defaults, name))


def _grouped(
    config_class: type, fields: Mapping[str, Any], groups: FlagGroups
) -> dict[str, tuple[str | None, list[str]]]:
    """Heading -> what it explains, and its flags: ``groups``, then what they leave of sections."""
    found: dict[str, tuple[str | None, list[str]]] = {
        title: (None, list(names)) for title, names in groups.items()
    }
    placed = {name for names in groups.values() for name in names}
    hints = hints_of(config_class)
    for name in fields:
        if name not in placed:
            section, dot, _ = name.partition(".")
            text = hints[section].__doc__.partition("\n")[0] if dot else None
            found.setdefault(section if dot else "others", (text, []))[1].append(name)
    return found


# argparse's class of groups of flags has no public name.
def _add_flag(group: Any, name: str, field: tuple[Any, Any]) -> None:
    hint, default = field
    inner, *marks = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    text = next((m.description for m in marks if getattr(m, "description", None)), "")
    kind: dict[str, Any] = {"nargs": None}
    metavar = _metavar(inner)
    if typing.get_origin(inner) is tuple:
        kind = {"nargs": "+"}
    elif inner is bool:
        kind = {"nargs": "?", "const": True}
    if default not in (None, ()):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text = f"{text} (default: {shown})"
    group.add_argument(f"--{name}", metavar=metavar, help=text.replace("%", "%%"), **kind)


def _metavar(inner: Any) -> str:
    if typing.get_origin(inner) is Annotated:
        return _metavar(typing.get_args(inner)[0])
    if typing.get_origin(inner) is Literal:
        return "{" + ",".join(map(str, typing.get_args(inner))) + "}"
    if typing.get_origin(inner) in (types.UnionType, typing.Union):
        return _metavar(next(a for a in typing.get_args(inner) if a is not types.NoneType))
    if typing.get_origin(inner) is tuple:
        return _metavar(typing.get_args(inner)[0])
    return str(getattr(inner, "__name__", "value")).upper()


def _set(values: dict[str, Any], name: str, text: Any) -> None:
    """Put a flag's text under its dotted name; "none" means no value."""
    *parents, leaf = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UsageError(f"{parent} in the config file must hold 'key: value' lines.")
    values[leaf] = None if isinstance(text, str) and text.lower() in ("none", "null") else text
