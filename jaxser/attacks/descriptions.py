"""What is told of an attack: its parameters and their meaning, the norms of ε, and its paper.

print(attacks_table())
print(description("pgd"))
described("pgd").parameters[0].meaning

All of it is read from the attack's class and from the docstrings that it was written with.
"""

import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal

from jaxser.attacks.registry import ATTACKS, attack_class
from jaxser.runtime.errors import UsageError

__all__ = ["Description", "Parameter", "attacks_table", "described", "description"]

_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}

# A section of a class's docstring, its entries, and the paper that a module's docstring names.
_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ ]{2}.*\n|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^  (\w[\w, ]*): (.*(?:\n {4}.*)*)", re.MULTILINE)
_SOURCE = re.compile(r"^Source: (.*(?:\n.+)*)", re.MULTILINE)
_SENTENCE = re.compile(r"\.(?= [A-Z\"])|\.$|: |; see ")

# Columns of prose, however narrow the terminal is.
_LEAST = 20


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: its name, what it means, and what it is unless said otherwise."""

    name: str
    meaning: str
    default: Any


@dataclasses.dataclass(frozen=True)
class Description:
    """What is told of an attack.

    Attributes:
      name: registry name.
      title: what it is, in a sentence.
      norms: that ε bounds, one for each way to set the attack up.
      minimal_norm: whether it looks for the smallest perturbation unless told otherwise.
      paper: where it was published.
      parameters: in the order of the fields.
    """

    name: str
    title: str
    norms: tuple[str, ...]
    minimal_norm: bool
    paper: str
    parameters: tuple[Parameter, ...]


def described(name: str) -> Description:
    """What is known of the attack called ``name``, in any case.

    Raises:
      UsageError: there is no such attack.
    """
    cls = attack_class(name)
    meanings = _meanings(cls)
    settings = list(_settings(cls))
    return Description(
        name=cls.name,
        title=_one_line((inspect.getdoc(cls) or "").partition("\n\n")[0]),
        norms=tuple(dict.fromkeys(_norm(each) for each in settings)),
        minimal_norm=getattr(settings[0], "minimal_norm", False) is True,
        paper=_paper(cls),
        parameters=tuple(
            Parameter(field.name, meanings.get(field.name, ""), field.default)
            for field in dataclasses.fields(cls)
        ),
    )


def attacks_table(width: int = 80) -> str:
    """A line for each attack: name, norms of ε and paper, in at most ``width`` columns."""
    rows = [("NAME", "NORM OF ε", "PAPER")]
    rows += [(each.name, _norms(each), each.paper) for each in map(described, ATTACKS)]
    names, norms = (max(len(row[i]) for row in rows) for i in range(2))
    indent = " " * (names + norms + 4)
    width = max(width, len(indent) + _LEAST)
    lines = [
        textwrap.fill(f"{name:{names}}  {norm:{norms}}  {paper}", width, subsequent_indent=indent)
        for name, norm, paper in rows
    ]
    return "\n".join([*lines, "* looks for the smallest perturbation: ε is a threshold on it"])


def description(name: str, width: int = 80) -> str:
    """The title, norms, paper and parameters of an attack, in at most ``width`` columns.

    Raises:
      UsageError: there is no such attack.
    """
    found = described(name)
    title = f"{found.name}: {found.title}"
    head = [
        *textwrap.wrap(title, width, subsequent_indent="  "),
        f"norm of ε: {_norms(found)}"
        + (" (* where it looks for the smallest, ε is a threshold)" if found.minimal_norm else ""),
        *textwrap.wrap(f"paper: {found.paper or 'none'}", width, subsequent_indent="  "),
        "parameters, for --params NAME=VALUE:",
    ]
    shown = [(each, _default(each.default)) for each in found.parameters]
    names = max(len(each.name) for each, _ in shown)
    defaults = max(len(default) for _, default in shown)
    indent = names + defaults + 6
    lines = []
    for each, default in shown:
        first, *rest = textwrap.wrap(each.meaning, max(width - indent, _LEAST)) or [""]
        lines.append(f"  {each.name:{names}}  {default:{defaults}}  {first}".rstrip())
        lines += [" " * indent + line for line in rest]
    return "\n".join([*head, *lines])


def _settings(cls: type[Any]) -> Iterator[Any]:
    """The attack with its defaults, and with every choice that a parameter offers."""
    if not _can_be_made(cls):
        yield cls
        return
    default = cls()
    yield default
    for field in dataclasses.fields(cls):
        choices: tuple[Any, ...] = ()
        if typing.get_origin(field.type) is Literal:
            choices = typing.get_args(field.type)
        elif field.type is bool and field.name != "targeted":
            choices = (True, False)
        for choice in choices:
            try:
                yield dataclasses.replace(default, **{field.name: choice})
            except UsageError:  # a choice of others, or one that asks for more
                continue


def _can_be_made(cls: type[Any]) -> bool:
    try:
        cls()
    except UsageError:  # a generator must be given
        return False
    return True


def _norm(attack: Any) -> str:
    """The norm that ε bounds; of an attack that must be given a network, that of a sample."""
    norm = getattr(attack, "epsilon_norm", None) or getattr(attack, "norm", None)
    return _NORMS[norm] if isinstance(norm, str) else _NORMS["linf"]


def _norms(found: Description) -> str:
    return ", ".join(found.norms) + (" *" if found.minimal_norm else "")


def _meanings(cls: type[Any]) -> dict[str, str]:
    """What the docstrings of the class, and of those that it is made from, say of each field."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(vars(base).get("__doc__") or "") + "\n"
        section = _ATTRIBUTES.search(text)
        for names, meaning in _ENTRY.findall(section[1]) if section else ():
            meanings |= dict.fromkeys(names.split(", "), _one_line(meaning))
    return meanings


def _paper(cls: type[Any]) -> str:
    """The first sentence of the source that the attack's module names."""
    found = _SOURCE.search(sys.modules[cls.__module__].__doc__ or "")
    if not found:
        return ""
    text = _one_line(found[1])
    end = _SENTENCE.search(text)
    return text[: end.start()] if end else text


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "").split())


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_default, value))
    return (
        "none"
        if value is None
        else str(value).lower()
        if value is True or value is False
        else (f"{value:g}" if isinstance(value, float) else str(value))
    )
