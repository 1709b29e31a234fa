"""The attacks by the names that they have on the command line.

attack = from_parameters("pgd", {"steps": "40", "norm": "l2"})
parameters(attack)["steps"]                        # 40
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxser.attacks.apgd import APGD
from jaxser.attacks.autoattack import AutoAttack
from jaxser.attacks.base import Attack
from jaxser.attacks.bim import BIM
from jaxser.attacks.boundary import Boundary
from jaxser.attacks.carlini_l0 import CarliniL0
from jaxser.attacks.carlini_l2 import CarliniL2
from jaxser.attacks.carlini_linf import CarliniLinf
from jaxser.attacks.deepfool import DeepFool
from jaxser.attacks.eotpgd import EOTPGD
from jaxser.attacks.fab import FAB
from jaxser.attacks.few_pixel import FewPixel
from jaxser.attacks.fgsm import FGSM
from jaxser.attacks.generator import Generator
from jaxser.attacks.hopskipjump import HopSkipJump
from jaxser.attacks.jsma import JSMA
from jaxser.attacks.mifgsm import MIFGSM
from jaxser.attacks.noise import Noise
from jaxser.attacks.one_pixel import OnePixel
from jaxser.attacks.pgd import PGD
from jaxser.attacks.pixle import Pixle
from jaxser.attacks.sparsefool import SparseFool
from jaxser.attacks.sparsepgd import SparsePGD
from jaxser.attacks.square import Square
from jaxser.attacks.staa_net import StaaNet
from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["ATTACKS", "attack_class", "from_parameters", "parameters"]

ATTACKS: dict[str, type[Any]] = {
    cls.name: cls
    for cls in (
        FGSM,
        BIM,
        MIFGSM,
        PGD,
        EOTPGD,
        SparsePGD,
        APGD,
        AutoAttack,
        DeepFool,
        SparseFool,
        FAB,
        JSMA,
        CarliniL2,
        CarliniL0,
        CarliniLinf,
        OnePixel,
        FewPixel,
        Square,
        Pixle,
        Boundary,
        HopSkipJump,
        Noise,
        StaaNet,
    )
}


def attack_class(name: str) -> type[Any]:
    """The attack called ``name``, in any case.

    Raises:
      UsageError: there is no such attack.

    Examples:
      >>> from jaxser.attacks.registry import attack_class
      >>> attack_class("carlinil2").__name__
      'CarliniL2'
    """
    if name.lower() not in ATTACKS:
        raise UsageError(f"there is no attack {name!r}; {nearest_name(name.lower(), ATTACKS)}")
    return ATTACKS[name.lower()]


def from_parameters(name: str, values: Mapping[str, Any]) -> Attack:
    """The attack called ``name`` with the given hyper-parameters, as a command line has them.

    Args:
      name: registry name, in any case.
      values: hyper-parameters; text is converted to the field's type.

    Raises:
      UsageError: unknown attack or hyper-parameter, or a value of the wrong type or range.

    Examples:
      >>> import jaxser
      >>> jaxser.attacks.from_parameters("PGD", {"steps": "40", "norm": "l2"})
      PGD(targeted=False, bounds=(-1.0, 1.0), steps=40, ..., norm='l2', ...)
    """
    # Attacks that are made in Python do without it.
    from pydantic import TypeAdapter, ValidationError

    cls = attack_class(name)
    fields = {field.name for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise UsageError(
                f"the attack {cls.name} has no parameter {key!r}; {nearest_name(key, fields)}"
            )
    try:
        attack: Attack = TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        # A complaint of the attack's own __post_init__ is already one sentence about it.
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise UsageError(str(first["ctx"]["error"])) from None
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise UsageError(
            f"{cls.name}: {first['loc'][0]} = {first['input']!r} is not valid: {reason}."
        ) from None
    return attack


def parameters(attack: Attack) -> dict[str, Any]:
    """Hyper-parameters by name, ready for JSON (the inverse of :func:`from_parameters`).

    A generator is its name and fingerprint.

    Examples:
      >>> import jaxser
      >>> jaxser.attacks.parameters(jaxser.attacks.BIM(steps=5))["steps"]
      5
    """
    values = {
        field.name: getattr(attack, field.name)
        for field in dataclasses.fields(attack)  # type: ignore[arg-type]
    }
    return {
        name: str(value) if isinstance(value, Generator) else value
        for name, value in values.items()
    }
