"""Victims with noise of their own: it belongs to the row, and the rows say that it is there."""

import dataclasses
import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long
from toy_attacks import Listening

from jaxser import run_attack
from jaxser.attacks import FGSM, PGD, DeepFool
from jaxser.attacks.base import BATCH_DEPENDENT, PROBABILITIES, RANDOMISED
from jaxser.driver.result import AttackResult
from jaxser.driver.run import clean_pass
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

DEVICES = jax.devices()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two attacks, one after the other."""

    name: ClassVar[str] = "pair"
    targeted: bool = False
    bounds: Any = (-1.0, 1.0)

    def attacks(self, num_classes: int) -> tuple[Any, ...]:
        return FGSM(), PGD(steps=3)


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


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(FGSM(), marks=pytest.mark.long),
        PGD(steps=4, early_stop=True),
    ],
    ids=str,
)
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


def spread(victim: Any, x_adv: np.ndarray, y: np.ndarray, draws: int) -> np.ndarray:
    """Success of each row under so many draws of the victim's noise."""
    found = [
        np.asarray(victim.logits(x_adv, jax.random.split(jax.random.key(100 + draw), len(y))))
        for draw in range(draws)
    ]
    return np.stack([logits.argmax(axis=1) != y for logits in found])


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(FGSM(), marks=pytest.mark.long),
        pytest.param(PGD(steps=4), marks=pytest.mark.long),
        DeepFool(),
        Pair(),
    ],
    ids=str,
)
def test_success_is_a_share_over_fresh_draws(attack: Any) -> None:
    order = np.arange(16)
    epsilon = [np.inf] if getattr(attack, "minimal_norm", False) else [0.02]
    options: dict[str, Any] = {"seed": 5, "batch_size": 8, "devices": DEVICES[:1]}
    x, y = small_victims.waveforms(24)[order], small_victims.labels(24)[order]

    def rows(draws: int, **more: Any) -> AttackResult:
        return run_attack(noisy_victim(), x, y, attack, epsilon, draws=draws, **(options | more))

    one, many = rows(1), rows(40)
    # A row has withstood where it withstands under all noise, of which the first draw is one.
    np.testing.assert_array_equal(many.success, many.success_share > 0)
    np.testing.assert_array_equal(many.success, many.prediction != y)
    assert set(np.unique(one.success_share)) <= {0, 1}
    assert (many.success >= one.success).all()
    assert ((many.success_share > 0) & (many.success_share < 1)).any()
    if not isinstance(attack, Pair):  # which ends where the first member has any success
        np.testing.assert_array_equal(many.x_adv, one.x_adv)
        fresh = spread(noisy_victim(), many.x_adv[0], y, 200).mean(axis=0)
        np.testing.assert_allclose(many.success_share[0], fresh, atol=0.3)
        assert abs(many.success_share.mean() - fresh.mean()) < 0.03
    # The draws are the row's own, as all its noise is.
    other = rows(40, batch_size=4)
    np.testing.assert_array_equal(other.success_share, many.success_share)
    assert (rows(40, seed=6).success_share != many.success_share).any()
    assert set(np.unique(5 * rows(5).success_share).tolist()) <= set(range(6))


def test_victims_without_noise_are_looked_at_once() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(4)
    result = run_attack(victim, x, None, PGD(steps=2), [0.05], batch_size=4)
    np.testing.assert_array_equal(result.success_share, result.success)


def of_batch_statistics(x: jax.Array) -> jax.Array:
    return (x - x.mean(axis=0, keepdims=True)) / (x.std(axis=0, keepdims=True) + 1e-5)


# What a row's neighbours, or its place, do to it.
DEPENDENT = {
    "batch statistics": of_batch_statistics,
    "the batch's mean": lambda x: x + x.mean(axis=0, keepdims=True),
    "the batch's peak": lambda x: x / jnp.abs(x).max(),
    "a sum over rows": lambda x: x + 0.1 * x.sum(axis=0, keepdims=True),
    "attention over rows": lambda x: jax.nn.softmax(x @ x.T, axis=1) @ x,
    "the row before": lambda x: x + jnp.roll(x, 1, axis=0),
    "the place": lambda x: x + 0.3 * jnp.arange(len(x))[:, None],
    "the first row": lambda x: x - 0.5 * x[:1],
}


def summed(x: jax.Array) -> jax.Array:
    return x @ jnp.asarray(small_victims.linear_weights()["kernel"])


# One row alone is seen by what an attack runs it beside: its other ε.
ALONE = [(name, 1) for name in DEPENDENT]
TOGETHER = [(name, rows) for name in DEPENDENT for rows in (2, 9)]


@pytest.mark.parametrize(
    ("name", "rows"), short_and_long([*ALONE, *TOGETHER], [*ALONE[-3:], *TOGETHER[::2]])
)
def test_victims_whose_rows_depend_on_the_batch_are_noticed(name: str, rows: int) -> None:
    mix, x = DEPENDENT[name], small_victims.waveforms(rows)

    def victim(x: jax.Array) -> jax.Array:
        return summed(mix(x))

    if rows == 1:
        result = run_attack(victim, x, None, FGSM(), [0.1, 0.2], batch_size=4, devices=DEVICES[:1])
        flags = result.flags
    else:
        flags = clean_pass(victim, x, batch_size=4, devices=DEVICES[:1]).flags
    assert (flags & BATCH_DEPENDENT).all()
    assert not (flags & RANDOMISED).any()


@pytest.mark.parametrize(
    ("kind", "rows"),
    short_and_long(
        itertools.product(("linear", "conv", "spectrogram", "front_end"), (1, 2, 9)),
        [("conv", 1), ("spectrogram", 2), ("front_end", 2), ("front_end", 9)],
    ),
)
def test_victims_whose_rows_are_their_own_are_not_accused(kind: str, rows: int) -> None:
    victim, x = small_victims.small_victim(kind), small_victims.inputs(kind, rows)
    for devices in (DEVICES[:1], DEVICES[:2]):
        flags = clean_pass(victim, x, devices=devices).flags
        assert not (flags & (BATCH_DEPENDENT | RANDOMISED)).any()
        if rows == 1 and kind != "front_end":
            result = run_attack(victim, x, None, FGSM(), [0.1, 0.2], devices=devices)
            assert not (result.flags & (BATCH_DEPENDENT | RANDOMISED)).any()


def test_noise_that_rows_share_is_noticed() -> None:
    plain = small_victims.small_victim("conv")

    def apply(variables: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        noise = jax.random.normal(keys[0], x.shape)
        return small_victims.conv_apply(variables, x + 0.02 * noise)

    shared = Victim(apply, plain.variables, plain.labels, plain.input_shape, randomised=True)
    x = small_victims.waveforms(8)
    options: dict[str, Any] = {"batch_size": 8, "devices": DEVICES[:1]}
    assert (clean_pass(shared, x, **options).flags & BATCH_DEPENDENT).all()
    assert not (clean_pass(noisy_victim(), x, **options).flags & BATCH_DEPENDENT).any()


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
