"""Noise by hashing has the distribution it should have; starts are valid; decisions are honest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import NON_FINITE, row_keys, step_keys
from jaxser.attacks.boundary import Boundary
from jaxser.attacks.decision import (
    decide,
    noise_bits,
    normal,
    start_blocks,
    start_candidate,
    uniform,
)

ROWS, SAMPLES = 8, 40_000
KEYS = row_keys(jax.random.key(7), jnp.arange(ROWS, dtype=jnp.uint32))
LIKE = jnp.zeros((ROWS, SAMPLES))
BITS = noise_bits(KEYS, LIKE)


def test_noise_is_normal_and_uniform() -> None:
    # ks: P(D > 1.95 / sqrt(n)) is 0.1 %; there are 16 rows.
    critical = 2.2 / np.sqrt(SAMPLES)
    for noise, cdf in ((normal(BITS), scipy.stats.norm.cdf), (uniform(BITS), _uniform_cdf)):
        for row in np.asarray(noise, np.float64):
            assert scipy.stats.kstest(row, cdf).statistic < critical
    noise = np.asarray(normal(BITS), np.float64)
    assert abs((noise**3).mean()) < 0.02
    assert abs((noise**4).mean() - 3) < 0.06
    assert 4 < np.abs(noise).max() < 6


def _uniform_cdf(values: np.ndarray) -> np.ndarray:
    return (values + 1) / 2


def test_extreme_bits_stay_inside_the_open_interval() -> None:
    ends = jnp.array([0, 2**32 - 1], jnp.uint32)
    np.testing.assert_allclose(uniform(ends), [-1, 1], atol=2e-7)
    assert (np.abs(np.asarray(uniform(ends))) < 1).all()
    assert np.isfinite(np.asarray(normal(ends))).all()


def test_every_bit_is_fair_and_changes_with_row_step_and_position() -> None:
    bits = np.asarray(BITS)
    share = np.unpackbits(bits.view(np.uint8)).reshape(ROWS * SAMPLES, 32).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(ROWS * SAMPLES)
    noise = np.asarray(normal(BITS), np.float64)
    later = np.asarray(normal(noise_bits(step_keys(KEYS, jnp.ones(ROWS, jnp.int32)), LIKE)))
    limit = 5 / np.sqrt(SAMPLES)
    assert np.abs(np.corrcoef(np.concatenate([noise, later])) - np.eye(2 * ROWS)).max() < limit
    for lag in (1, 2, 3, 16, 1000, SAMPLES // 2):
        assert np.abs((noise[:, lag:] * noise[:, :-lag]).mean(axis=1)).max() < 2 * limit


def test_directions_are_isotropic() -> None:
    """Projections of unit noise on any direction have variance 1/d: a fixed and a random one."""
    keys = row_keys(jax.random.key(1), jnp.arange(4000, dtype=jnp.uint32))
    noise = np.asarray(normal(noise_bits(keys, jnp.zeros((4000, 8, 8)))), np.float64)
    directions = noise.reshape(4000, -1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    covariance = 64 * directions.T @ directions / 4000
    # Marchenko-Pastur: the eigenvalues of a sample covariance of white noise.
    edge = np.sqrt(64 / 4000)
    eigenvalues = np.linalg.eigvalsh(covariance)
    assert eigenvalues.min() > (1 - edge) ** 2 - 0.05
    assert eigenvalues.max() < (1 + edge) ** 2 + 0.05


def test_blocks_share_their_bits_and_rows_do_not_depend_on_their_mates() -> None:
    blocks = jnp.array([0, 2, 4, 6, 0, 2, 4, 6])
    bits = np.asarray(noise_bits(KEYS, LIKE, blocks))
    for row, block in enumerate(blocks):
        grouped = bits[row].reshape(-1, 2 ** int(block))
        assert (grouped == grouped[:, :1]).all()
        assert len(np.unique(grouped[:, 0])) > 0.99 * len(grouped)
    alone = noise_bits(KEYS[3:4], LIKE[3:4], blocks[3:4])
    np.testing.assert_array_equal(alone[0], bits[3])


def test_starts_climb_from_quiet_to_pure_noise_inside_the_bounds() -> None:
    x = jnp.asarray(np.random.default_rng(0).uniform(-4.9, 6.9, (1, 500)).astype(np.float32))

    def start(tries: int, bounds: tuple[float, float] | None) -> np.ndarray:
        number = jnp.array([tries])
        bits = noise_bits(step_keys(KEYS[:1], number), x, start_blocks(number))
        return np.asarray(start_candidate(bits, number, x, bounds))[0]

    distances = [np.linalg.norm(start(tries, (-5.0, 7.0)) - x[0]) for tries in range(0, 32, 4)]
    ratios = np.array(distances[1:]) / distances[:-1]
    assert (np.abs(ratios - 2) < 0.2).all()
    assert start(31, (-5.0, 7.0)).min() > -5
    assert start(31, (-5.0, 7.0)).max() < 7
    # Without bounds, it goes as far as the input's own peak at first, and then further.
    assert np.abs(start(28, None)).max() <= np.abs(x).max()
    assert np.abs(start(60, None)).max() > 4 * np.abs(x).max()
    silent = start_candidate(noise_bits(KEYS[:1], x), jnp.array([31]), jnp.zeros_like(x), None)
    assert np.abs(np.asarray(silent)).max() > 0.9


def test_a_row_without_a_finite_prediction_is_no_success() -> None:
    logits = jnp.array([[0.0, 1.0], [jnp.nan, 1.0], [2.0, 1.0]])
    hit, flags = decide(lambda x: logits, logits, jnp.array([0, 0, 0]), targeted=False)
    assert hit.tolist() == [True, False, False]
    assert flags.tolist() == [0, NON_FINITE, 0]


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
def test_what_a_search_ends_on_is_adversarial_in_batches_of_another_size() -> None:
    """It would end on the boundary itself, which rounding puts on either side."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(32)
    labels = np.asarray(victim.logits(x)).argmax(axis=1)
    attack = Boundary(queries=2_500, bounds=(-1.0, 1.0))
    result = run_attack(victim, x, labels, attack, [float("inf")], devices=jax.devices()[:1])
    assert result.success.all()
    for size in (1, 3):
        parts = [result.x_adv[0, start : start + size] for start in range(0, len(x), size)]
        logits = np.concatenate([victim.logits(part) for part in parts])
        assert (logits.argmax(axis=1) != labels).all()
