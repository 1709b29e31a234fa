"""Differentiable spectrograms: linear, mel, log-mel, MFCC and constant-Q, as librosa defines them.

    front_end = Spectrogram(kind="log_mel", n_fft=368, hop_length=184, n_mels=128)
    log_mel = front_end(waveforms)               # [batch, time] -> [batch, frames, 128]

Everything is batched, jit-compatible and has finite gradients on silence. Oracle: librosa 0.11
(McFee et al., SciPy 2015). The parts are in ``stft``, ``mel`` and ``constant_q``.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.forms import on_cpu
from jaxser.speech.constant_q import constant_q
from jaxser.speech.mel import banded_product, mel_filters
from jaxser.speech.stft import WINDOWS, Window, stft, window_function

__all__ = ["Kind", "Reference", "Spectrogram", "dct_matrix", "to_db"]

# On a CPU: samples at a time, so that all stages stay in the cache; parts of them that run beside
# each other, as inside a loop an FFT has one thread; and mel bands of one product, as each filter
# reads few frequencies.
_PIECE_SAMPLES, _PARTS, _BANDS = 400_000, 2, 32

Kind = Literal["linear", "mel", "log_mel", "mfcc", "cqt"]

# What is 0 dB: a power, or an utterance's smallest or largest.
Reference = float | Literal["min", "max"]


def to_db(
    power: Float[Array, "batch frames bins"],
    ref: Reference,
    amin: float,
    top_db: float | None,
) -> Float[Array, "batch frames bins"]:
    """``10 log10(power / ref)``, floored at ``amin`` and at ``top_db`` under the largest value.

    Args:
      power: of a spectrogram; the square of an amplitude (then ``amin`` is squared too).
      ref: 0 dB; "max" is each utterance's largest power, "min" its smallest.
      amin: smallest power.
      top_db: dynamic range per utterance, or None.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.features import to_db
      >>> print(to_db(jnp.array([[[1.0, 0.1, 0.0]]]), ref=1.0, amin=1e-10, top_db=80.0))
      [[[  0. -10. -80.]]]
    """
    decibel = _decibel(power, amin)
    # The largest value is found before the logarithm, which then needs no second pass.
    largest = _decibel(power.max(axis=(1, 2), keepdims=True), amin)
    if ref == "max":
        decibel = decibel - largest
        largest = jnp.zeros_like(largest)
    elif ref == "min":
        least = _decibel(power.min(axis=(1, 2), keepdims=True), amin)
        decibel, largest = decibel - least, largest - least
    else:
        offset = 10.0 * math.log10(max(amin, ref))
        decibel, largest = decibel - offset, largest - offset
    return decibel if top_db is None else jnp.maximum(decibel, largest - top_db)


def _decibel(power: Array, amin: float) -> Array:
    return 10.0 / math.log(10.0) * jnp.log(jnp.maximum(power, amin))


def dct_matrix(n_in: int, n_out: int) -> Float[np.ndarray, "n_in n_out"]:
    """Orthonormal DCT-II as a matrix to multiply with from the right.

    Examples:
      >>> import numpy as np
      >>> from jaxser.speech.features import dct_matrix
      >>> matrix = dct_matrix(4, 4)
      >>> bool(np.allclose(matrix.T @ matrix, np.eye(4)))  # orthonormal
      True
    """
    angle = np.pi / n_in * (np.arange(n_in)[:, None] + 0.5) * np.arange(n_out)[None]
    matrix = np.sqrt(2.0 / n_in) * np.cos(angle)
    matrix[:, 0] /= math.sqrt(2.0)
    return matrix


@dataclasses.dataclass(frozen=True)
class Spectrogram:
    """A front end ``[batch, time] -> [batch, frames, bins]``.

    Attributes:
      kind: "linear", "mel" (power or amplitude), "log_mel" (dB), "mfcc" or "cqt" (dB).
      sample_rate: in Hz.
      n_fft: frame length in samples.
      win_length: window length; the window is centred in the frame. None: ``n_fft``.
      hop_length: samples from frame to frame.
      window: "hann", "hamming", "blackman" or "ones", periodic.
      center: frame ``i`` is centred at sample ``i * hop_length``, with zeros beyond the ends.
      power: 2 for power, 1 for amplitude, of linear and mel spectrograms.
      n_mels, fmin, fmax, htk, slaney_norm: mel filters; ``fmax`` None: half the sample rate.
      n_mfcc: coefficients.
      n_bins, bins_per_octave: of the constant-Q transform, upwards from ``fmin``.
      db: give linear and mel spectrograms in dB too.
      squared: take dB of the squared values, as ``librosa.amplitude_to_db`` does. None: where
        they are amplitudes. True with ``power`` 2 is what Facchinetti et al. fed their victims.
      ref, amin, top_db: of the dB, see :func:`to_db`; ``amin`` is a power.

    Examples:
      A tone of 1 kHz is loudest in the bin of 1 kHz: the 32nd of bins that are 31.25 Hz apart.

      >>> import jax.numpy as jnp
      >>> from jaxser.speech.features import Spectrogram
      >>> tone = jnp.sin(2 * jnp.pi * 1_000 * jnp.arange(4_000) / 16_000)[None]
      >>> spectrogram = Spectrogram(kind="linear", n_fft=512, hop_length=128)(tone)
      >>> spectrogram.shape, int(spectrogram[0, 16].argmax())
      ((1, 32, 257), 32)
    """

    kind: Kind = "log_mel"
    sample_rate: int = 16_000
    n_fft: int = 512
    win_length: int | None = None
    hop_length: int = 128
    window: Window = "hann"
    center: bool = True
    power: Literal[1, 2] = 2
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    slaney_norm: bool = True
    n_mfcc: int = 20
    n_bins: int = 84
    bins_per_octave: int = 12
    db: bool = False
    squared: bool | None = None
    ref: Reference = 1.0
    amin: float = 1e-10
    top_db: float | None = 80.0

    def __post_init__(self) -> None:
        nyquist = self.sample_rate / 2
        if self.window not in WINDOWS:
            raise UsageError(f"window must be one of {', '.join(WINDOWS)}, not {self.window!r}.")
        for name in ("n_fft", "hop_length", "n_mels", "n_mfcc", "n_bins", "bins_per_octave"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if (self.win_length or self.n_fft) > self.n_fft:
            raise UsageError(
                f"win_length {self.win_length} is longer than n_fft {self.n_fft}; give a smaller "
                "one."
            )
        if self.fmax is not None and self.fmax > nyquist:
            raise UsageError(
                f"the mel bands reach {self.fmax:g} Hz, above half the sample rate "
                f"({nyquist:g} Hz); give a smaller fmax."
            )
        top = nyquist if self.fmax is None else self.fmax
        # Filters without a width between them are all zero, or NaN.
        if self.kind in ("mel", "log_mel", "mfcc") and not 0 <= self.fmin < top:
            raise UsageError(
                f"the mel bands go from {self.fmin:g} to {top:g} Hz; give an fmin below {top:g}."
            )
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise UsageError(
                f"there are no {self.n_mfcc} coefficients of {self.n_mels} mel bands; give n_mels "
                f"of at least {self.n_mfcc} or a smaller n_mfcc."
            )
        if self.amin <= 0 or (self.top_db is not None and self.top_db < 0):
            raise UsageError("amin must be positive and top_db not negative.")
        if self.ref not in ("min", "max") and not 0 < float(self.ref) < math.inf:
            raise UsageError(f"ref must be a power over 0, min or max, not {self.ref}.")
        if self.kind == "cqt":
            if self.fmin <= 0:
                raise UsageError("a constant-Q transform needs fmin > 0, such as 32.7.")
            highest = self.fmin * 2 ** (self.n_bins / self.bins_per_octave)
            if highest > nyquist:
                raise UsageError(
                    f"the constant-Q bins reach {highest:.0f} Hz, above half the sample rate "
                    f"({nyquist:g} Hz); give fewer n_bins, more bins_per_octave or a smaller fmin."
                )

    @property
    def bins(self) -> int:
        """Size of the last axis."""
        return {
            "linear": self.n_fft // 2 + 1,
            "mel": self.n_mels,
            "log_mel": self.n_mels,
            "mfcc": self.n_mfcc,
            "cqt": self.n_bins,
        }[self.kind]

    @property
    def takes_squares(self) -> bool:
        """Whether dB are taken of the squared values."""
        return self.power == 1 if self.squared is None else self.squared

    def empty_bands(self) -> int:
        """Mel bands between whose edges no frequency of the FFT lies: they are silent, always."""
        if self.kind not in ("mel", "log_mel", "mfcc"):
            return 0
        return int((~self._mel().any(axis=0)).sum())

    def frames(self, samples: int) -> int:
        """Number of frames of an utterance of so many samples.

        Raises:
          InputError: the utterance is shorter than a frame.
        """
        if self.center or self.kind == "cqt":
            return 1 + samples // self.hop_length
        if samples < self.n_fft:
            raise InputError(
                f"an utterance of {samples} samples is shorter than the window of {self.n_fft}; "
                "use center, a smaller n_fft or longer utterances."
            )
        return 1 + (samples - self.n_fft) // self.hop_length

    def __call__(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames bins"]:
        """The spectrogram of each waveform."""
        self.frames(x.shape[1])
        if not on_cpu():
            # All at once: pieces are for a CPU's cache and its threads.
            return self._of(x)
        rows, samples = x.shape
        most = max(1, _PIECE_SAMPLES // samples)
        piece = max(n for n in range(1, most + 1) if rows % n == 0)
        # The gradient makes a piece again, which takes less time than to keep its spectra. The loop
        # below keeps the compiler from sharing the two passes, so it need not be told to.
        of = jax.checkpoint(self._of, prevent_cse=False)

        def of_piece(x: Array) -> Array:
            return jnp.concatenate([of(part) for part in jnp.split(x, math.gcd(piece, _PARTS))])

        parts = jax.lax.map(of_piece, x.reshape(-1, piece, samples))
        return parts.reshape(rows, *parts.shape[2:])

    def _of(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames bins"]:
        if self.kind == "cqt":
            power = constant_q(
                x, self.sample_rate, self.hop_length, self.fmin, self.n_bins, self.bins_per_octave
            )
            return to_db(power, self.ref, self.amin, self.top_db)
        spectrum = stft(x, self.n_fft, self.hop_length, self._window(), self.center)
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        values = power if self.power == 2 else _safe_sqrt(power)
        if self.kind != "linear":
            width = _BANDS if on_cpu() else self.n_mels
            values = banded_product(values, self._mel(), width)
        if self.kind in ("linear", "mel") and not self.db:
            return values
        of = jnp.square(values) if self.takes_squares else values
        decibel = to_db(of, self.ref, self.amin, self.top_db)
        if self.kind != "mfcc":
            return decibel
        return decibel @ jnp.asarray(dct_matrix(self.n_mels, self.n_mfcc), x.dtype)

    def _window(self) -> np.ndarray:
        length = self.win_length or self.n_fft
        window = window_function(self.window, length)
        left = (self.n_fft - length) // 2
        return np.pad(window, (left, self.n_fft - length - left))

    def _mel(self) -> np.ndarray:
        fmax = self.sample_rate / 2 if self.fmax is None else self.fmax
        return _cached_mel_filters(
            self.sample_rate, self.n_fft, self.n_mels, self.fmin, fmax, self.htk, self.slaney_norm
        )


# Every program that is traced asks for the same few.
_cached_mel_filters = functools.lru_cache(maxsize=8)(mel_filters)


def _safe_sqrt(x: Array) -> Array:
    """Square root with gradient 0 at 0.

    The inner ``where`` is needed, too: the gradient of both branches is computed, and that of the
    root at 0 is infinite, which times 0 is NaN.
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
