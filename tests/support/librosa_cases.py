"""Spectrograms by librosa, and the fields of jaxser's front end that give the same."""

import warnings
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np

RATE, SAMPLES = 16_000, 3_000

CQT = {"hop_length": 128, "fmin": 130.8, "n_bins": 36}


def signals() -> np.ndarray:
    """A sweep with a pause, and noise that fades out; [2, SAMPLES] float32."""
    rng = np.random.default_rng(0)
    t = np.arange(SAMPLES) / RATE
    sweep = 0.5 * np.sin(2 * np.pi * (100 + 4000 * t) * t) * (np.abs(t - 0.1) > 0.02)
    noise = 0.1 * rng.normal(size=SAMPLES) * np.exp(-6 * t)
    return np.stack([sweep, noise]).astype(np.float32)


def _mel(y: np.ndarray, **options: Any) -> np.ndarray:
    return librosa.feature.melspectrogram(y=y, sr=RATE, **options)


# name: (fields of jaxser.speech.features.Spectrogram, librosa's way to it)
CASES: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": (
        {"kind": "linear", "n_fft": 256, "hop_length": 70},
        lambda y: np.square(np.abs(librosa.stft(y, n_fft=256, hop_length=70))),
    ),
    "amplitude": (
        {
            "kind": "linear",
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "window": "hamming",
            "power": 1,
        },
        lambda y: np.abs(
            librosa.stft(y, n_fft=512, win_length=400, hop_length=160, window="hamming")
        ),
    ),
    "linear_db": (
        {"kind": "linear", "n_fft": 256, "hop_length": 128, "power": 1, "db": True, "ref": "max"},
        lambda y: librosa.amplitude_to_db(
            np.abs(librosa.stft(y, n_fft=256, hop_length=128)), ref=np.max
        ),
    ),
    "mel": (
        {"kind": "mel", "n_fft": 368, "hop_length": 184},
        lambda y: _mel(y, n_fft=368, hop_length=184, n_mels=128),
    ),
    "mel_htk": (
        {
            "kind": "mel",
            "center": False,
            "htk": True,
            "slaney_norm": False,
            "fmin": 50.0,
            "fmax": 7000.0,
            "n_mels": 40,
            "window": "blackman",
        },
        lambda y: _mel(
            y,
            n_fft=512,
            hop_length=128,
            n_mels=40,
            center=False,
            htk=True,
            norm=None,
            fmin=50,
            fmax=7000,
            window="blackman",
        ),
    ),
    "log_mel": (
        {"kind": "log_mel", "n_fft": 368, "hop_length": 184, "ref": "max"},
        lambda y: librosa.power_to_db(_mel(y, n_fft=368, hop_length=184), ref=np.max),
    ),
    "log_mel_squared": (
        {"kind": "log_mel", "n_fft": 368, "hop_length": 184, "squared": True},
        lambda y: librosa.amplitude_to_db(_mel(y, n_fft=368, hop_length=184)),
    ),
    # As Facchinetti et al. made theirs.
    "log_mel_from_the_least": (
        {"kind": "log_mel", "n_fft": 368, "hop_length": 184, "squared": True, "ref": "min"},
        lambda y: librosa.amplitude_to_db(_mel(y, n_fft=368, hop_length=184), ref=np.min),
    ),
    "log_mel_no_floor": (
        {"kind": "log_mel", "top_db": None, "amin": 1e-6, "ref": 0.5},
        lambda y: librosa.power_to_db(
            _mel(y, n_fft=512, hop_length=128), ref=0.5, amin=1e-6, top_db=None
        ),
    ),
    "mfcc": (
        {"kind": "mfcc"},
        lambda y: librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=20, n_fft=512, hop_length=128),
    ),
    # In one octave librosa resamples nothing; over several its resampling shows.
    "cqt_octave": (
        {"kind": "cqt", **CQT, "fmin": 523.2, "n_bins": 12, "ref": "max"},
        lambda y: librosa.amplitude_to_db(
            np.abs(
                librosa.cqt(y, sr=RATE, hop_length=128, fmin=523.2, n_bins=12, tuning=0, sparsity=0)
            ),
            ref=np.max,
        ),
    ),
    "cqt": (
        {"kind": "cqt", **CQT, "ref": "max"},
        lambda y: librosa.amplitude_to_db(
            np.abs(librosa.cqt(y, sr=RATE, tuning=0, sparsity=0, **CQT)), ref=np.max
        ),
    ),
}


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """librosa's [batch, frames, bins] of the case ``name``."""
    with warnings.catch_warnings():
        # 128 mel bands of 185 frequencies: some are empty, as the paper had them.
        warnings.filterwarnings("ignore", "Empty filters detected", UserWarning)
        # An octave at a lower rate has fewer samples than its filters.
        warnings.filterwarnings("ignore", "n_fft=512 is too large", UserWarning)
        return np.stack([CASES[name][1](y).T for y in x]).astype(np.float32)
