"""Images of spectrograms against librosa and matplotlib, and the gradient through all of it."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import matplotlib
import numpy as np
import pytest
from short_and_long import short_and_long

from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.colours import jet
from jaxser.speech.features import Spectrogram
from jaxser.speech.images import IMAGE_KINDS, SpectrogramImage, clipped_share, image_spectrogram
from jaxser.speech.resizing import resize_matrix

RATE, SAMPLES, HOP = 16_000, 16_000, 70


def voices() -> np.ndarray:
    """A second of a buzzing voice that rises and pauses, and of breath; [2, SAMPLES] float32."""
    rng = np.random.default_rng(0)
    t = np.arange(SAMPLES) / RATE
    pitch = 2 * np.pi * (120 * t + 40 * t**2)
    buzz = sum(np.sin(k * pitch) / k for k in range(1, 30)) * (np.abs(t - 0.5) > 0.1)
    breath = rng.normal(size=SAMPLES) * np.hanning(SAMPLES)
    return np.stack([0.2 * buzz + 1e-3 * breath, 0.05 * breath]).astype(np.float32)


def _mel(y: np.ndarray) -> np.ndarray:
    return librosa.feature.melspectrogram(
        y=y, sr=RATE, n_fft=2048, win_length=256, hop_length=HOP, n_mels=224
    )


REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda y: librosa.amplitude_to_db(
        np.abs(librosa.stft(y, n_fft=446, win_length=256, hop_length=HOP))
    ),
    "mel": lambda y: librosa.power_to_db(_mel(y)),
    "mfcc": lambda y: librosa.feature.mfcc(S=librosa.power_to_db(_mel(y)), n_mfcc=224),
    "cqt": lambda y: librosa.amplitude_to_db(
        np.abs(
            librosa.cqt(
                y, sr=RATE, hop_length=HOP, n_bins=224, bins_per_octave=32, tuning=0, sparsity=0
            )
        )
    ),
}


def reference(kind: str, x: np.ndarray) -> np.ndarray:
    """librosa's dB, [batch, frames, bands]."""
    with warnings.catch_warnings():
        # The tones of the lowest octaves last longer than a second.
        warnings.filterwarnings("ignore", "n_fft=.* is too large", UserWarning)
        return np.stack([REFERENCES[kind](y).T for y in x])


# That the constant-Q bins are librosa's is tested with the features.
@pytest.mark.parametrize("kind", short_and_long(IMAGE_KINDS, ["linear", "mel", "mfcc"]))
def test_librosa_and_matplotlib_draw_the_same(kind: str) -> None:
    x = voices()
    image = SpectrogramImage(image_spectrogram(kind))
    assert (image.frames, image.spectrogram.bins) == (229, 224)
    decibels = reference(kind, x)
    assert decibels.shape == (2, 229, 224)
    lowest = float(decibels.min(axis=(1, 2)).mean())
    highest = float(decibels.max(axis=(1, 2)).mean())
    found = np.asarray(jax.jit(image.unclipped)(x, lowest, highest))[..., 0]
    assert found.shape == (2, 224, 224)
    expected = (decibels - lowest) / (highest - lowest)
    expected = np.asarray(
        jax.image.resize(expected, (2, 224, 224), "bilinear", antialias=True)
    ).transpose(0, 2, 1)[:, ::-1]
    if kind == "cqt":
        # librosa halves the rate once, with a filter: dB beside the zeros of noise differ.
        own = np.asarray(image.decibels(jnp.asarray(x)))
        apart = np.abs(10 ** (own / 20) - 10 ** (decibels / 20))
        assert apart.max() < 0.004 * 10 ** (decibels.max() / 20)
        loud = expected > 1 - 30 / (highest - lowest)
        apart = np.abs(found - expected)[loud]
        assert np.percentile(apart, 99) < 0.5 / (highest - lowest)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    drawn = np.asarray(image.colours(jax.jit(image.levels)(x, lowest, highest)))
    levels = np.clip(found, 0, 1)
    same = matplotlib.colormaps["jet"](levels)[..., :3]
    # Beside the edges of the table's entries, where two programs may round a level two ways.
    inside = np.abs(256 * levels - np.round(256 * levels)) > 1e-3
    np.testing.assert_allclose(drawn[inside], same[inside], atol=1e-6)
    assert inside.mean() > 0.8


def test_time_runs_to_the_right_and_low_is_at_the_bottom() -> None:
    t = np.arange(SAMPLES) / RATE
    low = 0.5 * np.sin(2 * np.pi * 1_000 * t) * (t < 0.5)
    image = SpectrogramImage(image_spectrogram("linear"))
    level = np.asarray(image.levels(jnp.asarray(low[None], jnp.float32), -60.0, 40.0))[0, ..., 0]
    row, column = np.unravel_index(level.argmax(), level.shape)
    # 1 kHz is bin 1000 / (16000 / 446) = 27.9 from below.
    assert 223 - 29 <= row <= 223 - 27
    assert column < 112
    assert level[:, 130:].max() < level[:, :90].max() / 2


