"""Smoothed victims: what their logits are, that attacks reach them, and that rows are their own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from scipy import stats

import jaxser
from jaxser.attacks import PGD
from jaxser.attacks.base import RANDOMISED
from jaxser.driver.memory import choose_score_rows, choose_slots
from jaxser.driver.result import AttackResult
from jaxser.runtime.errors import UsageError
from jaxser.runtime.sharding import make_mesh
from jaxser.victims import smoothed
from jaxser.victims.smoothing import smoothed_fingerprint

DEVICES = jax.devices()


def test_logits_are_the_logarithm_of_the_mean_softmax() -> None:
    plain, x = small_victims.small_victim("conv"), small_victims.waveforms(2)
    keys = jax.random.split(jax.random.key(0), 2)
    found = np.asarray(smoothed(plain, 0.1, samples=5).logits(jnp.asarray(x), keys))
    for row in range(2):
        noise = [np.asarray(jax.random.normal(k, (64,))) for k in jax.random.split(keys[row], 5)]
        logits = np.asarray(plain.logits(x[row] + np.float32(0.1) * np.stack(noise)))
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[row], np.log(shares.mean(axis=0)), rtol=1e-3, atol=1e-5)


def test_a_confident_victim_votes_as_the_normal_distribution_says() -> None:
    """Its softmax is 0 or 1, and underflows; the mean is Φ(w·x / σ|w|)."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=8)
    x = rng.normal(0, 0.3, (4, 8)).astype(np.float32)
    kernel = jnp.asarray(1e4 * np.stack([-w, w], axis=1), jnp.float32)
    plain = jaxser.victims.Victim(lambda v, x: x @ v, kernel, ("a", "b"), (8,))
    found = smoothed(plain, 0.3, samples=4000).logits(x, jax.random.split(jax.random.key(1), 4))
    assert np.isfinite(found).all()
    expected = stats.norm.cdf(x @ w / (0.3 * np.linalg.norm(w)))
    np.testing.assert_allclose(np.exp(found)[:, 1], expected, atol=0.03)
    assert 0.1 < expected.min() < expected.max() < 0.95


# Made once, as its programs are compiled once.
DEFENDED = smoothed(small_victims.small_victim("conv"), 0.05, samples=4)


def attacked(**options: Any) -> AttackResult:
    x, y = small_victims.waveforms(8), small_victims.labels(8)
    settings: dict[str, Any] = {"seed": 1, "batch_size": 8, "devices": DEVICES[:1], **options}
    return jaxser.run_attack(DEFENDED, x, y, PGD(steps=4, norm="l2"), [0.05, 0.6], **settings)


def test_attacks_run_on_it() -> None:
    base = attacked()
    assert (base.flags & RANDOMISED).all()
    robust = [(base.prediction[e] == base.labels).mean() for e in range(2)]
    clean = (base.clean_prediction == base.labels).mean()
    assert robust[1] < clean
    norms = np.sqrt(np.square(base.x_adv - small_victims.waveforms(8)[None]).sum(axis=2))
    assert (norms <= np.array([[0.05], [0.6]]) * (1 + 1e-4)).all()
    assert (attacked(seed=2).x_adv != base.x_adv).any()


@pytest.mark.long
def test_a_row_depends_neither_on_its_batch_nor_on_the_devices() -> None:
    base = attacked()
    for options in ({"batch_size": 6}, {"devices": DEVICES[:2]}):
        other = attacked(**options)
        np.testing.assert_allclose(other.x_adv, base.x_adv, atol=1e-5)
        np.testing.assert_array_equal(other.success_share, base.success_share)


def test_a_batch_has_as_many_rows_as_the_network_can_read() -> None:
    victim = smoothed(small_victims.small_victim("conv"), 0.05, samples=8)
    mesh = make_mesh(DEVICES[:1])
    sizes = {"rows": 1000, "score_rows": 2, "mesh": mesh, "loop": None}
    assert choose_slots(victim, PGD(), (64,), **sizes) == 2
    assert choose_score_rows(1000, mesh, victim.passes) == 2
    assert choose_score_rows(1000, mesh, 400) == 1


def test_its_name_and_fingerprint_tell_it_from_others() -> None:
    plain = small_victims.small_victim("conv")
    names = {smoothed(plain, sigma, n).name for sigma in (0.1, 0.2) for n in (4, 5)}
    assert len(names | {plain.name}) == 5
    assert not any(" " in name for name in names)
    made = {smoothed_fingerprint("f", sigma, n) for sigma in (0.1, 0.2) for n in (4, 5)}
    assert len(made | {smoothed_fingerprint("g", 0.1, 4), "f"}) == 6


@pytest.mark.parametrize(
    ("sigma", "samples", "sentence"),
    [
        (0.0, 4, "a standard deviation over 0, not 0"),
        (-0.1, 4, "a standard deviation over 0, not -0.1"),
        (float("inf"), 4, "a standard deviation over 0, not inf"),
        (1e39, 4, r"1e\+39 is none that float32 can hold"),
        (1e-50, 4, "1e-50 is none that float32 can hold"),
        (0.1, 0, "at least 1 draw, and samples is 0"),
    ],
)
def test_noise_that_is_none(sigma: float, samples: int, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        smoothed(small_victims.small_victim("conv"), sigma, samples)


def test_a_smoothed_victim_is_not_smoothed_again() -> None:
    victim = smoothed(small_victims.small_victim("conv"), 0.1)
    with pytest.raises(UsageError, match="has noise of its own, so it cannot be smoothed"):
        smoothed(victim, 0.1)
