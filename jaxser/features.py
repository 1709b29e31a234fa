"""Differentiable spectrograms: linear, mel, log-mel, MFCC and constant-Q, as librosa defines them.

    front_end = Spectrogram(kind="log_mel", n_fft=368, hop_length=184, n_mels=128)
    log_mel = front_end(waveforms)               # [batch, time] -> [batch, frames, 128]

Everything is batched, jit-compatible and has finite gradients on silence. Oracle: librosa 0.11
(McFee et al., SciPy 2015); the constant-Q transform follows Schörkhuber & Klapuri (SMC 2010) but
filters every octave at the full sample rate, where librosa halves it by resampling.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxser.errors import InputError, UsageError

__all__ = [
    "Spectrogram",
    "constant_q",
    "dct_matrix",
    "mel_filters",
    "stft",
    "to_db",
    "window_function",
]

# On a CPU: samples at a time, so that all stages stay in the cache; parts of them that run beside
# each other, as inside a loop an FFT has one thread; and mel bands of one product, as each filter
# reads few frequencies.
_PIECE_SAMPLES, _PARTS, _BANDS = 400_000, 2, 32

Kind = Literal["linear", "mel", "log_mel", "mfcc", "cqt"]
Window = Literal["hann", "hamming", "blackman", "ones"]

# Cosine coefficients of the periodic windows.
_WINDOWS: dict[str, tuple[float, ...]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "ones": (1.0,),
}


def window_function(name: Window, length: int) -> Float[np.ndarray, " length"]:
    """A periodic window (``scipy.signal.get_window`` with ``fftbins=True``)."""
    angle = 2.0 * np.pi * np.arange(length) / length
    return sum(
        (-1.0) ** k * coefficient * np.cos(k * angle)
        for k, coefficient in enumerate(_WINDOWS[name])
    ) * np.ones(length)


def windowed_frames(
    x: Float[Array, "batch time"], window: Float[np.ndarray, " frame_length"], hop_length: int
) -> Float[Array, "batch frames frame_length"]:
    """Overlapping frames times ``window``, without a gather where the hop divides the frame.

    The gradient of slices and a stack is a sum of padded slices; that of a gather is a scatter,
    which is many times slower.
    """
    length = len(window)
    count = 1 + (x.shape[1] - length) // hop_length
    weights = jnp.asarray(window, x.dtype)
    if length % hop_length:
        index = np.arange(count)[:, None] * hop_length + np.arange(length)[None]
        return x[:, index] * weights[None, None]
    parts = length // hop_length
    blocks = x[:, : (count + parts - 1) * hop_length].reshape(x.shape[0], -1, hop_length)
    weights = weights.reshape(parts, hop_length)
    frames = [blocks[:, i : i + count] * weights[i][None, None] for i in range(parts)]
    return jnp.stack(frames, axis=2).reshape(x.shape[0], count, length)


def stft(
    x: Float[Array, "batch time"],
    n_fft: int,
    hop_length: int,
    window: Float[np.ndarray, " n_fft"],
    center: bool = True,
) -> Float[Array, "batch frames bins"]:
    """Complex short-time Fourier transform, ``bins = n_fft // 2 + 1``.

    Args:
      x: waveforms.
      n_fft: frame length; with ``center`` the signal is padded by half of it with zeros.
      hop_length: samples from frame to frame.
      window: already as long as a frame.
      center: frame ``i`` is centred at sample ``i * hop_length``.
    """
    if center:
        # jnp.pad does the same, three times slower on a CPU.
        zeros = jnp.zeros((x.shape[0], n_fft // 2), x.dtype)
        x = jnp.concatenate([zeros, x, zeros], axis=1)
    return jnp.fft.rfft(windowed_frames(x, window, hop_length), axis=-1)


def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool, norm: bool
) -> Float[np.ndarray, "bins n_mels"]:
    """Triangular mel filters (Slaney's scale, or HTK's), of equal area where ``norm``."""
    centres = _mel_to_hz(
        np.linspace(_hz_to_mel(np.array(fmin), htk), _hz_to_mel(np.array(fmax), htk), n_mels + 2),
        htk,
    )
    frequencies = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    rising = (frequencies - centres[:-2]) / np.diff(centres)[:-1]
    falling = (centres[2:] - frequencies) / np.diff(centres)[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if norm:
        filters *= 2.0 / (centres[2:] - centres[:-2])
    return filters


# Slaney's mel scale (Auditory Toolbox, 1998): linear to 1 kHz (15 mel), logarithmic above.
_LINEAR_STEP = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_STEP
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(frequency: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 2595.0 * np.log10(1.0 + frequency / 700.0)
    above = _LOG_START_MEL + np.log(np.maximum(frequency, 1e-9) / _LOG_START_HZ) / _LOG_STEP
    return np.where(frequency < _LOG_START_HZ, frequency / _LINEAR_STEP, above)


def _mel_to_hz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_STEP, above)


def to_db(
    power: Float[Array, "batch frames bins"],
    ref: float | Literal["max"],
    amin: float,
    top_db: float | None,
) -> Float[Array, "batch frames bins"]:
    """``10 log10(power / ref)``, floored at ``amin`` and at ``top_db`` under the largest value.

    Args:
      power: of a spectrogram; the square of an amplitude (then ``amin`` is squared too).
      ref: 0 dB; "max" is each utterance's largest power.
      amin: smallest power.
      top_db: dynamic range per utterance, or None.
    """
    decibel = _decibel(power, amin)
    # The largest value is found before the logarithm, which then needs no second pass.
    largest = _decibel(power.max(axis=(1, 2), keepdims=True), amin)
    if ref == "max":
        decibel = decibel - largest
        largest = jnp.zeros_like(largest)
    else:
        offset = 10.0 * math.log10(max(amin, ref))
        decibel, largest = decibel - offset, largest - offset
    return decibel if top_db is None else jnp.maximum(decibel, largest - top_db)


def _decibel(power: Array, amin: float) -> Array:
    return 10.0 / math.log(10.0) * jnp.log(jnp.maximum(power, amin))


def _banded_product(
    x: Float[Array, "batch frames bins"], filters: Float[np.ndarray, "bins n_mels"], width: int
) -> Float[Array, "batch frames n_mels"]:
    """``x @ filters``, ``width`` columns at a time, without rows that are zero in all of those."""
    products = []
    for start in range(0, filters.shape[1], width):
        columns = filters[:, start : start + width]
        used = np.flatnonzero(columns.any(axis=1))
        band = slice(used[0], used[-1] + 1) if len(used) else slice(1)
        products.append(x[..., band] @ jnp.asarray(columns[band], x.dtype))
    return jnp.concatenate(products, axis=-1)


def dct_matrix(n_in: int, n_out: int) -> Float[np.ndarray, "n_in n_out"]:
    """Orthonormal DCT-II as a matrix to multiply with from the right."""
    angle = np.pi / n_in * (np.arange(n_in)[:, None] + 0.5) * np.arange(n_out)[None]
    matrix = np.sqrt(2.0 / n_in) * np.cos(angle)
    matrix[:, 0] /= math.sqrt(2.0)
    return matrix


def _constant_q_filters(
    frequencies: np.ndarray, sample_rate: int, quality: float
) -> tuple[np.ndarray, int]:
    """Frequency responses ``[bins, len(frequencies)]`` of Hann-windowed tones, and their length."""
    lengths = quality * sample_rate / frequencies
    n_fft = 2 ** math.ceil(math.log2(lengths.max()))
    responses = []
    for frequency, length in zip(frequencies, lengths, strict=True):
        t = np.arange(-length // 2, length // 2)
        tone = np.exp(2j * np.pi * frequency / sample_rate * t) * _float_hann(length, len(t))
        tone *= length / n_fft / np.abs(tone).sum() / math.sqrt(length)
        padded = np.zeros(n_fft, complex)
        start = (n_fft - len(t)) // 2
        padded[start : start + len(t)] = tone
        responses.append(np.fft.fft(padded)[: n_fft // 2 + 1])
    return np.stack(responses, axis=1), n_fft


def _float_hann(length: float, samples: int) -> np.ndarray:
    """A periodic Hann window of a length that is no whole number, zero beyond it."""
    whole = math.floor(length)
    window = np.zeros(samples)
    window[:whole] = window_function("hann", whole)
    return window


def constant_q(
    x: Float[Array, "batch time"],
    sample_rate: int,
    hop_length: int,
    fmin: float,
    n_bins: int,
    bins_per_octave: int,
) -> Float[Array, "batch frames n_bins"]:
    """Constant-Q power ``|C|²`` with frame ``i`` centred at sample ``i * hop_length``.

    Every octave has an FFT of its own length. The lowest octave's filters may be longer than the
    utterance, which is then padded with zeros.
    """
    frequencies = fmin * 2.0 ** (np.arange(n_bins) / bins_per_octave)
    r = 2.0 ** (2.0 / bins_per_octave)
    quality = (r + 1.0) / (r - 1.0)
    octaves = []
    for start in range(0, n_bins, bins_per_octave):
        part = frequencies[start : start + bins_per_octave]
        responses, n_fft = _constant_q_filters(part, sample_rate, quality)
        spectrum = stft(x, n_fft, hop_length, np.ones(n_fft))
        real, imaginary = spectrum.real, spectrum.imag
        a = jnp.asarray(responses.real, x.dtype)
        b = jnp.asarray(responses.imag, x.dtype)
        octaves.append(jnp.square(real @ a - imaginary @ b) + jnp.square(real @ b + imaginary @ a))
    return jnp.concatenate(octaves, axis=2)


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
    ref: float | Literal["max"] = 1.0
    amin: float = 1e-10
    top_db: float | None = 80.0

    def __post_init__(self) -> None:
        nyquist = self.sample_rate / 2
        if self.window not in _WINDOWS:
            raise UsageError(f"window must be one of {', '.join(_WINDOWS)}, not {self.window!r}.")
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
        if self.amin <= 0 or (self.top_db is not None and self.top_db < 0):
            raise UsageError("amin must be positive and top_db not negative.")
        if self.kind == "cqt":
            if self.fmin <= 0:
                raise UsageError("a constant-Q transform needs fmin > 0, such as 32.7.")
            highest = self.fmin * 2 ** (self.n_bins / self.bins_per_octave)
            if highest > nyquist:
                raise UsageError(
                    f"the constant-Q bins reach {highest:.0f} Hz, above half the sample rate "
                    f"({nyquist:g} Hz); give fewer n_bins."
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
        if jax.default_backend() != "cpu":
            return self._of(x)
        rows, samples = x.shape
        most = max(1, _PIECE_SAMPLES // samples)
        piece = max(n for n in range(1, most + 1) if rows % n == 0)
        # The gradient makes a piece again, which takes less time than to keep its spectra.
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
            width = _BANDS if jax.default_backend() == "cpu" else self.n_mels
            values = _banded_product(values, self._mel(), width)
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


_cached_mel_filters = functools.lru_cache(maxsize=8)(mel_filters)


def _safe_sqrt(x: Array) -> Array:
    """Square root with gradient 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
