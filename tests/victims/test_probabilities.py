"""Victims that answer with probabilities: closed forms, and what the driver says of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import PROBABILITIES
from jaxser.attacks.deepfool import DeepFool
from jaxser.victims import with_probabilities
from jaxser.victims.probabilities import probabilities_fingerprint

ONE_DEVICE = {"devices": jax.devices()[:1]}


def test_the_softmax_and_its_gradient() -> None:
    """On a linear victim: p_i, and p_i (w_i - sum of p_j w_j)."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(6)
    given = with_probabilities(victim)
    kernel = np.asarray(victim.variables["kernel"], float)
    logits = x @ kernel + np.asarray(victim.variables["bias"], float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(given.logits(x), expected, rtol=1e-4)
    assert given.name == f"{victim.name}[softmax]"
    slope = jax.grad(lambda x: given.logits(x)[:, 0].sum())(jnp.asarray(x))
    mean = expected @ kernel.T
    np.testing.assert_allclose(slope, expected[:, :1] * (kernel[:, 0] - mean), rtol=1e-3, atol=1e-5)


def test_an_attack_that_steps_by_the_gradient_is_misled_and_the_rows_say_so() -> None:
    """DeepFool's step is margin over gradient, which a confident victim's softmax has none of."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(12)

    def found(given: Any) -> Any:
        attack = DeepFool(steps=1, bounds=None, compat="torchattacks")
        return run_attack(given, x, None, attack, [float("inf")], **ONE_DEVICE)

    logits, saturated = found(victim), found(with_probabilities(victim))
    assert not (logits.flags & PROBABILITIES).any()
    assert (saturated.flags & PROBABILITIES).all()
    np.testing.assert_array_equal(logits.labels, saturated.labels)
    assert logits.success.all()
    assert saturated.measures["l2"].max() > 2 * logits.measures["l2"].max()


def test_another_victim_than_that_of_the_logits() -> None:
    assert probabilities_fingerprint("a") != "a"
    assert probabilities_fingerprint("a") != probabilities_fingerprint("b")
