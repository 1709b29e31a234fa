"""Speech-like sound made from code alone, for demos and tests where no real speech is at hand.

    from jaxser.corpora import synthetic
    utterances = synthetic.read(Path("data/synthetic"))       # made on first use
    synthetic.generate(Path("data/other"), seed=1, speakers=12, seconds=2.0)

A glottal pulse train and noise excite a row of formant resonators (source-filter synthesis after
Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67, 1980, and Klatt & Klatt,
JASA 87, 1990: glottal pulse, tilt and aspiration). Sentences are nonsense syllables, the same
for every speaker and emotion, so that an emotion is carried by prosody and voice quality alone:
pitch level, range and slope, tempo, pauses, accents, energy slope, spectral tilt, breathiness,
jitter, shimmer, creak and tremor. Directions follow the usual summaries of acted speech (Scherer,
"Vocal communication of emotion", Speech Communication 40, 2003); sizes were chosen so that
classes overlap. What a victim scores on it says nothing about human emotion.
"""

import contextlib
import csv
import dataclasses
import errno
import functools
import json
import math
import secrets
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int16

from jaxser.corpora import csv_table
from jaxser.corpora.spec import CorpusSpec, LeftOut, audio_files
from jaxser.corpora.table import Gender, Split, Utterance
from jaxser.runtime.errors import InputError

__all__ = ["EMOTIONS", "LABELS", "SAMPLE_RATE", "SPEC", "VERSION", "Prosody", "generate", "read"]

SAMPLE_RATE = 16_000

VERSION = 1  # of the sound: raise it with any change that alters a sample
_FRAME = 160  # samples per control frame (10 ms)
_SETTINGS_FILE = "synthetic.json"
_MANIFEST_FILE = "manifest.csv"
_README_FILE = "README.txt"
_WAV_FOLDER = "synthetic_wav"
_WAV_HEADER_BYTES = 44
_NOTE = "synthetic speech: figures on it say nothing about human emotion"
_README = """\
This folder holds SYNTHETIC speech, made from code alone by jaxser.corpora.synthetic.
Nobody spoke it and nobody felt it: figures on it say nothing about human emotion.
manifest.csv names the emotion, speaker, gender and split of every file;
synthetic.json holds the settings that make the same files again.
"""

Waveform = Float[np.ndarray, " samples"]
Track = Float[np.ndarray, " frames"]


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


