"""Formants: where the phones put them, the resonators they are, and the noise of consonants.

syllable, voicing, formants = articulate(phones, speaker, frames)
voice = formant_filter(larynx, formants, speaker.formant_scale)
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxser.corpora.synthetic.filters import (
    FRAME,
    SAMPLE_RATE,
    Track,
    Waveform,
    filtered,
    smooth,
    unit_delay,
)
from jaxser.corpora.synthetic.sentences import CONSONANTS, VOWELS, Phone
from jaxser.corpora.synthetic.speakers import Speaker

__all__ = ["BANDWIDTHS", "UPPER_FORMANTS", "articulate", "formant_filter", "frication"]

# Bandwidths of F1 to F3 in Hz.
BANDWIDTHS = (70.0, 95.0, 130.0)
# (Hz, bandwidth) of the formants above, which hardly move; those over 5 kHz keep the spectrum
# from falling faster than a tube's.
UPPER_FORMANTS = ((3500, 200.0), (4500, 280.0), (5500, 400.0), (6500, 500.0), (7500, 600.0))
_REST = (500, 1500, 2500)


def articulate(
    phones: list[Phone], speaker: Speaker, frames: int
) -> tuple[Int[np.ndarray, " frames"], Track, Float[np.ndarray, "frames 3"]]:
    """Per control frame: the syllable's index, the share of voicing, and F1 to F3 in Hz."""
    ends = np.array([phone.end for phone in phones])
    times = np.arange(frames) * FRAME / SAMPLE_RATE
    phone = np.clip(np.searchsorted(ends, times, side="right"), 0, len(phones) - 1)
    targets, voicing = [], []
    for name in (p.name for p in phones):
        consonant = CONSONANTS.get(name)
        if consonant is not None:
            targets.append(consonant.locus)
            voicing.append(consonant.voicing)
        else:
            targets.append(VOWELS.get(name, _REST))
            voicing.append(1.0 if name else 0.0)
    scale = speaker.formant_scale * np.array(speaker.formant_shift)
    formants = smooth(np.array(targets, float)[phone], 7) * scale
    syllable = np.array([p.syllable for p in phones])
    return syllable[phone], np.array(voicing)[phone], formants


def _resonator(frequency: Any, bandwidth: float, delay: np.ndarray) -> np.ndarray:
    """Denominator of a second-order resonator of unity DC gain; ``delay`` is 1/z."""
    radius = math.exp(-math.pi * bandwidth / SAMPLE_RATE)
    first = -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE)
    return (1 + first * delay + radius**2 * delay**2) / (1 + first + radius**2)


def formant_filter(source: Waveform, formants: np.ndarray, scale: float) -> Waveform:
    """Resonators in cascade: F1 to F3 follow ``formants [frames, 3]`` in Hz, the rest stay.

    Every control frame's filter runs on two frames of source under a Hann window, and the
    results overlap and add: a crossfade, so that a moving formant leaves no clicks.
    """
    frames = len(formants)
    size = 1024  # two frames and 44 ms, in which the narrowest formant decays by 80 dB
    window = np.hanning(2 * FRAME + 1)[:-1]
    padded = np.pad(source, FRAME)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * FRAME)[::FRAME][:frames]
    delay = unit_delay(size)
    above = np.ones_like(delay)
    for centre, bandwidth in UPPER_FORMANTS:
        if centre * scale < SAMPLE_RATE / 2:
            above *= _resonator(centre * scale, bandwidth, delay)
    sounding = np.flatnonzero(pieces.any(axis=1))
    spectrum = np.fft.rfft(pieces[sounding] * window, size) / above
    for centre, bandwidth in zip(formants[sounding].T[:, :, None], BANDWIDTHS, strict=True):
        spectrum /= _resonator(centre, bandwidth, delay)
    resonant = np.fft.irfft(spectrum, size)
    output = np.zeros((frames + size // FRAME + 1) * FRAME)
    for frame, piece in zip(sounding, resonant, strict=True):
        output[frame * FRAME : frame * FRAME + size] += piece
    return output[FRAME : FRAME + len(source)]


def frication(rng: np.random.Generator, phones: list[Phone], samples: int) -> Waveform:
    """The noise of fricatives and bursts: white noise through first-order band-passes."""
    output = np.zeros(samples)
    for phone in phones:
        consonant = CONSONANTS.get(phone.name)
        if consonant is None or consonant.noise is None:
            continue
        low, high, level = consonant.noise
        start = max(phone.start, phone.end - 0.022) if consonant.burst else phone.start
        first, last = int(start * SAMPLE_RATE), int(phone.end * SAMPLE_RATE)
        noise = rng.standard_normal(last - first)
        frequency = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
        width = frequency * (high - low)
        response = width / np.maximum(np.hypot(width, frequency**2 - low * high), 1e-9)
        output[first:last] += level * filtered(noise, response) * np.hanning(last - first)
    return output
