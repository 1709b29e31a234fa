"""Losses of attacks, where float32 makes them hard: confident victims."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxser.attacks.losses import (
    SATURATION_LOG_ODDS,
    attack_loss,
    cross_entropy,
    dlr_loss,
    is_successful,
    log_odds,
    margin_loss,
    prediction,
    targeted_dlr_loss,
)


def logits_and_labels() -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(0, 3, (20, 6)), jnp.float32), jnp.asarray(
        rng.integers(0, 6, 20), jnp.int32
    )


def test_cross_entropy_is_the_usual_one() -> None:
    logits, labels = logits_and_labels()
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gap", [1.0, 10.0, 14.0, 40.0, 80.0])
def test_cross_entropy_gradient_keeps_its_precision(gap: float) -> None:
    """softmax - onehot in float64 against autodiff in float32, for a victim sure by ``gap``."""
    z = np.array([[gap, 0.0, -0.5]])
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    others = p[0, 1:].sum()
    expected = np.array([[-others, p[0, 1], p[0, 2]]])
    got = jax.grad(lambda z: cross_entropy(z, jnp.asarray([0])).sum())(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_margin_and_log_odds() -> None:
    logits = jnp.asarray([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    labels = jnp.asarray([1, 2])
    np.testing.assert_allclose(margin_loss(logits, labels), [-2.0, 2.0])
    expected = [np.log(np.exp(1) + np.exp(2)) - 4, np.log(np.exp(1) + np.exp(4)) - 2]
    np.testing.assert_allclose(log_odds(logits, labels), expected, rtol=1e-6)


@pytest.mark.parametrize("targeted", [False, True])
def test_attack_loss_falls_back_where_float32_saturates(targeted: bool) -> None:
    gap = np.array([-SATURATION_LOG_ODDS - 0.5, -SATURATION_LOG_ODDS + 0.5], np.float32)
    logits = jnp.asarray(np.stack([gap, np.zeros(2)], axis=1), jnp.float32)
    labels = jnp.zeros(2, jnp.int32)
    loss, fell_back = attack_loss(logits, labels, targeted)
    np.testing.assert_array_equal(fell_back, [False, True])
    sign = -1 if targeted else 1
    expected = [cross_entropy(logits, labels)[0], margin_loss(logits, labels)[1]]
    np.testing.assert_allclose(loss, sign * np.array(expected), rtol=1e-6)
    gradient = jax.grad(lambda z: attack_loss(z, labels, targeted)[0].sum())(logits)
    np.testing.assert_allclose(gradient[1], [-sign, sign])
    assert np.abs(gradient[0]).max() < 1e-6  # the cross-entropy's own, tiny gradient


def test_prediction_and_success() -> None:
    logits = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [jnp.nan, 0.0], [jnp.inf, 0.0]])
    predicted = prediction(logits)
    np.testing.assert_array_equal(predicted, [1, 0, -1, -1])
    labels = jnp.zeros(4, jnp.int32)
    np.testing.assert_array_equal(
        is_successful(predicted, labels, targeted=False), [True, False, False, False]
    )
    np.testing.assert_array_equal(
        is_successful(predicted, labels, targeted=True), [False, True, False, False]
    )


def test_the_ratios_by_their_definition() -> None:
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 6, 40)
    reach = (y + rng.integers(1, 6, 40)) % 6
    ratio, towards = [], []
    for z, label, goal in zip(logits, y, reach, strict=True):
        top = np.sort(z)[::-1]
        ratio.append((np.delete(z, label).max() - z[label]) / (top[0] - top[2]))
        towards.append((z[goal] - z[label]) / (top[0] - (top[2] + top[3]) / 2))
    np.testing.assert_allclose(dlr_loss(logits, y), ratio, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(targeted_dlr_loss(logits, y, reach), towards, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(dlr_loss(1e3 * logits + 7, y), ratio, rtol=1e-2, atol=1e-3)
