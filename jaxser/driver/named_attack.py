"""The attack that a config names, with its hyper-parameters and, where it has one, its generator.

attack = attack_of(AttackCommandConfig(attack="pgd", params=("steps=40",)))
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxser.attacks import Attack, from_parameters
from jaxser.config import AttackCommandConfig, load_yaml
from jaxser.driver.sequence import AttackSequence
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.victims.generator import load_generator
from jaxser.victims.victim import Victim

__all__ = ["attack_and_bounds", "attack_of", "named_attack"]


def attack_of(
    config: AttackCommandConfig, victim: Callable[[], Victim] | None = None
) -> Attack | AttackSequence:
    """The attack of ``config`` by itself, before there is a victim.

    Args:
      config: what to attack, and how.
      victim: loads the one that a generator is for, where a file of weights does not say it.

    Raises:
      UsageError, InputError: see the message.
    """
    return attack_and_bounds(config, victim)[0]


def attack_and_bounds(
    config: AttackCommandConfig, victim: Callable[[], Victim] | None = None
) -> tuple[Any, bool]:
    """The attack, and whether it was given bounds of its own; see :func:`attack_of`."""
    name, values = named_attack(config.attack)
    values |= _parameters(config)
    generator = values.get("generator")
    if isinstance(generator, str):
        of_file = Path(generator).is_file() and victim is not None
        values["generator"] = load_generator(generator, victim() if of_file and victim else None)
    return from_parameters(name, values), "bounds" in values


def named_attack(attack: str) -> tuple[str, dict[str, Any]]:
    """Name and hyper-parameters: of a YAML file, or the name alone."""
    if not attack.endswith((".yaml", ".yml")):
        return attack, {}
    content = load_yaml(Path(attack))
    known = {"name", "paper", "parameters"}
    for key in content:
        if key not in known:
            raise UsageError(f"{attack} has an unknown key {key!r}; {nearest_name(key, known)}")
    if not isinstance(content.get("name"), str) or not isinstance(
        content.get("parameters", {}), dict
    ):
        raise UsageError(f"{attack} must have a name: and, as a mapping, parameters:.")
    return content["name"], dict(content.get("parameters", {}))


def _parameters(config: AttackCommandConfig) -> dict[str, Any]:
    """``steps=40`` ... as a mapping."""
    values: dict[str, Any] = {}
    for text in config.params:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--params {text!r} is not of the form name=value, such as steps=40.")
        values[name.strip()] = _parameter_value(value.strip())
    if "targeted" in values:
        raise UsageError(
            "parameters cannot set targeted; give python -m jaxser.attack a --target LABEL."
        )
    return values | ({"targeted": True} if config.target is not None else {})


def _parameter_value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    return tuple(text.split(",")) if "," in text else text
