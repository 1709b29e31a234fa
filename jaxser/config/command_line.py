"""The command line of what a config says: ``[CONFIG.yaml] [--any.field value ...]``.

    config = parse_command(TrainConfig, "python -m jaxser.train", "Train a victim.", argv)
    config.training.learning_rate

Precedence: the defaults of the dataclass, then the YAML file, then the flags.
"""

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from jaxser.config.reading import check_keys, from_mapping, hints_of, load_yaml
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["parse_command"]

ConfigType = TypeVar("ConfigType")


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help.")


def parse_command(
    config_class: type[ConfigType], prog: str, description: str, argv: Sequence[str] | None = None
) -> ConfigType:
    """Read ``[CONFIG.yaml] [--any.field value ...]`` into a ``config_class``.

    Args:
      config_class: frozen dataclass, nested ones allowed, all fields with defaults.
      prog: command as a user types it.
      description: first line of ``--help``.
      argv: arguments; ``sys.argv[1:]`` by default.

    Returns:
      The validated config.

    Raises:
      UsageError: unknown key or flag, wrong type, unreadable file.
    """
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [CONFIG.yaml] [--any.field VALUE ...]",
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    fields = dict(_leaves(config_class))
    for name, field in fields.items():
        _add_flag(parser, name, field)
    given, unknown = parser.parse_known_args(_underscored(sys.argv[1:] if argv is None else argv))
    for flag in unknown:
        if flag.startswith("-"):
            key = flag.lstrip("-").partition("=")[0]
            raise UsageError(f"unknown flag --{key}: {nearest_name(key, fields)}")
        raise UsageError(f"unexpected argument {flag!r}; see {prog} --help.")
    values = load_yaml(given.config) if given.config else {}
    check_keys(config_class, values, str(given.config))
    for name in fields:
        text = getattr(given, name)
        if text is not None:
            _set(values, name, text)
    where = f"{given.config} or the command line" if given.config else "the command line"
    return from_mapping(config_class, values, where)


def _leaves(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, (annotation, default)) of every field that is not itself a config."""
    defaults = config_class()
    for name, hint in hints_of(config_class).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield prefix + name, (hint, getattr(defaults, name))


def _add_flag(parser: argparse.ArgumentParser, name: str, field: tuple[Any, Any]) -> None:
    hint, default = field
    inner, *marks = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    text = next((m.description for m in marks if getattr(m, "description", None)), "")
    kind: dict[str, Any] = {"nargs": None}
    metavar = _metavar(inner)
    if typing.get_origin(inner) is tuple:
        kind = {"nargs": "+"}
    elif inner is bool:
        kind = {"nargs": "?", "const": True}
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    help_text = f"{text} (default: {shown})".replace("%", "%%")
    parser.add_argument(f"--{name}", metavar=metavar, help=help_text, **kind)


def _underscored(argv: Sequence[str]) -> list[str]:
    """Flags as the fields are spelled: people type --training.batch-size as well."""
    spelled = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            argument = "--" + flag[2:].replace("-", "_") + equals + value
        spelled.append(argument)
    return spelled


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
