"""Checks of hyper-parameters, each one sentence about what is wrong; attacks call them when made.

    check_positive(self.name, steps=self.steps, theta=abs(self.theta))
    check_choice(self.name, "norm", self.norm, ("linf", "l2"))

All take the attack's registry name first, and raise :class:`jaxser.runtime.errors.UsageError`.
"""

from typing import Any

import numpy as np

from jaxser.attacks.projections import Bounds
from jaxser.runtime.errors import UsageError

__all__ = [
    "check_at_most_one",
    "check_bounds",
    "check_choice",
    "check_fraction",
    "check_positive",
]


def check_bounds(attack: str, bounds: Bounds) -> None:
    """Refuse bounds that are not (low, high) with low < high."""
    if bounds is not None and not (np.shape(bounds) == (2,) and bounds[0] < bounds[1]):
        raise UsageError(f"{attack}: bounds must be (low, high) with low < high, not {bounds!r}.")


def check_choice(attack: str, name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a hyper-parameter that is none of ``choices``."""
    if value not in choices:
        *some, last = map(repr, choices)
        raise UsageError(f"{attack}: {name} must be {', '.join(some)} or {last}, not {value!r}.")


def check_positive(attack: str, **values: float | None) -> None:
    """Refuse a hyper-parameter that is not a positive, finite number; None is let through."""
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{attack}: {name} must be positive and finite, not {value!r}.")


def check_at_most_one(attack: str, **values: float) -> None:
    """Refuse a share of a whole that is more than the whole."""
    for name, value in values.items():
        if value > 1:
            raise UsageError(f"{attack}: {name} must be at most 1, not {value!r}.")


def check_fraction(attack: str, **values: float) -> None:
    """Refuse a hyper-parameter that is not between 0 and 1, both excluded."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise UsageError(f"{attack}: {name} must be between 0 and 1, not {value!r}.")
