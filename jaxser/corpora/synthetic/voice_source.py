"""What leaves the larynx: pitch, glottal pulses, their tilt, and breath.

f0 = pitch_track(rng, sentence, syllable, speaker, manner)             # Hz per control frame
larynx = phonate(rng, f0_per_sample, manner, speaker)
"""

import math

import numpy as np

from jaxser.corpora.synthetic.emotions import Prosody
from jaxser.corpora.synthetic.filters import (
    FRAME,
    SAMPLE_RATE,
    Track,
    Waveform,
    filtered,
    smooth,
    unit_delay,
)
from jaxser.corpora.synthetic.sentences import Syllable
from jaxser.corpora.synthetic.speakers import Speaker

__all__ = ["glottal_source", "phonate", "pitch_track", "tilt_response"]


def pitch_track(
    rng: np.random.Generator,
    sentence: list[Syllable],
    syllable: np.ndarray,
    speaker: Speaker,
    manner: Prosody,
) -> Track:
    """f0 in Hz per control frame: level, declination, an accent per stress, tremor."""
    time = np.linspace(0, 1, len(syllable))
    accents = np.array([s.stressed - 0.4 for s in sentence]) * rng.uniform(0.6, 1.4, len(sentence))
    semitones = manner.pitch + manner.declination * (0.5 - time)
    semitones += smooth(manner.pitch_range * accents[syllable], 15)
    cycles = rng.uniform(5.0, 6.5) * len(syllable) * FRAME / SAMPLE_RATE
    semitones += manner.tremor * np.sin(2 * np.pi * (cycles * time + rng.random()))
    return np.clip(speaker.pitch * 2 ** (semitones / 12), 55.0, 650.0)


def phonate(rng: np.random.Generator, f0: Waveform, manner: Prosody, speaker: Speaker) -> Waveform:
    """What leaves the larynx: tilted pulses, and breath that follows the opening of the glottis."""
    flow, opening = glottal_source(rng, f0, manner, speaker.open_quotient)
    flow = filtered(flow, tilt_response(manner.tilt, len(flow)))
    breath = rng.standard_normal(len(flow)) * (0.3 + 0.7 * opening)
    return flow + 0.006 * 10 ** (manner.breath / 20) * breath


def glottal_source(
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


def tilt_response(decibels: float, size: int) -> np.ndarray:
    """A one-pole low-pass of unity DC gain that loses ``decibels`` at 3 kHz."""
    power = 10 ** (-decibels / 10)
    if power > 1 - 1e-9:
        return np.ones(size // 2 + 1)
    half = 1 - power * math.cos(2 * math.pi * 3000 / SAMPLE_RATE)
    pole = (half - math.sqrt(half**2 - (1 - power) ** 2)) / (1 - power)
    return (1 - pole) / (1 - pole * unit_delay(size))
