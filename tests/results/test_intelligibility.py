"""STOI of rows: pystoi's figure, and NaN where there is none."""

import numpy as np
import pytest
from pystoi import stoi

from jaxser.results.intelligibility import short_time_intelligibility

RATE = 16_000


def modulated(seconds: float, seed: int) -> np.ndarray:
    """Noise as loud and soft as syllables."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return (noise * (1.1 + np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def test_it_is_one_without_a_change_and_falls_with_noise() -> None:
    x = np.stack([modulated(1.0, 0)] * 3)
    delta = np.random.default_rng(9).normal(size=x.shape).astype(np.float32)
    x_adv = x + delta * np.array([[0.0], [0.05], [0.5]], np.float32)
    found = short_time_intelligibility(x, x_adv, RATE)
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found[0] > found[1] + 0.02 > found[2] + 0.1
    assert found[2] == stoi(x[2].astype(float), x_adv[2].astype(float), RATE)


@pytest.mark.parametrize("samples", [10, 300, 3000, 5000])
def test_there_is_none_of_too_little_speech(samples: int) -> None:
    x = modulated(1.0, 1)[None, :samples]
    assert np.isnan(short_time_intelligibility(x, x, RATE)).all()


def test_there_is_none_of_silence_or_what_is_not_finite() -> None:
    x = np.stack([np.zeros(RATE, np.float32), modulated(1.0, 2)])
    x_adv = x + np.array([[0.1], [np.nan]], np.float32)
    assert np.isnan(short_time_intelligibility(x, x_adv, RATE)).all()
