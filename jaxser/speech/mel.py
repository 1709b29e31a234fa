"""Mel filters, on Slaney's scale or HTK's, and their product with spectrograms.

filters = mel_filters(16_000, 512, 128, 0.0, 8_000.0, htk=False, norm=True)     # [257, 128]
mels = banded_product(power, filters, width=32)
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["banded_product", "mel_filters"]


def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool, norm: bool
) -> Float[np.ndarray, "bins n_mels"]:
    """Triangular mel filters (Slaney's scale, or HTK's), of equal area where ``norm``.

    Examples:
      >>> from jaxser.speech.mel import mel_filters
      >>> filters = mel_filters(16_000, 512, 40, 0.0, 8_000.0, htk=False, norm=True)
      >>> filters.shape
      (257, 40)
    """
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


def banded_product(
    x: Float[Array, "batch frames bins"], filters: Float[np.ndarray, "bins n_mels"], width: int
) -> Float[Array, "batch frames n_mels"]:
    """``x @ filters``, ``width`` columns at a time, without rows that are zero in all of those.

    Args:
      x: spectrograms.
      filters: each of which reads few frequencies, neighbours nearly the same ones.
      width: columns of one product; all of them for one dense product.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.mel import banded_product, mel_filters
      >>> filters = mel_filters(16_000, 512, 40, 0.0, 8_000.0, htk=False, norm=True)
      >>> banded_product(jnp.ones((1, 3, 257)), filters, width=32).shape
      (1, 3, 40)
    """
    products = []
    for start in range(0, filters.shape[1], width):
        columns = filters[:, start : start + width]
        used = np.flatnonzero(columns.any(axis=1))
        band = slice(used[0], used[-1] + 1) if len(used) else slice(1)
        products.append(x[..., band] @ jnp.asarray(columns[band], x.dtype))
    return jnp.concatenate(products, axis=-1)
