"""Images of speech as if they were rows of an array, made when they are read.

inputs = Images(victim, prepared.waveforms)      # victim in the domain "image" or "spectrogram"
inputs[[0, 7]]                                   # [2, 224, 224, 3] float32 in [0, 1]

An image takes ten times the memory of its speech, and a corpus has tens of thousands of windows.
"""

from typing import Any

import jax
import numpy as np

from jaxser.victims.victim import Victim

__all__ = ["Images"]

# Always as many, so that one program makes them, and an image does not depend on what it is read
# with.
_ROWS = 8


class Images:
    """What the front end of ``victim`` makes of waveforms.

    Attributes:
      shape: of all images.
      dtype: float32.
    """

    def __init__(self, victim: Victim, waveforms: Any) -> None:
        """Images of ``waveforms``, an array or anything that is read like one."""
        assert victim.front_end is not None
        self._features = jax.jit(victim.front_end.features)
        self._variables, self._waveforms = victim.variables, waveforms
        self.shape = (len(waveforms), *victim.input_shape)
        self.dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One image by its number, or an array of those that a slice, numbers or a mask name."""
        chosen = np.arange(len(self))[rows]
        flat = np.atleast_1d(chosen)
        out = np.empty((len(flat), *self.shape[1:]), np.float32)
        for start in range(0, len(flat), _ROWS):
            part = flat[start : start + _ROWS]
            x = np.asarray(self._waveforms[np.resize(part, _ROWS)])
            out[start : start + _ROWS] = np.asarray(self._features(self._variables, x))[: len(part)]
        return out if chosen.ndim else out[0]
