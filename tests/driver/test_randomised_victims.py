"""Victims with noise of their own: it belongs to the row, and the rows say that it is there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from toy_attacks import Listening

from jaxser import run_attack
from jaxser.attacks import FGSM, PGD
from jaxser.attacks.base import PROBABILITIES, RANDOMISED
from jaxser.driver.result import AttackResult
from jaxser.driver.run import clean_pass
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

DEVICES = jax.devices()


def noisy_apply(variables: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    return small_victims.conv_apply(variables, x + 0.02 * noise)


def noisy_victim() -> Victim:
    plain = small_victims.small_victim("conv")
    return Victim(
        apply=noisy_apply,
        variables=plain.variables,
        labels=plain.labels,
        input_shape=plain.input_shape,
        name="noisy",
        randomised=True,
    )


def attack_all(attack: Any, order: np.ndarray, **options: Any) -> AttackResult:
    x, y = small_victims.waveforms(24), small_victims.labels(24)
    settings: dict[str, Any] = {"seed": 5, "batch_size": 8, "devices": DEVICES[:1], **options}
    ids = [f"utterance {i}" for i in order]
    return run_attack(noisy_victim(), x[order], y[order], attack, [0.02, 0.1], ids=ids, **settings)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=4, early_stop=True)], ids=str)
def test_the_noise_of_a_row_is_its_own(attack: Any) -> None:
    straight = np.arange(16)
    base = attack_all(attack, straight)
    shuffled = np.random.default_rng(0).permutation(24)
    other = attack_all(attack, shuffled)
    where = np.argsort(shuffled)[straight]
    for name in ("x_adv", "prediction", "steps", "flags"):
        np.testing.assert_array_equal(getattr(other, name)[:, where], getattr(base, name))
    for options in ({"batch_size": 10, "devices": DEVICES[:2]}, {"loop": "device"}):
        other = attack_all(attack, straight, **options)
        np.testing.assert_allclose(other.x_adv, base.x_adv, atol=1e-5)
        np.testing.assert_array_equal(other.steps, base.steps)
    another_seed = attack_all(attack, straight, seed=6)
    assert (another_seed.x_adv != base.x_adv).any()
    assert (base.flags & RANDOMISED).all()


def test_every_step_hears_other_noise_and_candidates_share_it() -> None:
    order = np.arange(8)
    heard = [
        attack_all(Listening(copies=copies), order).x_adv[:, :, : 3 * small_victims.CLASSES]
        for copies in (1, 4)
    ]
    np.testing.assert_allclose(heard[1], heard[0], atol=1e-4)
    steps = heard[0][0].reshape(8, 3, small_victims.CLASSES)
    assert (np.abs(steps[:, 0] - steps[:, 1]).max(axis=1) > 1e-3).all()
    assert (np.abs(steps[:, 1] - steps[:, 2]).max(axis=1) > 1e-3).all()
    # ε changes no noise: it is the utterance's.
    np.testing.assert_array_equal(heard[0][0], heard[0][1])


def test_the_clean_pass_is_reproducible_and_depends_on_ids_and_seed() -> None:
    victim, x = noisy_victim(), small_victims.waveforms(24)
    options: dict[str, Any] = {"batch_size": 8, "devices": DEVICES[:1]}
    one = clean_pass(victim, x, seed=1, **options)
    assert (one.prediction == clean_pass(victim, x, seed=1, **options).prediction).all()
    assert (one.prediction != clean_pass(victim, x, seed=2, **options).prediction).any()
    names = [f"u{i}" for i in range(24)]
    back = clean_pass(victim, x[::-1], seed=1, ids=names[::-1], **options)
    forth = clean_pass(victim, x, seed=1, ids=names, **options)
    np.testing.assert_array_equal(back.prediction[::-1], forth.prediction)


def test_victims_that_are_random_behind_the_scenes_are_noticed() -> None:
    victim = small_victims.small_victim("conv")
    rng = np.random.default_rng(0)

    def draw(x: np.ndarray) -> np.ndarray:
        return rng.normal(0, 0.1, x.shape).astype(np.float32)

    def sneaky(x: jax.Array) -> jax.Array:
        return victim.logits(x + jax.pure_callback(draw, x, x))

    x = small_victims.waveforms(5)
    options: dict[str, Any] = {"batch_size": 5, "devices": DEVICES[:1]}
    assert (clean_pass(sneaky, x, **options).flags & RANDOMISED).all()
    assert not clean_pass(victim, x, **options).flags.any()


def test_probabilities_are_flagged_by_row() -> None:
    victim = small_victims.small_victim("conv")
    x = small_victims.waveforms(6)

    def some_probabilities(x: jax.Array) -> jax.Array:
        logits = victim.logits(x)
        return jnp.where(x[:, :1] > 0, jax.nn.softmax(logits), logits)

    options: dict[str, Any] = {"batch_size": 6, "devices": DEVICES[:1]}
    result = run_attack(some_probabilities, x, None, FGSM(), [0.01], **options)
    np.testing.assert_array_equal((result.flags[0] & PROBABILITIES) != 0, x[:, 0] > 0)
    assert len(np.unique(x[:, 0] > 0)) == 2


def test_logits_of_a_randomised_victim_need_keys() -> None:
    victim, x = noisy_victim(), jnp.asarray(small_victims.waveforms(2))
    with pytest.raises(UsageError, match="one key per row"):
        victim.logits(x)
    keys = jax.random.split(jax.random.key(0), 2)
    assert victim.logits(x, keys).shape == (2, small_victims.CLASSES)
