"""How well attacked speech is still understood: STOI, beside the SNRs of every row.

    stoi = short_time_intelligibility(x, x_adv, 16_000)     # [batch], 1 is as clear as before

Source: Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy
Speech", IEEE TASLP 2011, by pystoi. It runs on the host, some 10 ms for every second of speech.
"""

import warnings

import numpy as np
from jaxtyping import Float

__all__ = ["short_time_intelligibility"]

# pystoi's frames: 25.6 ms.
_FRAME_SECONDS = 0.0256


def short_time_intelligibility(
    x: Float[np.ndarray, "batch time"], x_adv: Float[np.ndarray, "batch time"], sample_rate: int
) -> Float[np.ndarray, " batch"]:
    """STOI of ``x_adv`` with ``x`` as the clean speech, of each row.

    NaN where it is not defined: silence, samples that are not finite, and speech of less than 30
    frames (0.4 s) after pauses are taken out.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.intelligibility import short_time_intelligibility
      >>> rng = np.random.default_rng(0)
      >>> x, noise = rng.normal(size=(2, 1, 16_000))
      >>> print(short_time_intelligibility(x, x, 16_000).round(2))
      [1.]
      >>> bool(short_time_intelligibility(x, x + 3 * noise, 16_000)[0] < 0.7)
      True
    """
    return np.array([_of_row(*row, sample_rate) for row in zip(x, x_adv, strict=True)], np.float64)


def _of_row(x: np.ndarray, x_adv: np.ndarray, sample_rate: int) -> float:
    from pystoi import stoi

    defined = x.any() and np.isfinite(x).all() and np.isfinite(x_adv).all()
    if not defined or len(x) < 2 * _FRAME_SECONDS * sample_rate:
        return float("nan")
    # pystoi warns of too few frames and returns 1e-5, which no mean could tell from speech that is
    # not understood at all.
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(x.astype(np.float64), x_adv.astype(np.float64), sample_rate))
        except RuntimeWarning:
            return float("nan")
