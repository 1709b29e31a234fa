"""Ranges of values that fields of several configs have."""

from typing import Literal

from pydantic import Field

__all__ = ["INTERVAL_OVER", "IntervalOver", "NotNegative", "Positive"]

Positive = Field(gt=0)
NotNegative = Field(ge=0)

# What 95 % intervals are over, in every command that prints some.
IntervalOver = Literal["utterance", "speaker"]
INTERVAL_OVER = Field(
    description="what intervals are over: these speakers' other utterances, or other speakers"
)
