"""The prosody of emotions: what each adds to a neutral manner of speaking, and how far it spreads.

EMOTIONS["anger"].pitch                          # semitones above the speaker's habit
"""

import dataclasses
import functools

import numpy as np

__all__ = [
    "CONFUSED_WITH",
    "CONFUSION",
    "EMOTIONS",
    "HABITS",
    "HIGHEST",
    "LABELS",
    "LOWEST",
    "NEUTRAL",
    "SPREAD",
    "Prosody",
    "values",
]


@dataclasses.dataclass(frozen=True)
class Prosody:
    """A manner of speaking, or the difference between two.

    Attributes:
      pitch: semitones above the speaker's habitual pitch.
      pitch_range: semitones from an unstressed to a stressed syllable.
      declination: semitones that pitch falls over the utterance.
      tempo: octaves (log2) of syllable rate above the speaker's habitual rate.
      pauses: probability of a pause after a syllable.
      accent: dB from an unstressed to a stressed syllable.
      energy_slope: dB that energy rises over the utterance.
      tilt: dB that the glottal source loses at 3 kHz.
      breath: dB of aspiration noise over its neutral level.
      jitter: octaves (log2) of cycle-to-cycle period noise over its neutral level.
      shimmer: octaves (log2) of cycle-to-cycle amplitude noise over its neutral level.
      creak: 0 to 1, how much every second glottal cycle is weakened and delayed.
      tremor: semitones of slow pitch modulation.
    """

    pitch: float = 0.0
    pitch_range: float = 0.0
    declination: float = 0.0
    tempo: float = 0.0
    pauses: float = 0.0
    accent: float = 0.0
    energy_slope: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    jitter: float = 0.0
    shimmer: float = 0.0
    creak: float = 0.0
    tremor: float = 0.0


NEUTRAL = Prosody(pitch_range=2.5, declination=2.0, pauses=0.03, accent=4.0, tilt=14.0)
LOWEST = Prosody(
    pitch=-9, pitch_range=0.2, declination=-9, tempo=-1, pauses=0, accent=0, energy_slope=-12,
    tilt=0, breath=-10, jitter=-2, shimmer=-2, creak=0, tremor=0,
)  # fmt: skip
HIGHEST = Prosody(
    pitch=15, pitch_range=12, declination=9, tempo=1, pauses=0.4, accent=14, energy_slope=12,
    tilt=30, breath=20, jitter=2.5, shimmer=2.5, creak=1, tremor=1.5,
)  # fmt: skip

# What each emotion adds to the neutral manner at full intensity.
EMOTIONS: dict[str, Prosody] = {
    "anger": Prosody(
        pitch=5, pitch_range=4, declination=2, tempo=0.3, accent=5, tilt=-12, breath=-4,
        jitter=1.4, shimmer=1.4,
    ),
    "boredom": Prosody(
        pitch=-4.5, pitch_range=-2, tempo=-0.6, pauses=0.05, accent=-3, energy_slope=-1,
        tilt=2, creak=0.3,
    ),
    "disgust": Prosody(
        pitch=-1, pitch_range=2, declination=4, tempo=-0.3, pauses=0.05, accent=3,
        energy_slope=-5, tilt=-4, breath=1, jitter=1.3, shimmer=1.6, creak=0.9,
    ),
    "fear": Prosody(
        pitch=9, pitch_range=-2, declination=-1, tempo=0.6, pauses=0.05, accent=-3,
        energy_slope=1, tilt=3, breath=11, jitter=1.4, shimmer=1, tremor=0.9,
    ),
    "happiness": Prosody(
        pitch=7.5, pitch_range=6, declination=-6, tempo=0.1, accent=1, energy_slope=5, tilt=-4
    ),
    "neutral": Prosody(),
    "sadness": Prosody(
        pitch=0, pitch_range=-1.5, declination=2.5, tempo=-0.4, pauses=0.2, accent=-2.5,
        energy_slope=-5, tilt=9, breath=14, jitter=0.5, tremor=0.4,
    ),
}  # fmt: skip
LABELS: tuple[str, ...] = tuple(EMOTIONS)

# With this probability an utterance leans towards the emotion that listeners take it for.
CONFUSION = 0.12
CONFUSED_WITH = {
    "anger": "happiness",
    "boredom": "sadness",
    "disgust": "anger",
    "fear": "happiness",
    "happiness": "anger",
    "neutral": "boredom",
    "sadness": "boredom",
}
# Standard deviations: of a speaker's habits, and of one utterance about its speaker's manner.
HABITS = Prosody(
    pitch_range=0.5, declination=0.7, pauses=0.01, accent=0.8, energy_slope=0.8, tilt=1.5,
    breath=1.5, jitter=0.3, shimmer=0.3, creak=0.05, tremor=0.05,
)  # fmt: skip
SPREAD = Prosody(
    pitch=0.8, pitch_range=0.5, declination=0.8, tempo=0.08, pauses=0.02, accent=0.8,
    energy_slope=1.2, tilt=1.2, breath=1.2, jitter=0.25, shimmer=0.25, creak=0.06, tremor=0.06,
)  # fmt: skip


@functools.cache
def values(prosody: Prosody) -> np.ndarray:
    """The fields in order as an array, to calculate with; not to be written to, as it is kept."""
    values = np.array(dataclasses.astuple(prosody), dtype=np.float64)
    values.flags.writeable = False
    return values
