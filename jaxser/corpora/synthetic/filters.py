"""Sample rate, control frames, and the filters that several stages use."""

import functools

import numpy as np
from jaxtyping import Float

__all__ = ["FRAME", "SAMPLE_RATE", "Track", "Waveform", "filtered", "smooth", "unit_delay"]

SAMPLE_RATE = 16_000  # Hz
FRAME = 160  # samples per control frame (10 ms)

Waveform = Float[np.ndarray, " samples"]
Track = Float[np.ndarray, " frames"]


def smooth(track: np.ndarray, frames: int) -> np.ndarray:
    """``track [frames, ...]`` convolved in time with a Hann window; ends are held."""
    window = np.hanning(frames + 2)[1:-1]
    padded = np.pad(track, [(frames // 2, frames - 1 - frames // 2)] + [(0, 0)] * (track.ndim - 1),
                    mode="edge")  # fmt: skip
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)
    return windows @ (window / window.sum())


@functools.lru_cache(maxsize=4)
def unit_delay(size: int) -> np.ndarray:
    """1/z at the frequencies of a real FFT of ``size`` samples."""
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    delay.flags.writeable = False
    return delay


def filtered(sound: Waveform, response: np.ndarray) -> Waveform:
    """``sound`` through a filter given at the frequencies of its real FFT.

    It wraps around: for sounds that are silent or stationary at both ends.
    """
    return np.fft.irfft(np.fft.rfft(sound) * response, len(sound))
