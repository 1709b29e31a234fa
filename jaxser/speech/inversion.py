"""From mel spectrograms back to speech, to listen to what an attack on features did.

    x = speech_of_mels(front_end, log_mel)        # [frames, mels] -> [samples]

The phase is lost in a spectrogram; librosa's inverse guesses one (least squares for the
frequencies, then Griffin and Lim, IEEE TASSP 1984), as Facchinetti et al. made their examples. What
is heard is no input that was attacked: give it to the victim and it may say something else.
"""

import numpy as np
from jaxtyping import Float

from jaxser.runtime.errors import UsageError
from jaxser.speech.features import Spectrogram

__all__ = ["speech_of_mels"]


def speech_of_mels(
    front_end: Spectrogram, values: Float[np.ndarray, "frames mels"]
) -> Float[np.ndarray, " samples"]:
    """A waveform whose mel spectrogram is near ``values``, in [-1, 1].

    Args:
      front_end: that makes such spectrograms.
      values: what it gave, or an attacked version of that.

    Raises:
      UsageError: the front end gives no mel spectrograms.
    """
    from librosa.feature.inverse import mel_to_audio

    if front_end.kind not in ("mel", "log_mel"):
        raise UsageError(
            f"{front_end.kind} spectrograms cannot be turned back into speech; only mel and "
            "log_mel ones can."
        )
    mels = np.asarray(values, np.float32)
    if front_end.kind == "log_mel" or front_end.db:
        # How loud it was is not in dB of its own least or largest: the loudest band is 1.
        powers = 10.0 ** (mels / 10.0)
        powers = powers / powers.max() if isinstance(front_end.ref, str) else powers * front_end.ref
        mels = np.sqrt(powers) if front_end.takes_squares else powers
    window = front_end.window if front_end.window != "ones" else "boxcar"
    x = mel_to_audio(
        mels.T,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        win_length=front_end.win_length,
        window=window,
        center=front_end.center,
        power=front_end.power,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
        htk=front_end.htk,
        norm="slaney" if front_end.slaney_norm else None,
    )
    return np.clip(x, -1.0, 1.0).astype(np.float32)
