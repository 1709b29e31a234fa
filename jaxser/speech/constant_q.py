"""The constant-Q transform, by products of a block's spectrum with those of the tones.

    power = constant_q(waveforms, 16_000, 160, fmin=32.7, n_bins=84, bins_per_octave=12)

Follows Schörkhuber & Klapuri (SMC 2010), but filters at the full sample rate, where librosa halves
it by resampling; the scale is librosa 0.11's.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.fft import next_fast_len

from jaxser.speech.stft import window_function

__all__ = ["constant_q"]

# Of the constant-Q transform: how many times as many frames as the longest tone reads on one side
# a block may give, and the responses that are left out, as shares of a tone's largest (-120 dB).
_BLOCK_REACHES, _WEAKEST = 8, 1e-6


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

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.constant_q import constant_q
      >>> tone = jnp.sin(2 * jnp.pi * 440 * jnp.arange(4_000) / 16_000)[None]
      >>> power = constant_q(tone, 16_000, 160, fmin=220.0, n_bins=24, bins_per_octave=12)
      >>> power.shape, int(power[0, 12].argmax())  # an octave above 220 Hz
      ((1, 26, 24), 12)
    """
    frequencies = fmin * 2.0 ** (np.arange(n_bins) / bins_per_octave)
    r = 2.0 ** (2.0 / bins_per_octave)
    tones = _constant_q_tones(frequencies, sample_rate, (r + 1.0) / (r - 1.0))
    frames = 1 + x.shape[1] // hop_length
    # Blocks, not frames: a spectrum for every frame repeats its neighbours' work, while a block a
    # few times as long as the longest tone wastes little on its overlap. Its size is one that an
    # FFT is fast at.
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

    # Octave by octave, as the tones of one respond to the same few folds.
    products = []
    for start in range(0, n_bins, bins_per_octave):
        band, responses = _folded_responses(
            tones[start : start + bins_per_octave], steps, hop_length
        )
        real, imaginary = responses.real, responses.imag
        # A complex product as one of real matrices twice as large.
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
