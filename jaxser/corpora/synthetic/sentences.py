"""What is said: nonsense syllables of vowels and consonants, and the time of every phone.

sentence = make_sentence(rng, syllables=15)
phones = time_phones(rng, sentence, speaker, manner, seconds=1.25)
"""

import dataclasses

import numpy as np

from jaxser.corpora.synthetic.emotions import Prosody
from jaxser.corpora.synthetic.speakers import Speaker

__all__ = [
    "CONSONANTS",
    "VOWELS",
    "Consonant",
    "Phone",
    "Syllable",
    "make_sentence",
    "time_phones",
]

# Formant frequencies F1 to F3 in Hz of a man's voice (Peterson & Barney, JASA 24, 1952).
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


@dataclasses.dataclass(frozen=True)
class Consonant:
    """A consonant: share of a vowel's voicing, formant locus (Hz), and its noise, if any.

    ``noise`` is (low Hz, high Hz, level); ``burst`` puts it at the end, after a closure.
    """

    voicing: float
    locus: tuple[int, int, int]
    noise: tuple[int, int, float] | None = None
    burst: bool = False


CONSONANTS = {
    "s": Consonant(0.0, (320, 1390, 2530), (3800, 7400, 0.20)),
    "ʃ": Consonant(0.0, (300, 1840, 2750), (1900, 5200, 0.24)),
    "f": Consonant(0.0, (340, 1100, 2080), (1200, 7400, 0.06)),
    "v": Consonant(0.35, (280, 1060, 2080), (1200, 7400, 0.03)),
    "p": Consonant(0.0, (400, 1100, 2150), (400, 1800, 0.20), burst=True),
    "t": Consonant(0.0, (400, 1600, 2600), (3000, 6500, 0.30), burst=True),
    "k": Consonant(0.0, (300, 1990, 2850), (1500, 3200, 0.28), burst=True),
    "b": Consonant(0.15, (200, 900, 2100), (400, 1800, 0.10), burst=True),
    "d": Consonant(0.15, (200, 1600, 2600), (3000, 6500, 0.12), burst=True),
    "m": Consonant(0.35, (280, 1000, 2200)),
    "n": Consonant(0.35, (280, 1700, 2600)),
    "l": Consonant(0.50, (310, 1050, 2880)),
}
_CODAS = ("s", "n", "m", "l", "t")


@dataclasses.dataclass(frozen=True)
class Phone:
    """A stretch of one phone: its name ("" is a pause), its syllable, its time in seconds."""

    name: str
    syllable: int
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Syllable:
    """Phone names of a syllable and whether it is stressed."""

    onset: str
    vowel: str
    coda: str
    stressed: bool


def make_sentence(rng: np.random.Generator, syllables: int) -> list[Syllable]:
    """Nonsense words of two or three syllables, each with one stress."""
    onsets, vowels = list(CONSONANTS), list(VOWELS)
    sentence: list[Syllable] = []
    while len(sentence) < syllables:
        length = int(rng.integers(2, 4))
        stressed = int(rng.integers(length))
        for place in range(length):
            coda = _CODAS[rng.integers(len(_CODAS))] if rng.random() < 0.25 else ""
            sentence.append(
                Syllable(
                    onset=onsets[rng.integers(len(onsets))],
                    vowel=vowels[rng.integers(len(vowels))],
                    coda=coda,
                    stressed=place == stressed,
                )
            )
    return sentence


def time_phones(
    rng: np.random.Generator,
    sentence: list[Syllable],
    speaker: Speaker,
    manner: Prosody,
    seconds: float,
) -> list[Phone]:
    """As many syllables of the sentence as fit between a silence at either end."""
    syllable_time = 1 / (speaker.syllable_rate * 2**manner.tempo)
    now = rng.uniform(0.03, 0.1)
    end = seconds - rng.uniform(0.03, 0.08)
    phones = [Phone("", 0, 0.0, now)]
    for index, syllable in enumerate(sentence):
        length = syllable_time * rng.uniform(0.85, 1.2)
        length *= 1.15 if syllable.stressed else 0.93
        parts = [(syllable.onset, 0.36), (syllable.vowel, 0.64)]
        if syllable.coda:
            parts = [(syllable.onset, 0.32), (syllable.vowel, 0.50), (syllable.coda, 0.28)]
        pause = rng.uniform(0.08, 0.22) if rng.random() < manner.pauses else 0.0
        if now + 1.1 * length > end:
            break
        for name, share in parts:
            phones.append(Phone(name, index, now, now + share * length))
            now += share * length
        if pause:
            phones.append(Phone("", index, now, now + pause))
            now += pause
    return [*phones, Phone("", phones[-1].syllable, now, seconds)]
