"""Windows, overlapping frames and the short-time Fourier transform, as SciPy and librosa do it.

window = window_function("hann", 512)
spectrum = stft(waveforms, 512, 128, window)     # [batch, time] -> [batch, frames, 257]
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

__all__ = ["WINDOWS", "Window", "stft", "window_function", "windowed_frames"]

Window = Literal["hann", "hamming", "blackman", "ones"]

# Cosine coefficients of the periodic windows.
WINDOWS: dict[str, tuple[float, ...]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "ones": (1.0,),
}


def window_function(name: Window, length: int) -> Float[np.ndarray, " length"]:
    """A periodic window (``scipy.signal.get_window`` with ``fftbins=True``).

    Examples:
      >>> from jaxser.speech.stft import window_function
      >>> print(window_function("hann", 4).round(3))
      [0.  0.5 1.  0.5]
    """
    angle = 2.0 * np.pi * np.arange(length) / length
    return sum(
        (-1.0) ** k * coefficient * np.cos(k * angle) for k, coefficient in enumerate(WINDOWS[name])
    ) * np.ones(length)


def windowed_frames(
    x: Float[Array, "batch time"], window: Float[np.ndarray, " frame_length"], hop_length: int
) -> Float[Array, "batch frames frame_length"]:
    """Overlapping frames times ``window``, without a gather where the hop divides the frame.

    The gradient of slices and a stack is a sum of padded slices; that of a gather is a scatter,
    which is many times slower. Attacks on waveforms take it at every step.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxser.speech.stft import windowed_frames
      >>> windowed_frames(jnp.arange(6.0)[None], np.ones(4), hop_length=2).tolist()
      [[[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]]]
    """
    length = len(window)
    count = 1 + (x.shape[1] - length) // hop_length
    weights = jnp.asarray(window, x.dtype)
    if length % hop_length:
        index = np.arange(count)[:, None] * hop_length + np.arange(length)[None]
        return x[:, index] * weights[None, None]
    parts = length // hop_length
    # A frame is ``parts`` hops long: part i of all frames is a slice of the hops from the i-th on.
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
) -> Complex[Array, "batch frames bins"]:
    """Complex short-time Fourier transform, ``bins = n_fft // 2 + 1``.

    Args:
      x: waveforms.
      n_fft: frame length; with ``center`` the signal is padded by half of it with zeros.
      hop_length: samples from frame to frame.
      window: already as long as a frame.
      center: frame ``i`` is centred at sample ``i * hop_length``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.stft import stft, window_function
      >>> spectrum = stft(jnp.ones((1, 32)), 8, 4, window_function("ones", 8), center=False)
      >>> spectrum.shape, abs(spectrum[0, 0]).tolist()  # a constant has frequency 0 alone
      ((1, 7, 5), [8.0, 0.0, 0.0, 0.0, 0.0])
    """
    if center:
        # jnp.pad does the same, three times slower on a CPU.
        zeros = jnp.zeros((x.shape[0], n_fft // 2), x.dtype)
        x = jnp.concatenate([zeros, x, zeros], axis=1)
    return jnp.fft.rfft(windowed_frames(x, window, hop_length), axis=-1)
