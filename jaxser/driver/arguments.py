"""What a caller hands to a run, checked before anything is compiled.

inputs = as_array("waveforms", tensor)                       # of whatever array type
attack = checked_attack(PGD())
check_within(source, (-1.0, 1.0))
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxser.attacks.base import Attack
from jaxser.attacks.projections import Bounds
from jaxser.driver.sequence import AttackSequence
from jaxser.driver.source import Source
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

__all__ = [
    "as_array",
    "check_inputs",
    "check_victim",
    "check_within",
    "checked_attack",
    "checked_count",
    "checked_devices",
    "checked_epsilons",
]

# Inputs that are looked at together.
_ROWS = 64

# Of the width of the bounds: -32768 divided by 32767 is speech within (-1, 1), too.
_OUTSIDE = 1e-4


def as_array(name: str, values: Any) -> np.ndarray:
    """``values`` on the host.

    Args:
      name: what an error calls them.
      values: array of NumPy, JAX or another library, or nested lists.

    Raises:
      InputError: no array of numbers.
    """
    try:
        array = np.asarray(values)
    except Exception as error:  # each library has its own for what it cannot hand over
        said = " ".join(str(error).split(". ")[0].split())[:200]
        raise InputError(f"{name} cannot be read as an array: {said}.") from error
    if array.dtype == object:
        raise InputError(f"{name} must be an array of numbers, not of Python objects.")
    return array


def checked_epsilons(epsilons: Any) -> Sequence[float]:
    """The budgets as a list; a number stands for a list of one. Their range depends on the attack.

    Raises:
      UsageError: neither a number nor a list of numbers.
    """
    array = as_array("epsilons", epsilons)
    if array.ndim > 1 or (array.size and array.dtype.kind not in "fiu"):
        given = f"{epsilons!r:.40}" if array.ndim == 0 else f"an array of shape {array.shape}"
        raise UsageError(
            f"epsilons must be a number or a list of numbers, not {given} of type {array.dtype}; "
            "give one number for each epsilon."
        )
    return [float(array)] if array.ndim == 0 else epsilons


def check_victim(victim: Any) -> None:
    """Refuse what JAX cannot call.

    Raises:
      UsageError: a module of torch, a path, or anything else that is neither victim nor function.
    """
    if any(base.__module__.partition(".")[0] == "torch" for base in type(victim).__mro__):
        raise UsageError(
            f"{type(victim).__name__} is a torch module, which JAX can neither compile nor "
            "differentiate; wrap it with jaxser.victims.from_torch, which is slow, or write it in "
            "JAX."
        )
    if not (isinstance(victim, Victim) or callable(victim)):
        raise UsageError(
            f"a victim must be a jaxser.Victim or a function from inputs to logits, not "
            f"{repr(victim)[:80]}; load a folder with jaxser.load_victim."
        )


def checked_attack(attack: Any) -> Attack | AttackSequence:
    """The attack, if it is one.

    Raises:
      UsageError: something else, or hyper-parameters that have no hash.
    """
    if isinstance(attack, type):
        raise UsageError(
            f"{attack.__name__} is a class and not yet an attack; write {attack.__name__}()."
        )
    if not isinstance(attack, Attack | AttackSequence):
        raise UsageError(
            f"{repr(attack)[:80]} is not an attack; give one such as jaxser.attacks.PGD()."
        )
    try:
        hash(attack)
    except TypeError as error:
        raise UsageError(
            f"{attack.name}: its hyper-parameters must not change ({error}); give tuples instead "
            "of lists."
        ) from None
    return attack


def checked_devices(devices: Any) -> list[jax.Device]:
    """Devices to run on; all local ones for None.

    Raises:
      UsageError: none, or something else; a run inside of jax.jit and the like.
    """
    if isinstance(jax.device_put(np.float32(0)), jax.core.Tracer):
        raise UsageError(
            "a run compiles programs of its own and cannot be part of jax.jit, grad or vmap; call "
            "it outside."
        )
    if devices is None:
        return jax.local_devices()
    if isinstance(devices, jax.Device):
        return [devices]
    if not isinstance(devices, str):
        found = list(devices)
        if found and all(isinstance(device, jax.Device) for device in found):
            return found
    raise UsageError(
        f"devices must be a list of JAX devices, such as jax.devices()[:1], not "
        f"{repr(devices)[:80]}."
    )


def checked_count(name: str, asked: Any) -> int:
    """``asked``, called ``name``, if it is a number of things.

    Raises:
      UsageError: no whole number, or less than 1.
    """
    try:
        number = operator.index(asked)
    except TypeError:
        number = 0
    if number < 1:
        raise UsageError(f"{name} must be a whole number from 1 up, not {repr(asked)[:80]}.")
    return number


def check_inputs(x: np.ndarray, ids: Sequence[str] | None, bounds: Bounds) -> None:
    """Refuse inputs ``[batch, ...]`` that are not finite, outside the bounds, or none at all.

    Raises:
      InputError: naming an input.
    """
    if x.ndim < 2:
        raise InputError(
            f"inputs must be [batch, ...] but have shape {x.shape}; add an axis for the batch."
        )
    check_within(Source(x, None, ids, bounds), bounds)


def check_within(source: Source, bounds: Bounds) -> None:
    """Refuse inputs that are not finite, or outside the bounds: of another unit, as a rule.

    Args:
      source: the inputs, which are read a few at a time.
      bounds: valid range of an input; None has none.

    Raises:
      InputError: naming the first input that is not finite, or the one that is farthest outside.
    """
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    slack = 0.0 if bounds is None else _OUTSIDE * (high - low)
    odd: list[int] = []
    # Of the rows outside: how many, and the one that is farthest out.
    outside, farthest, extreme, excess = 0, 0, 0.0, 0.0
    for start in range(0, len(source), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(source)))
        x = source.batch(rows).reshape(len(rows), -1)
        odd += rows[~np.isfinite(x).all(axis=1)].tolist()
        least, most = x.min(axis=1, initial=math.inf), x.max(axis=1, initial=-math.inf)
        beyond = np.maximum(low - least, most - high)
        outside += int((beyond > slack).sum())
        worst = int(beyond.argmax())
        if beyond[worst] > max(slack, excess):
            farthest, excess = int(rows[worst]), float(beyond[worst])
            extreme = float(most[worst] if most[worst] - high == beyond[worst] else least[worst])
    if odd:
        raise InputError(
            f"{source.name(odd[0])} holds NaN or infinity ({len(odd)} rows do); leave such rows "
            "out."
        )
    if outside:
        raise InputError(
            f"{source.name(farthest)} reaches {extreme:.6g}, outside the bounds ({low:g}, "
            f"{high:g}) of what is attacked, the farthest of {outside} rows outside; scale "
            "or clip such inputs, or give the attack bounds that hold them."
        )
