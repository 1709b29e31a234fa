"""Voices: whose they are, their habits, and how they say one utterance with an emotion.

speaker = make_speakers(seed=0, count=20)[3]
manner = draw_manner(rng, speaker, "anger")
"""

import dataclasses

import numpy as np

from jaxser.corpora.synthetic.emotions import (
    CONFUSED_WITH,
    CONFUSION,
    EMOTIONS,
    HABITS,
    HIGHEST,
    LOWEST,
    NEUTRAL,
    SPREAD,
    Prosody,
    values,
)
from jaxser.corpora.synthetic.randomness import generator_of
from jaxser.corpora.table import Gender, Split

__all__ = ["Speaker", "draw_manner", "make_speakers"]


@dataclasses.dataclass(frozen=True)
class Speaker:
    """One voice: who it is, its vocal tract and larynx, its habits and its microphone."""

    number: int
    gender: Gender
    split: Split
    pitch: float  # Hz
    formant_scale: float
    formant_shift: tuple[float, ...]  # per formant, a factor
    syllable_rate: float  # per second
    open_quotient: float
    habits: np.ndarray  # over the fields of Prosody
    expression: np.ndarray  # how strongly each field shows an emotion, about 1
    gain: float  # dB
    snr: float  # dB

    @property
    def name(self) -> str:
        return f"s{self.number + 1:02d}"


def make_speakers(seed: int, count: int) -> list[Speaker]:
    """``count`` voices, women and men in turn, dealt in pairs to train, val and test."""
    pairs = count // 2
    held_out = max(1, round(pairs * 0.2))
    speakers = []
    for number in range(count):
        rng = generator_of(seed, 1, number)
        female = number % 2 == 0
        pair = number // 2
        split: Split = (
            "test" if pair >= pairs - held_out else
            "val" if pair >= pairs - 2 * held_out else "train"
        )  # fmt: skip
        speakers.append(
            Speaker(
                number=number,
                gender="female" if female else "male",
                split=split,
                pitch=(200.0 if female else 112.0) * 2 ** rng.uniform(-0.2, 0.2),
                formant_scale=(1.16 if female else 1.0) * rng.uniform(0.95, 1.05),
                formant_shift=tuple(rng.uniform(0.96, 1.04, 3)),
                syllable_rate=4.8 * 2 ** rng.uniform(-0.15, 0.15),
                open_quotient=rng.uniform(0.55, 0.72) + (0.05 if female else 0.0),
                habits=values(HABITS) * rng.standard_normal(len(values(HABITS))),
                expression=rng.uniform(0.7, 1.2, len(values(HABITS))),
                gain=rng.uniform(-14, -3),
                snr=rng.uniform(28, 45),
            )
        )
    return speakers


def draw_manner(rng: np.random.Generator, speaker: Speaker, label: str) -> Prosody:
    """How this speaker says one utterance with this emotion; many are weak, some lean over."""
    emotion = values(EMOTIONS[label])
    if rng.random() < CONFUSION:
        lean = rng.uniform(0.2, 0.45)
        emotion = (1 - lean) * emotion + lean * values(EMOTIONS[CONFUSED_WITH[label]])
    intensity = rng.uniform(0.6, 1.0)
    manner = values(NEUTRAL) + speaker.habits + intensity * speaker.expression * emotion
    manner += values(SPREAD) * rng.standard_normal(len(manner))
    return Prosody(*np.clip(manner, values(LOWEST), values(HIGHEST)).tolist())
