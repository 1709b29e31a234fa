"""A figure with its interval; apart from what makes intervals, which takes NumPy and SciPy."""

import dataclasses

__all__ = ["Estimate"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
