"""Speech that is made of mel spectrograms has the spectrograms that it was made of."""

import numpy as np
import pytest

from jaxser.runtime.errors import UsageError
from jaxser.speech.features import Spectrogram
from jaxser.speech.inversion import speech_of_mels

RATE = 8000


def vowel() -> np.ndarray:
    time = np.arange(RATE // 2) / RATE
    partials = sum(np.sin(2 * np.pi * 150.0 * k * time) / k for k in range(1, 20))
    noise = 0.01 * np.random.default_rng(0).normal(size=time.shape)
    return (0.1 * partials + noise).astype(np.float32)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "mel"},
        {"kind": "log_mel"},
        {"kind": "mel", "db": True},
        {"kind": "mel", "power": 1},
    ],
    ids=str,
)
def test_speech_has_the_bands_that_it_was_made_of(fields: dict) -> None:
    front_end = Spectrogram(sample_rate=RATE, n_fft=256, hop_length=64, n_mels=32, **fields)
    wanted = np.asarray(front_end(vowel()[None]))[0]
    made = np.asarray(front_end(speech_of_mels(front_end, wanted)[None]))[0]
    frames = min(len(wanted), len(made)) - 4  # the last ones reach beyond the end
    assert np.corrcoef(wanted[4:frames].ravel(), made[4:frames].ravel())[0, 1] > 0.9


def test_other_spectrograms_are_refused() -> None:
    front_end = Spectrogram(kind="linear", sample_rate=RATE, n_fft=256, hop_length=64)
    with pytest.raises(UsageError, match="only mel and log_mel"):
        speech_of_mels(front_end, np.zeros((4, 129), np.float32))