SMALL: list[dict[str, Any]] = [
    {"kind": "linear", "n_fft": 62, "win_length": 40, "hop_length": 16, "db": True},
    {"kind": "mel", "n_fft": 128, "hop_length": 16, "n_mels": 12, "db": True},
    {"kind": "mfcc", "n_fft": 128, "hop_length": 16, "n_mels": 12, "n_mfcc": 12},
    {"kind": "cqt", "fmin": 1000.0, "n_bins": 24, "hop_length": 32},
]


@pytest.mark.parametrize("options", SMALL, ids=lambda o: o["kind"])
def test_the_gradient_through_all_is_that_of_finite_differences(options: dict[str, Any]) -> None:
    image = SpectrogramImage(Spectrogram(**options), samples=300, size=14, colour_map="continuous")
    rng = np.random.default_rng(1)
    with jax.enable_x64():
        x = rng.normal(0, 0.1, (1, 300))
        decibels = jax.jit(image.decibels)(x)
        # Some cells are beyond either end.
        middle, half = float(decibels.mean()), 1.5 * float(decibels.std())
        weights = rng.normal(size=(1, 14, 14, 3))

        @functools.partial(jax.jit, static_argnums=0)
        def total_of(image: SpectrogramImage, x: jax.Array) -> jax.Array:
            return (weights * image(x, middle - half, middle + half)).sum()

        total = functools.partial(total_of, image)

        @jax.jit
        def share_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            levels = image.unclipped(x, middle - half, middle + half)
            return clipped_share(levels), jax.grad(total)(x)

        share, (gradient,) = map(np.asarray, share_and_gradient(x))
        assert 0.005 < share[0] < 0.3
        step = 1e-7
        for i in rng.choice(300, 12, replace=False):
            moved = np.zeros(x.shape)
            moved[0, i] = step
            expected = (float(total(x + moved)) - float(total(x - moved))) / (2 * step)
            # A cell that crosses a corner of the colours within a step has two slopes.
            assert gradient[i] == pytest.approx(expected, rel=1e-4, abs=1e-5 * abs(gradient).max())
        # The table's gradient is the continuous form's.
        table = SpectrogramImage(image.spectrogram, 300, 14)
        other = jax.jit(jax.grad(functools.partial(total_of, table)))(x)
        np.testing.assert_allclose(other[0], gradient, atol=1e-9 * np.abs(gradient).max())


def test_other_sizes_are_resized_on_both_sides() -> None:
    options = SMALL[1]
    image = SpectrogramImage(Spectrogram(**options), samples=300, size=8)
    x = voices()[:, 5_000:5_300]
    found = np.asarray(image.unclipped(jnp.asarray(x), 0.0, 1.0))[..., 0]
    decibels = np.asarray(Spectrogram(**options)(jnp.asarray(x)))
    frames, bands = decibels.shape[1:]
    by_hand = resize_matrix(bands, 8) @ decibels.swapaxes(1, 2) @ resize_matrix(frames, 8).T
    np.testing.assert_allclose(found, by_hand[:, ::-1], rtol=1e-4, atol=1e-4)


def test_silence_is_the_first_colour_and_has_a_finite_gradient() -> None:
    image = SpectrogramImage(Spectrogram(**SMALL[0]), samples=300, size=14)
    x = jnp.zeros((2, 300))

    @jax.jit
    def drawn_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn, pull_back = jax.vjp(lambda x: image(x, -80.0, 0.0), x)
        return drawn, pull_back(jnp.ones_like(drawn))[0]

    drawn, gradient = drawn_and_gradient(x)
    np.testing.assert_array_equal(drawn, np.broadcast_to(jet(jnp.zeros(())), drawn.shape))
    assert np.isfinite(gradient).all()
    share = jax.jit(lambda lowest: clipped_share(image.unclipped(x, lowest, 0.0)))
    np.testing.assert_array_equal(share(-80.0), 1.0)
    np.testing.assert_array_equal(share(-100.0), 0.0)


@pytest.mark.parametrize(
    ("kind", "changes", "settings", "sentence"),
    [
        ("sonogram", {}, {}, "no image of kind 'sonogram'"),
        ("cqt", {"bins_per_octave": 28}, {}, "constant-Q bins reach 8372 Hz, above half"),
        ("mfcc", {"n_mels": 128}, {}, "no 224 coefficients of 128 mel bands"),
        ("mel", {"n_fft": 446}, {}, "22 of 224 mel bands hold no frequency of an n_fft of 446"),
        ("mel", {"n_fft": 256}, {}, "62 of 224 mel bands"),
        (
            "linear",
            {"hop_length": 257},
            {},
            "hop of 257 samples is longer than the window of 256",
        ),
        ("linear", {"db": False}, {}, "give the linear spectrogram db=True"),
        ("linear", {}, {"colour_map": "hot"}, "colour_map must be one of table, continuous"),
        ("linear", {}, {"size": 0}, "size must be at least 1, not 0"),
        ("linear", {"center": False}, {"samples": 400}, "400 samples is shorter than the window"),
    ],
)
def test_impossible_images_are_refused(
    kind: Any, changes: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    error = InputError if "samples" in settings else UsageError
    with pytest.raises(error, match=sentence):
        SpectrogramImage(image_spectrogram(kind, **changes), **settings)
