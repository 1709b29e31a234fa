"""Ranges of numbers that fields of several configs have."""

from pydantic import Field

__all__ = ["NotNegative", "Positive"]

Positive = Field(gt=0)
NotNegative = Field(ge=0)
