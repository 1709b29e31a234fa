"""Differentiable spectrograms: linear, mel, log-mel, MFCC and constant-Q, as librosa defines them.

    front_end = Spectrogram(kind="log_mel", n_fft=368, hop_length=184, n_mels=128)
    log_mel = front_end(waveforms)               # [batch, time] -> [batch, frames, 128]

Everything is batched, jit-compatible and has finite gradients on silence. Oracle: librosa 0.11
(McFee et al., SciPy 2015); the constant-Q transform follows Schörkhuber & Klapuri (SMC 2010) but
filters at the full sample rate, where librosa halves it by resampling.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.fft import next_fast_len

from jaxser.runtime.errors import InputError, UsageError

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

# Of the constant-Q transform: how many times as many frames as the longest tone reads on one side
# a block may give, and the responses that are left out, as shares of a tone's largest (-120 dB).
_BLOCK_REACHES, _WEAKEST = 8, 1e-6

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


def _constant_q_tones(
    frequencies: np.ndarray, sample_rate: int, quality: float
) -> list[np.ndarray]:
    """Hann-windowed tones in librosa's scale."""
    tones = []
    for frequency in frequencies:
        length = quality * sample_rate / frequency
        t = np.arange(-length // 2, length // 2)
        tone = np.exp(2j * np.pi * frequency / sample_rate * t) * _float_hann(length, len(t))
        tones.append(tone * math.sqrt(length) / np.abs(tone).sum())
    return tones


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

    The utterance is cut into overlapping blocks, and the spectrum of a block multiplied with those
    of the tones. Only every ``hop_length``-th sample of a product's inverse FFT is a frame, so the
    product is folded to as many frequencies as there are frames before it is transformed back.
    """
    frequencies = fmin * 2.0 ** (np.arange(n_bins) / bins_per_octave)
    r = 2.0 ** (2.0 / bins_per_octave)
    tones = _constant_q_tones(frequencies, sample_rate, (r + 1.0) / (r - 1.0))
    frames = 1 + x.shape[1] // hop_length
    # In frames: what a tone reads on either side of its centre, what a block gives, and its size.
    reach = 1 + max(map(len, tones)) // 2 // hop_length
    blocks = -(-frames // (_BLOCK_REACHES * reach))
    count = -(-frames // blocks)
    steps = next_fast_len(count + 2 * reach)

    before = jnp.zeros((x.shape[0], reach * hop_length), x.dtype)
    beyond = ((blocks - 1) * count + steps - reach) * hop_length - x.shape[1]
    x = jnp.concatenate([before, x, jnp.zeros((x.shape[0], beyond), x.dtype)], axis=1)
    starts = np.arange(blocks) * count * hop_length
    cut = jnp.stack([x[:, start : start + steps * hop_length] for start in starts], axis=1)
    spectrum = jnp.fft.rfft(cut.reshape(-1, steps * hop_length), axis=-1)
    folds = -(-spectrum.shape[1] // steps)
    spectrum = jnp.pad(spectrum, ((0, 0), (0, folds * steps - spectrum.shape[1])))
    spectrum = spectrum.reshape(-1, folds, steps).transpose(2, 0, 1)

    products = []
    for start in range(0, n_bins, bins_per_octave):
        band, responses = _folded_responses(
            tones[start : start + bins_per_octave], steps, hop_length
        )
        real, imaginary = responses.real, responses.imag
        weights = np.block([[real, imaginary], [-imaginary, real]])
        parts = spectrum[..., band]
        both = jnp.concatenate([parts.real, parts.imag], axis=2) @ jnp.asarray(weights, x.dtype)
        products.append(jax.lax.complex(*jnp.split(both, 2, axis=2)))
    folded = jnp.concatenate(products, axis=2).transpose(1, 2, 0)
    values = jnp.fft.ifft(folded, axis=-1)[..., reach : reach + count]
    power = jnp.square(values.real) + jnp.square(values.imag)
    return power.swapaxes(1, 2).reshape(-1, blocks * count, n_bins)[:, :frames]


def _folded_responses(
    tones: list[np.ndarray], steps: int, hop_length: int
) -> tuple[slice, Complex[np.ndarray, "steps folds bins"]]:
    """Responses to the frequencies ``m + steps * fold`` of ``steps * hop_length`` samples.

    Folds in which all responses are weak are left out; the slice says which are kept.
    """
    size = steps * hop_length
    responses = np.zeros((len(tones), -(-(size // 2 + 1) // steps) * steps), complex)
    for response, tone in zip(responses, tones, strict=True):
        around_zero = np.zeros(size, complex)
        around_zero[np.arange(len(tone)) - (len(tone) + 1) // 2] = tone / hop_length
        response[: size // 2 + 1] = np.fft.fft(around_zero)[: size // 2 + 1]
    shares = np.abs(responses) / np.abs(responses).max(axis=1, keepdims=True)
    strong = np.flatnonzero(shares.reshape(len(tones), -1, steps).max(axis=(0, 2)) > _WEAKEST)
    band = slice(strong[0], strong[-1] + 1)
    return band, responses.reshape(len(tones), -1, steps).transpose(2, 1, 0)[:, band]


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
