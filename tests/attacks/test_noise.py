"""Noise baselines: the statistics of each kind, the bounds and the size it promises."""

from typing import Any

import jax
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.noise import Noise
from jaxser.runtime.errors import UsageError

ONE_DEVICE = {"devices": jax.devices()[:1]}


def noise(kind: str, epsilon: float, x: np.ndarray, **options: Any) -> np.ndarray:
    """Perturbations of a linear victim's inputs."""
    victim = small_victims.small_victim("linear")
    result = run_attack(
        victim, x, np.zeros(len(x), int), Noise(kind=kind), [epsilon], **options, **ONE_DEVICE
    )
    assert (result.queries == 0).all()
    assert (result.gradients == 0).all()
    assert (result.steps == 1).all()
    return np.asarray(result.x_adv[0] - x, np.float64)


@pytest.fixture(scope="module")
def quiet() -> np.ndarray:
    return np.zeros((400, small_victims.SAMPLES), np.float32)


def test_uniform_noise_is_uniform(quiet: np.ndarray) -> None:
    delta = noise("uniform", 0.2, quiet)
    assert 0.199 < np.abs(delta).max() <= 0.2 + 1e-7
    counts, _ = np.histogram(delta, bins=10, range=(-0.2, 0.2))
    assert np.abs(counts / counts.mean() - 1).max() < 0.1


def test_gaussian_noise_has_the_standard_deviation(quiet: np.ndarray) -> None:
    delta = noise("gaussian", 0.05, quiet) / 0.05
    assert delta.std() == pytest.approx(1, abs=0.02)
    assert delta.mean() == pytest.approx(0, abs=0.02)
    assert (delta**4).mean() == pytest.approx(3, abs=0.2)
    assert (np.abs(delta) > 1).mean() == pytest.approx(0.3173, abs=0.01)


def test_white_noise_has_exactly_the_norm_and_a_flat_spectrum(quiet: np.ndarray) -> None:
    delta = noise("white", 0.5, quiet)
    np.testing.assert_allclose(np.linalg.norm(delta, axis=1), 0.5, rtol=1e-6)
    power = np.square(np.abs(np.fft.rfft(delta)))[:, 1:-1].mean(axis=0)
    assert np.abs(power / power.mean() - 1).max() < 0.25
    assert np.abs(np.corrcoef(delta[:, :-1].ravel(), delta[:, 1:].ravel())[0, 1]) < 0.02


def test_white_noise_keeps_its_norm_at_the_bounds() -> None:
    x = np.sign(small_victims.waveforms(8)).astype(np.float32)  # every sample at full scale
    delta = noise("white", 3.0, x)
    assert np.abs(x + delta).max() <= 1
    np.testing.assert_allclose(np.linalg.norm(delta, axis=1), 3.0, rtol=1e-6)
    assert ((delta == 0).mean(axis=1) > 0.2).all()  # those that would leave stay
    # Where there is no room for more, as far as it goes.
    delta = noise("white", 1e3, x[:2])
    assert np.isin(x[:2] + delta, [-1, 1]).all()


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "white"])
def test_noise_belongs_to_seed_and_utterance(kind: str) -> None:
    x = small_victims.waveforms(6)
    ids = [f"u{i}" for i in range(6)]
    a = noise(kind, 0.1, x, ids=ids, seed=1)
    b = noise(kind, 0.1, x[::-1], ids=ids[::-1], seed=1)
    np.testing.assert_array_equal(a, b[::-1])
    assert not np.array_equal(a, noise(kind, 0.1, x, ids=ids, seed=2))


@pytest.mark.parametrize("kind", ["uniform", "white"])
def test_noise_on_spectrograms_stays_in_budget_and_bounds(kind: str) -> None:
    victim, x = small_victims.small_victim("spectrogram"), small_victims.spectrograms(8)
    attack = Noise(kind=kind)
    result = run_attack(victim, x, None, attack, [0.5, 2.0], **ONE_DEVICE)
    assert (result.measures[attack.epsilon_norm] <= np.array([[0.5], [2.0]]) * (1 + 1e-6)).all()
    assert result.x_adv.min() >= -5
    assert result.x_adv.max() <= 7


def test_the_kind_is_checked() -> None:
    with pytest.raises(UsageError, match="kind must be"):
        Noise(kind="pink")  # type: ignore[arg-type]
