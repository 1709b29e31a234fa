"""Ranges of values that fields of several configs have."""

from typing import Literal

from pydantic import Field

__all__ = [
    "INTERVAL_OVER",
    "LARGEST_SEED",
    "Domain",
    "IntervalOver",
    "NotNegative",
    "Output",
    "Positive",
    "Seed",
]

# Infinities are no numbers to train or to measure with.
Positive = Field(gt=0, allow_inf_nan=False)
NotNegative = Field(ge=0, allow_inf_nan=False)

# What an attack changes: the speech, through whatever the victim makes of it; the standardised
# spectrogram of a victim that reads one; or, of one that reads images, the levels of the
# spectrogram before they are coloured, or the colours.
Domain = Literal["waveform", "features", "spectrogram", "image"]

# What an attack is given of its victim.
Output = Literal["logits", "probabilities"]

# As row files hold it: a signed integer of 64 bits.
LARGEST_SEED = 2**63 - 1
Seed = Field(ge=0, le=LARGEST_SEED)

# What 95 % intervals are over, in every command that prints some.
IntervalOver = Literal["utterance", "speaker"]
INTERVAL_OVER = Field(
    description="what intervals are over: these speakers' other utterances, or other speakers"
)