_NEUTRAL = Prosody(pitch_range=2.5, declination=2.0, pauses=0.03, accent=4.0, tilt=14.0)
_LOWEST = Prosody(
    pitch=-9, pitch_range=0.2, declination=-9, tempo=-1, pauses=0, accent=0, energy_slope=-12,
    tilt=0, breath=-10, jitter=-2, shimmer=-2, creak=0, tremor=0,
)  # fmt: skip
_HIGHEST = Prosody(
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
_CONFUSION = 0.12
_CONFUSED_WITH = {
    "anger": "happiness",
    "boredom": "sadness",
    "disgust": "anger",
    "fear": "happiness",
    "happiness": "anger",
    "neutral": "boredom",
    "sadness": "boredom",
}
# Standard deviations: of a speaker's habits, and of one utterance about its speaker's manner.
_HABITS = Prosody(
    pitch_range=0.5, declination=0.7, pauses=0.01, accent=0.8, energy_slope=0.8, tilt=1.5,
    breath=1.5, jitter=0.3, shimmer=0.3, creak=0.05, tremor=0.05,
)  # fmt: skip
_SPREAD = Prosody(
    pitch=0.8, pitch_range=0.5, declination=0.8, tempo=0.08, pauses=0.02, accent=0.8,
    energy_slope=1.2, tilt=1.2, breath=1.2, jitter=0.25, shimmer=0.25, creak=0.06, tremor=0.06,
)  # fmt: skip

# Formant frequencies F1 to F3 in Hz of a man's voice (Peterson & Barney, JASA 24, 1952).
_VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
_BANDWIDTHS = (70.0, 95.0, 130.0)
# (Hz, bandwidth) of the formants above, which hardly move; those over 5 kHz keep the spectrum
# from falling faster than a tube's.
_UPPER_FORMANTS = ((3500, 200.0), (4500, 280.0), (5500, 400.0), (6500, 500.0), (7500, 600.0))
_REST = (500, 1500, 2500)


@dataclasses.dataclass(frozen=True)
class _Consonant:
    """A consonant: share of a vowel's voicing, formant locus (Hz), and its noise, if any.

    ``noise`` is (low Hz, high Hz, level); ``burst`` puts it at the end, after a closure.
    """

    voicing: float
    locus: tuple[int, int, int]
    noise: tuple[int, int, float] | None = None
    burst: bool = False


_CONSONANTS = {
    "s": _Consonant(0.0, (320, 1390, 2530), (3800, 7400, 0.20)),
    "ʃ": _Consonant(0.0, (300, 1840, 2750), (1900, 5200, 0.24)),
    "f": _Consonant(0.0, (340, 1100, 2080), (1200, 7400, 0.06)),
    "v": _Consonant(0.35, (280, 1060, 2080), (1200, 7400, 0.03)),
    "p": _Consonant(0.0, (400, 1100, 2150), (400, 1800, 0.20), burst=True),
    "t": _Consonant(0.0, (400, 1600, 2600), (3000, 6500, 0.30), burst=True),
    "k": _Consonant(0.0, (300, 1990, 2850), (1500, 3200, 0.28), burst=True),
    "b": _Consonant(0.15, (200, 900, 2100), (400, 1800, 0.10), burst=True),
    "d": _Consonant(0.15, (200, 1600, 2600), (3000, 6500, 0.12), burst=True),
    "m": _Consonant(0.35, (280, 1000, 2200)),
    "n": _Consonant(0.35, (280, 1700, 2600)),
    "l": _Consonant(0.50, (310, 1050, 2880)),
}
_CODAS = ("s", "n", "m", "l", "t")


@dataclasses.dataclass(frozen=True)
class _Speaker:
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


@dataclasses.dataclass(frozen=True)
class _Phone:
    """A stretch of one phone: its name ("" is a pause), its syllable, its time in seconds."""

    name: str
    syllable: int
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class _Syllable:
    """Phone names of a syllable and whether it is stressed."""

    onset: str
    vowel: str
    coda: str
    stressed: bool


@functools.cache
def _values(prosody: Prosody) -> np.ndarray:
    values = np.array(dataclasses.astuple(prosody), dtype=np.float64)
    values.flags.writeable = False
    return values


def _rng(*key: int) -> np.random.Generator:
    """A generator of its own for every key, so that nothing depends on the order of making."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([VERSION, *key])))


def _make_speakers(seed: int, count: int) -> list[_Speaker]:
    """``count`` voices, women and men in turn, dealt in pairs to train, val and test."""
    pairs = count // 2
    held_out = max(1, round(pairs * 0.2))
    speakers = []
    for number in range(count):
        rng = _rng(seed, 1, number)
        female = number % 2 == 0
        pair = number // 2
        split: Split = (
            "test" if pair >= pairs - held_out else
            "val" if pair >= pairs - 2 * held_out else "train"
        )  # fmt: skip
        speakers.append(
            _Speaker(
                number=number,
                gender="female" if female else "male",
                split=split,
                pitch=(200.0 if female else 112.0) * 2 ** rng.uniform(-0.2, 0.2),
                formant_scale=(1.16 if female else 1.0) * rng.uniform(0.95, 1.05),
                formant_shift=tuple(rng.uniform(0.96, 1.04, 3)),
                syllable_rate=4.8 * 2 ** rng.uniform(-0.15, 0.15),
                open_quotient=rng.uniform(0.55, 0.72) + (0.05 if female else 0.0),
                habits=_values(_HABITS) * rng.standard_normal(len(_values(_HABITS))),
                expression=rng.uniform(0.7, 1.2, len(_values(_HABITS))),
                gain=rng.uniform(-14, -3),
                snr=rng.uniform(28, 45),
            )
        )
    return speakers


def _make_sentence(rng: np.random.Generator, syllables: int) -> list[_Syllable]:
    """Nonsense words of two or three syllables, each with one stress."""
    onsets, vowels = list(_CONSONANTS), list(_VOWELS)
    sentence: list[_Syllable] = []
    while len(sentence) < syllables:
        length = int(rng.integers(2, 4))
        stressed = int(rng.integers(length))
        for place in range(length):
            coda = _CODAS[rng.integers(len(_CODAS))] if rng.random() < 0.25 else ""
            sentence.append(
                _Syllable(
                    onset=onsets[rng.integers(len(onsets))],
                    vowel=vowels[rng.integers(len(vowels))],
                    coda=coda,
                    stressed=place == stressed,
                )
            )
    return sentence


def _draw_manner(rng: np.random.Generator, speaker: _Speaker, label: str) -> Prosody:
    """How this speaker says one utterance with this emotion; many are weak, some lean over."""
    emotion = _values(EMOTIONS[label])
    if rng.random() < _CONFUSION:
        lean = rng.uniform(0.2, 0.45)
        emotion = (1 - lean) * emotion + lean * _values(EMOTIONS[_CONFUSED_WITH[label]])
    intensity = rng.uniform(0.6, 1.0)
    manner = _values(_NEUTRAL) + speaker.habits + intensity * speaker.expression * emotion
    manner += _values(_SPREAD) * rng.standard_normal(len(manner))
    return Prosody(*np.clip(manner, _values(_LOWEST), _values(_HIGHEST)).tolist())


def _time_phones(
    rng: np.random.Generator,
    sentence: list[_Syllable],
    speaker: _Speaker,
    manner: Prosody,
    seconds: float,
) -> list[_Phone]:
    """As many syllables of the sentence as fit between a silence at either end."""
    syllable_time = 1 / (speaker.syllable_rate * 2**manner.tempo)
    now = rng.uniform(0.03, 0.1)
    end = seconds - rng.uniform(0.03, 0.08)
    phones = [_Phone("", 0, 0.0, now)]
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
            phones.append(_Phone(name, index, now, now + share * length))
            now += share * length
        if pause:
            phones.append(_Phone("", index, now, now + pause))
            now += pause
    return [*phones, _Phone("", phones[-1].syllable, now, seconds)]


def _smooth(track: np.ndarray, frames: int) -> np.ndarray:
    """``track [frames, ...]`` convolved in time with a Hann window; ends are held."""
    window = np.hanning(frames + 2)[1:-1]
    padded = np.pad(track, [(frames // 2, frames - 1 - frames // 2)] + [(0, 0)] * (track.ndim - 1),
                    mode="edge")  # fmt: skip
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)
    return windows @ (window / window.sum())


def _glottal_source(
    rng: np.random.Generator, f0: Waveform, manner: Prosody, open_quotient: float
) -> tuple[Waveform, Waveform]:
    """Derivative of the glottal flow, and the opening (0 to 1) that lets breath through.

    The flow of a cycle is x² − x³ over its open part (Rosenberg; Klatt & Klatt's KLGLOTT88).
    The jump at closure is smoothed over a sample each way (polynomial BLEP) against aliasing.
    """
    phase = np.cumsum(f0) / SAMPLE_RATE + rng.random()
    cycles = np.arange(math.floor(phase[-1]) + 3)
    # Two marks lie outside the signal; np.interp would hold its ends, so go on with the end's f0.
    marks = np.interp(cycles, phase, np.arange(len(phase)))
    beyond = cycles > phase[-1]
    marks[beyond] += (cycles[beyond] - phase[-1]) * SAMPLE_RATE / f0[-1]
    before = cycles < phase[0]
    marks[before] += (cycles[before] - phase[0]) * SAMPLE_RATE / f0[0]
    periods = np.diff(marks, append=2 * marks[-1] - marks[-2])
    odd = cycles % 2
    shift = 0.008 * 2**manner.jitter * rng.standard_normal(len(marks)) + 0.12 * manner.creak * odd
    marks += np.clip(shift, -0.3, 0.3) * periods
    strength = np.exp(0.04 * 2**manner.shimmer * rng.standard_normal(len(marks)))
    strength *= 1 - 0.6 * manner.creak * odd

    samples = np.arange(len(f0))
    cycle = np.clip(np.searchsorted(marks, samples, side="right") - 1, 0, len(marks) - 2)
    period = marks[cycle + 1] - marks[cycle]
    within = np.clip((samples - marks[cycle]) / period, 0, 1)
    x = within / open_quotient
    flow = np.where(x < 1, 2 * x - 3 * x**2, 0.0)
    from_closure = (within - open_quotient) * period
    flow += np.where((from_closure > -1) & (from_closure < 0), (from_closure + 1) ** 2 / 2, 0)
    flow -= np.where((from_closure >= 0) & (from_closure < 1), (1 - from_closure) ** 2 / 2, 0)
    opening = np.where(x < 1, 6.75 * (x**2 - x**3), 0.0)
    return flow * strength[cycle], opening


@functools.lru_cache(maxsize=4)
def _delay(size: int) -> np.ndarray:
    """1/z at the frequencies of a real FFT of ``size`` samples."""
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    delay.flags.writeable = False
    return delay


def _filtered(sound: Waveform, response: np.ndarray) -> Waveform:
    """``sound`` through a filter given at the frequencies of its real FFT.

    It wraps around: for sounds that are silent or stationary at both ends.
    """
    return np.fft.irfft(np.fft.rfft(sound) * response, len(sound))


def _tilt_response(decibels: float, size: int) -> np.ndarray:
    """A one-pole low-pass of unity DC gain that loses ``decibels`` at 3 kHz."""
    power = 10 ** (-decibels / 10)
    if power > 1 - 1e-9:
        return np.ones(size // 2 + 1)
    half = 1 - power * math.cos(2 * math.pi * 3000 / SAMPLE_RATE)
    pole = (half - math.sqrt(half**2 - (1 - power) ** 2)) / (1 - power)
    return (1 - pole) / (1 - pole * _delay(size))


def _resonator(frequency: Any, bandwidth: float, delay: np.ndarray) -> np.ndarray:
    """Denominator of a second-order resonator of unity DC gain; ``delay`` is 1/z."""
    radius = math.exp(-math.pi * bandwidth / SAMPLE_RATE)
    first = -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE)
    return (1 + first * delay + radius**2 * delay**2) / (1 + first + radius**2)


def _formant_filter(source: Waveform, formants: np.ndarray, scale: float) -> Waveform:
    """Resonators in cascade: F1 to F3 follow ``formants [frames, 3]`` in Hz, the rest stay.

    Every control frame's filter runs on two frames of source under a Hann window, and the
    results overlap and add: a crossfade, so that a moving formant leaves no clicks.
    """
    frames = len(formants)
    size = 1024  # two frames and 44 ms, in which the narrowest formant decays by 80 dB
    window = np.hanning(2 * _FRAME + 1)[:-1]
    padded = np.pad(source, _FRAME)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * _FRAME)[::_FRAME][:frames]
    delay = _delay(size)
    above = np.ones_like(delay)
    for centre, bandwidth in _UPPER_FORMANTS:
        if centre * scale < SAMPLE_RATE / 2:
            above *= _resonator(centre * scale, bandwidth, delay)
    sounding = np.flatnonzero(pieces.any(axis=1))
    spectrum = np.fft.rfft(pieces[sounding] * window, size) / above
    for centre, bandwidth in zip(formants[sounding].T[:, :, None], _BANDWIDTHS, strict=True):
        spectrum /= _resonator(centre, bandwidth, delay)
    filtered = np.fft.irfft(spectrum, size)
    output = np.zeros((frames + size // _FRAME + 1) * _FRAME)
    for frame, piece in zip(sounding, filtered, strict=True):
        output[frame * _FRAME : frame * _FRAME + size] += piece
    return output[_FRAME : _FRAME + len(source)]


def _pitch_track(
    rng: np.random.Generator,
    sentence: list[_Syllable],
    syllable: np.ndarray,
    speaker: _Speaker,
    manner: Prosody,
) -> Track:
    """f0 in Hz per control frame: level, declination, an accent per stress, tremor."""
    time = np.linspace(0, 1, len(syllable))
    accents = np.array([s.stressed - 0.4 for s in sentence]) * rng.uniform(0.6, 1.4, len(sentence))
    semitones = manner.pitch + manner.declination * (0.5 - time)
    semitones += _smooth(manner.pitch_range * accents[syllable], 15)
    cycles = rng.uniform(5.0, 6.5) * len(syllable) * _FRAME / SAMPLE_RATE
    semitones += manner.tremor * np.sin(2 * np.pi * (cycles * time + rng.random()))
    return np.clip(speaker.pitch * 2 ** (semitones / 12), 55.0, 650.0)


def _frication(rng: np.random.Generator, phones: list[_Phone], samples: int) -> Waveform:
    """The noise of fricatives and bursts: white noise through first-order band-passes."""
    output = np.zeros(samples)
    for phone in phones:
        consonant = _CONSONANTS.get(phone.name)
        if consonant is None or consonant.noise is None:
            continue
        low, high, level = consonant.noise
        start = max(phone.start, phone.end - 0.022) if consonant.burst else phone.start
        first, last = int(start * SAMPLE_RATE), int(phone.end * SAMPLE_RATE)
        noise = rng.standard_normal(last - first)
        frequency = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
        width = frequency * (high - low)
        response = width / np.maximum(np.hypot(width, frequency**2 - low * high), 1e-9)
        output[first:last] += level * _filtered(noise, response) * np.hanning(last - first)
    return output


def _articulate(
    phones: list[_Phone], speaker: _Speaker, frames: int
) -> tuple[Int[np.ndarray, " frames"], Track, Float[np.ndarray, "frames 3"]]:
    """Per control frame: the syllable's index, the share of voicing, and F1 to F3 in Hz."""
    ends = np.array([phone.end for phone in phones])
    times = np.arange(frames) * _FRAME / SAMPLE_RATE
    phone = np.clip(np.searchsorted(ends, times, side="right"), 0, len(phones) - 1)
    targets, voicing = [], []
    for name in (p.name for p in phones):
        consonant = _CONSONANTS.get(name)
        if consonant is not None:
            targets.append(consonant.locus)
            voicing.append(consonant.voicing)
        else:
            targets.append(_VOWELS.get(name, _REST))
            voicing.append(1.0 if name else 0.0)
    scale = speaker.formant_scale * np.array(speaker.formant_shift)
    formants = _smooth(np.array(targets, float)[phone], 7) * scale
    syllable = np.array([p.syllable for p in phones])
    return syllable[phone], np.array(voicing)[phone], formants


def _phonate(
    rng: np.random.Generator, f0: Waveform, manner: Prosody, speaker: _Speaker
) -> Waveform:
    """What leaves the larynx: tilted pulses, and breath that follows the opening of the glottis."""
    flow, opening = _glottal_source(rng, f0, manner, speaker.open_quotient)
    flow = _filtered(flow, _tilt_response(manner.tilt, len(flow)))
    breath = rng.standard_normal(len(flow)) * (0.3 + 0.7 * opening)
    return flow + 0.006 * 10 ** (manner.breath / 20) * breath


def _synthesize(
    seed: int, speaker: _Speaker, label: str, take: int, seconds: float
) -> Int16[np.ndarray, " samples"]:
    """One utterance as 16-bit samples."""
    samples = round(seconds * SAMPLE_RATE)
    frames = -(-samples // _FRAME)
    rng = _rng(seed, 2, speaker.number, LABELS.index(label), take)
    # The sentence has a key without speaker and label: what is said tells no emotion.
    sentence = _make_sentence(_rng(seed, 3, take), math.ceil(12 * seconds))
    manner = _draw_manner(rng, speaker, label)
    phones = _time_phones(rng, sentence, speaker, manner, seconds)
    syllable, voicing, formants = _articulate(phones, speaker, frames)

    def per_sample(track: Track) -> Waveform:
        return np.interp(np.arange(frames * _FRAME) / _FRAME, np.arange(frames), track)

    stress = np.array([s.stressed - 0.5 for s in sentence])[syllable]
    rise = manner.energy_slope * np.linspace(-0.5, 0.5, frames)
    loudness = 10 ** (_smooth(manner.accent * stress + rise, 5) / 20)
    f0 = _pitch_track(rng, sentence, syllable, speaker, manner)
    larynx = _phonate(rng, per_sample(f0), manner, speaker)
    larynx *= per_sample(_smooth(voicing, 3) * loudness)
    voice = _formant_filter(larynx, formants, speaker.formant_scale)
    voice /= np.sqrt(np.mean(voice[np.repeat(voicing == 1, _FRAME)] ** 2))
    noise = _frication(rng, phones, len(voice)) * per_sample(loudness)
    return _record(rng, (voice + noise)[:samples], speaker)


def _record(
    rng: np.random.Generator, speech: Waveform, speaker: _Speaker
) -> Int16[np.ndarray, " samples"]:
    """What the microphone gives: no rumble, background noise, a level, 16 bits, no clipping."""
    frequency = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE)
    speech = _filtered(speech, frequency**2 / (frequency**2 + 60.0**2))
    background = rng.standard_normal(len(speech))
    background = _filtered(background, 1 / (1 - 0.9 * _delay(len(speech))))
    background *= np.std(speech) / np.std(background) * 10 ** (-speaker.snr / 20)
    recorded = speech + background
    peak = 10 ** ((speaker.gain + rng.uniform(-2, 2)) / 20)
    return np.rint(recorded / np.abs(recorded).max() * peak * 32767).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """All that the bytes of a corpus depend on."""

    version: int
    seed: int
    speakers: int
    utterances_per_speaker_and_emotion: int
    seconds: float

    def __post_init__(self) -> None:
        if self.speakers < 6 or self.speakers % 2:
            raise InputError(
                f"a synthetic corpus of {self.speakers} speakers cannot be split: give an even "
                "number from 6 up, so that train, val and test each get a woman and a man."
            )
        if self.utterances_per_speaker_and_emotion < 1:
            raise InputError(
                "a synthetic corpus needs 1 or more utterances per speaker and emotion, got "
                f"{self.utterances_per_speaker_and_emotion}."
            )
        if not 1 <= self.seconds <= 30:
            raise InputError(
                f"synthetic utterances last 1 to 30 seconds, so {self.seconds} cannot be made."
            )
        if self.seed < 0:
            raise InputError(f"the seed of a synthetic corpus is 0 or more, got {self.seed}.")

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)


def _write_wav(path: Path, samples: Int16[np.ndarray, " samples"]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def _write_corpus(folder: Path, settings: _Settings) -> None:
    (folder / _WAV_FOLDER).mkdir()
    rows = []
    for speaker in _make_speakers(settings.seed, settings.speakers):
        for label in LABELS:
            for take in range(settings.utterances_per_speaker_and_emotion):
                name = f"syn_{speaker.name}_{speaker.gender[0]}_{label}_{take:02d}.wav"
                file = f"{_WAV_FOLDER}/{name}"
                samples = _synthesize(settings.seed, speaker, label, take, settings.seconds)
                _write_wav(folder / file, samples)
                rows.append((file, label, speaker.name, speaker.gender, speaker.split))
    with (folder / _MANIFEST_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "label", "speaker", "gender", "split"))
        writer.writerows(rows)
    (folder / _README_FILE).write_text(_README, encoding="utf-8")
    settings_text = json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
    (folder / _SETTINGS_FILE).write_text(settings_text, encoding="utf-8")


def generate(
    root: Path | str,
    *,
    seed: int = 0,
    speakers: int = 20,
    utterances_per_speaker_and_emotion: int = 10,
    seconds: float = 1.25,
) -> None:
    """Make a synthetic corpus at ``root``: WAV files (16 kHz, 16 bits, mono) and a manifest.

    The same settings give the same files. Everything is written to a temporary folder beside
    ``root`` first, so that ``root`` is whole or absent. What was made before with the same
    settings is kept as it is.

    Args:
      root: a folder that is absent or empty, or holds this very corpus.
      seed: of all voices, sentences and sounds.
      speakers: an even number from 6 up, women and men in turn; about a fifth of the pairs go to
        val and a fifth to test.
      utterances_per_speaker_and_emotion: how often a speaker says something with each emotion.
      seconds: length of every file.

    Raises:
      InputError: ``root`` holds something else, cannot be written, or a setting is out of range.
    """
    settings = _Settings(VERSION, seed, speakers, utterances_per_speaker_and_emotion, seconds)
    # Links are followed, so that the temporary folder lies on the same disk as the final one.
    root = Path(root).resolve()
    if _is_kept(root, settings):
        return
    temporary = root.with_name(f".{root.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        _write_corpus(temporary, settings)
        with contextlib.suppress(FileNotFoundError):
            root.rmdir()
        temporary.rename(root)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and _is_kept(root, settings):
            return  # another process was quicker
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"synthetic speech cannot be put at {root} ({error.strerror}); give another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_kept(root: Path, settings: _Settings) -> bool:
    """Whether ``root`` holds the corpus of these settings already."""
    found = _find(root)
    if found is not None and found != settings:
        raise InputError(
            f"{root} holds synthetic speech of other settings ({found}); give another folder."
        )
    return found is not None


def _find(root: Path) -> _Settings | None:
    """Settings of the whole synthetic corpus at ``root``; None where there is nothing yet.

    Raises:
      InputError: there is something else, or only a part.
    """
    if not root.exists():
        return None
    if not root.is_dir():
        raise InputError(f"{root} is a file; give a folder for synthetic speech.")
    if not any(root.iterdir()):
        return None
    path = root / _SETTINGS_FILE
    if not path.is_file():
        raise InputError(
            f"{root} holds files that are not synthetic speech (there is no {_SETTINGS_FILE}); "
            "give an empty folder or one that does not exist."
        )
    try:
        settings = _Settings(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged; delete {root}, and it is made again.") from error
    if settings.version != VERSION:
        raise InputError(
            f"{root} was made by version {settings.version} of the generator, and this is version "
            f"{VERSION}; delete the folder, and it is made again."
        )
    size = _WAV_HEADER_BYTES + 2 * settings.samples
    whole = [u for u in _read_manifest(root) if _size(u.path) == size]
    expected = settings.speakers * len(LABELS) * settings.utterances_per_speaker_and_emotion
    if len(whole) != expected:
        raise InputError(
            f"{root} holds {len(whole)} of {expected} files of synthetic speech, the others are "
            "missing or cut short; delete the folder, and it is made again."
        )
    return settings


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_manifest(root: Path) -> list[Utterance]:
    return csv_table.SPEC.read(root / _MANIFEST_FILE)


def read(root: Path | str, *, seed: int | None = None) -> list[Utterance]:
    """The utterances of the synthetic corpus at ``root``, which is made if it is not there.

    Args:
      root: a folder that is absent or empty, or holds a synthetic corpus of any settings.
      seed: of a corpus that must be made (0 by default); one that is there must have it.

    Raises:
      InputError: ``root`` holds something else, a part of a corpus, or one of another seed.
    """
    root = Path(root)
    found = _find(root)
    if found is None:
        generate(root, seed=seed or 0)
    elif seed is not None and seed != found.seed:
        raise InputError(
            f"{root} holds synthetic speech of seed {found.seed}, not {seed}; give another folder."
        )
    return _read_manifest(root)


def _left_out(root: Path) -> list[LeftOut]:
    known = {utterance.path for utterance in _read_manifest(root)}
    return [
        LeftOut(path, "stray", f"{_MANIFEST_FILE} does not name it")
        for path in audio_files(root)
        if path not in known
    ]


SPEC = CorpusSpec(
    name="synthetic",
    title="synthetic speech",
    language="none",
    labels=LABELS,
    read=read,
    left_out=_left_out,
    layout=f"{_MANIFEST_FILE}, {_SETTINGS_FILE} and {_WAV_FOLDER}/syn_s01_f_anger_00.wav and so on",
    options=("seed",),
    sample_rate=SAMPLE_RATE,
    channels=1,
    companions=(_MANIFEST_FILE, _SETTINGS_FILE, _README_FILE),
    standard_split="given",
    licence="made from code, free",
    obtain="Synthetic speech is made where it is first asked for.",
    notes=(_NOTE,),
    quirks=(
        "nobody spoke it: an emotion is a setting of prosody and voice quality",
        "all speakers say the same nonsense, so that what is said tells no emotion",
    ),
    synthetic=True,
)
