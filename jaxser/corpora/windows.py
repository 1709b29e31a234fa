"""Overlapping windows of every utterance, cut from one copy of the speech when they are read.

    starts = window_starts(40_000, 16_000, 16_000, stride_ms=10)    # of 2.5 s: 150 windows
    waveforms = Windows(flat, starts, stops, 16_000)
    waveforms[[0, 7]]                                               # [2, 16_000] float32

EmoDB has 95,000 windows of 1 s every 10 ms, which would be 6 GB; its speech is 90 MB.

Source: Echim et al., 2024, equation 1 (the number of windows), in integers.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxser.runtime.errors import InputError

__all__ = ["Windowing", "Windows", "window_starts"]


@dataclasses.dataclass(frozen=True)
class Windowing:
    """Every utterance is cut into overlapping windows of one length.

    Attributes:
      stride_ms: from the start of a window to that of the next, in milliseconds.
    """

    stride_ms: int = 10

    def __post_init__(self) -> None:
        if self.stride_ms < 1:
            raise InputError(
                f"stride_ms {self.stride_ms} moves no window; give 1 or more milliseconds."
            )


def window_starts(
    length: int, window: int, sample_rate: int, stride_ms: int
) -> Int[np.ndarray, " windows"]:
    """First samples of the windows of an utterance.

    There are ``ceil((length - window) / stride)`` of them, and one at least; of an utterance that
    is longer than a window they all lie inside it. In integers, since the quotient of rounded
    numbers gives a window too many now and then (16,160 samples every 10 ms).

    Args:
      length: of the utterance, in samples.
      window: samples of a window.
      sample_rate: in Hz.
      stride_ms: from window to window.
    """
    count = max(1, -(-(length - window) * 1000 // (sample_rate * stride_ms)))
    return np.arange(count, dtype=np.int64) * (sample_rate * stride_ms) // 1000


class Windows:
    """Windows of a flat array of speech as if they were rows of an array, copied when read.

    A window that reaches beyond the end of its utterance is filled up with zeros.

    Attributes:
      shape: ``(windows, samples)``.
      dtype: float32.
    """

    def __init__(
        self,
        flat: Float[np.ndarray, " samples"],
        starts: Int[np.ndarray, " windows"],
        stops: Int[np.ndarray, " windows"],
        window: int,
    ) -> None:
        """Windows of ``flat`` from ``starts``, each at most to ``stops``, of ``window`` samples."""
        self._flat, self._starts, self._stops = flat, starts, stops
        self.shape = (len(starts), window)
        self.dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return 2

    @property
    def nbytes(self) -> int:
        """Of the speech itself, which all windows share."""
        return int(self._flat.nbytes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One window by its number, or an array of those that a slice, numbers or a mask name."""
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._window(int(chosen))
        out = np.empty((len(chosen), self.shape[1]), np.float32)
        for place, row in enumerate(chosen):
            out[place] = self._window(int(row))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _window(self, row: int) -> np.ndarray:
        samples = self.shape[1]
        start = self._starts[row]
        speech = self._flat[start : min(start + samples, self._stops[row])]
        if len(speech) == samples:
            return np.array(speech)
        return np.concatenate([speech, np.zeros(samples - len(speech), np.float32)])
