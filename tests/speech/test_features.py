"""Spectrograms against librosa, gradients against finite differences, and silence."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import librosa_cases
import numpy as np
import pytest
import soundfile

from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.forms import Platform, forms_for
from jaxser.speech import features
from jaxser.speech.constant_q import constant_q
from jaxser.speech.features import Spectrogram, dct_matrix
from jaxser.speech.stft import window_function


@pytest.fixture(params=["made", "spoken"])
def speech(request: pytest.FixtureRequest) -> np.ndarray:
    """[2, samples] float32: signals from code, and the start of two real recordings."""
    if request.param == "made":
        return librosa_cases.signals()
    folder = request.getfixturevalue("ravdess_root") / "Actor_01"
    paths = sorted(folder.glob("*.wav"))[:2]
    return np.stack([soundfile.read(path, dtype="float32")[0][30_000:42_000] for path in paths])


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "amplitude",
        "linear_db",
        "mel",
        "mel_htk",
        "log_mel",
        "log_mel_squared",
        "log_mel_no_floor",
        "mfcc",
    ],
)
def test_librosa_gives_the_same(speech: np.ndarray, name: str) -> None:
    front_end = Spectrogram(**librosa_cases.CASES[name][0])
    expected = librosa_cases.reference(name, speech)
    found = np.asarray(jax.jit(front_end)(speech))
    assert found.shape == expected.shape
    assert found.shape[1:] == (front_end.frames(speech.shape[1]), front_end.bins)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "tolerance"), [("cqt_octave", 0.02), ("cqt", 0.04)])
def test_the_constant_q_transform_is_librosas_but_for_its_resampling(
    speech: np.ndarray, name: str, tolerance: float
) -> None:
    expected = librosa_cases.reference(name, speech)
    found = np.asarray(jax.jit(Spectrogram(**librosa_cases.CASES[name][0]))(speech))
    assert found.shape == expected.shape
    # As shares of the largest amplitude: in dB, what is next to nothing would count most. librosa
    # halves the rate of this short signal twice, and its resampler's edges are 3 % of it.
    apart = np.abs(10 ** (found / 20) - 10 ** (expected / 20))
    assert apart.max() < tolerance
    assert np.abs(10 ** (found / 20)).max() == pytest.approx(1.0)


@pytest.mark.parametrize("hop_length", [33, 64])
def test_the_constant_q_transform_is_a_product_with_windowed_tones(hop_length: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (2, 12_345)) * np.linspace(0, 1, 12_345)
    settings = (16_000, hop_length, 200.0, 36, 12)
    found = jax.jit(lambda x: constant_q(x, *settings))(jnp.asarray(x, jnp.float32))
    quality = (2 ** (1 / 6) + 1) / (2 ** (1 / 6) - 1)
    frames = np.arange(1 + x.shape[1] // hop_length)
    expected = np.zeros((2, len(frames), 36))
    for bin, frequency in enumerate(200.0 * 2.0 ** (np.arange(36) / 12)):
        length = quality * 16_000 / frequency
        t = np.arange(-length // 2, length // 2)
        window = np.zeros(len(t))
        window[: int(length)] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(int(length)) / int(length))
        tone = window * np.exp(2j * np.pi * frequency / 16_000 * t)
        # librosa multiplies the spectra of a frame and of a tone, so the tone is read backwards.
        around = np.pad(x, ((0, 0), (len(t), len(t) + hop_length)))
        first = len(t) + (len(t) + 1) // 2 + frames * hop_length
        of_frames = around[:, first[:, None] - np.arange(len(t))[None]]
        expected[:, :, bin] = np.abs(of_frames @ tone) * math.sqrt(length) / window.sum()
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.sqrt(found), expected, atol=2e-4 * expected.max())


def test_a_tone_is_found_at_its_constant_q_bin() -> None:
    front_end = Spectrogram("cqt", fmin=55.0, n_bins=60, hop_length=256)
    bins = np.array([5, 24, 50])
    frequency = 55.0 * 2.0 ** (bins / 12)
    x = np.sin(2 * np.pi * frequency[:, None] * np.arange(16_000)[None] / 16_000)
    loudest = np.asarray(front_end(jnp.asarray(x, jnp.float32)))[:, 20:40].mean(axis=1)
    np.testing.assert_array_equal(loudest.argmax(axis=1), bins)


KINDS = [
    {"kind": "linear", "n_fft": 64, "hop_length": 16, "power": 1},
    {"kind": "mel", "n_fft": 64, "hop_length": 20, "n_mels": 10},
    {"kind": "log_mel", "n_fft": 64, "hop_length": 16, "n_mels": 10, "ref": "max"},
    {"kind": "mfcc", "n_fft": 64, "hop_length": 16, "n_mels": 10, "n_mfcc": 5},
    {"kind": "cqt", "fmin": 1000.0, "n_bins": 24, "hop_length": 32},
]


@pytest.mark.parametrize("options", KINDS, ids=lambda o: o["kind"])
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    front_end = Spectrogram(**options)
    rng = np.random.default_rng(0)
    with jax.enable_x64():
        x = rng.normal(0, 0.1, (1, 300))
        weights = rng.normal(size=jax.eval_shape(front_end, x).shape)

        @jax.jit
        def total(x: jax.Array) -> jax.Array:
            return (weights * front_end(x)).sum()

        gradient = np.asarray(jax.jit(jax.grad(total))(x))[0]
        step = 1e-6
        for i in rng.choice(300, 12, replace=False):
            moved = np.zeros(x.shape)
            moved[0, i] = step
            expected = (float(total(x + moved)) - float(total(x - moved))) / (2 * step)
            assert gradient[i] == pytest.approx(expected, rel=1e-4, abs=1e-5 * abs(gradient).max())


@pytest.mark.parametrize("options", KINDS, ids=lambda o: o["kind"])
def test_the_forms_for_accelerators_give_the_same(options: dict[str, Any]) -> None:
    """Of more rows than a CPU takes at once; in float64, as logarithms of little are rough."""
    front_end = Spectrogram(**options)

    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = front_end(x)
        return jnp.sin(values).sum(), values

    def values_and_gradient(platform: Platform, x: np.ndarray) -> Any:
        with forms_for(platform):
            return jax.jit(jax.grad(loss, has_aux=True))(x)

    with pytest.MonkeyPatch.context() as patch, jax.enable_x64():
        patch.setattr(features, "_PIECE_SAMPLES", 400)
        x = np.random.default_rng(0).normal(0, 0.1, (3, 400))
        found, expected = (values_and_gradient(platform, x) for platform in ("gpu", "cpu"))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7 * np.abs(theirs).max())


@pytest.mark.parametrize("options", KINDS, ids=lambda o: o["kind"])
def test_silence_has_finite_values_and_gradients(options: dict[str, Any]) -> None:
    front_end = Spectrogram(**options)

    @jax.jit
    def values_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull_back = jax.vjp(front_end, x)
        return values, pull_back(jnp.ones_like(values))[0]

    values, gradient = values_and_gradient(jnp.zeros((2, 400)))
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()


def test_rows_do_not_see_each_other() -> None:
    x = np.random.default_rng(0).normal(0, 0.1, (3, 2_000)).astype(np.float32)
    front_end = Spectrogram(ref="max")
    x[1] *= 100.0
    np.testing.assert_allclose(
        np.asarray(front_end(jnp.asarray(x)))[0], np.asarray(front_end(jnp.asarray(x[:1])))[0]
    )


def test_dct_is_orthonormal_and_windows_are_periodic() -> None:
    matrix = dct_matrix(8, 8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(window_function("hann", 8)[[0, 4]], [0, 1])
    np.testing.assert_allclose(window_function("ones", 3), 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fmax": 9000.0}, "above half the sample rate"),
        ({"fmin": 8000.0}, "from 8000 to 8000 Hz; give an fmin below 8000"),
        ({"kind": "mel", "fmin": 9000.0}, "from 9000 to 8000 Hz"),
        ({"kind": "mfcc", "fmin": 500.0, "fmax": 400.0}, "from 500 to 400 Hz"),
        ({"fmin": math.nan}, "from nan to 8000 Hz"),
        ({"win_length": 1024}, "longer than n_fft"),
        ({"hop_length": 0}, "hop_length must be at least 1, not 0"),
        ({"kind": "cqt", "fmin": 100.0, "n_bins": -3}, "n_bins must be at least 1, not -3"),
        ({"kind": "cqt"}, "needs fmin"),
        ({"kind": "cqt", "fmin": 100.0}, "fewer n_bins"),
        ({"window": "kaiser"}, "window must be one of"),
        ({"amin": 0.0}, "amin must be positive"),
        ({"ref": 0.0}, "ref must be a power over 0, min or max, not 0"),
    ],
)
def test_impossible_front_ends_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Spectrogram(**options)


def test_an_utterance_shorter_than_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="300 samples is shorter than the window of 512"):
        Spectrogram(center=False)(jnp.zeros((1, 300)))
