"""A seed stands for the same rows whatever JAX is set to by the program around."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long
from test_row_independence import FIRST_OF_EACH, STAA_NET, attack_all

from jaxser import run_attack
from jaxser.attacks import ATTACKS, FGSM, PGD, Noise
from jaxser.driver import machine
from jaxser.runtime.errors import UsageError
from jaxser.runtime.numerics import seed_key
from jaxser.victims.victim import Victim

COLUMNS = ("x_adv", "prediction", "success", "steps", "queries", "gradients", "flags", "found_norm")


def traced_anew() -> None:
    """Forget the programs, so that the next run traces them under the settings of its own."""
    machine._victim_programs.cache_clear()
    machine._attack_programs.cache_clear()


@contextlib.contextmanager
def other_settings() -> Any:
    traced_anew()
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.threefry_partitionable(False),
        jax.default_prng_impl("rbg"),
        jax.debug_nans(True),
        jax.debug_infs(True),
    ):
        yield
    traced_anew()


def test_every_attack_is_covered() -> None:
    assert {type(case) for case in (*FIRST_OF_EACH, STAA_NET)} == set(ATTACKS.values())


# By gradients, decisions, planes and populations; the others are long proofs.
SHORT = [case for case in FIRST_OF_EACH if case.name in ("boundary", "deepfool", "fewpixel", "pgd")]


@pytest.mark.parametrize(
    "attack",
    short_and_long([*FIRST_OF_EACH, STAA_NET], SHORT),
    ids=lambda attack: attack.name,
)
def test_the_rows_are_the_same_under_other_settings(attack: Any) -> None:
    # The programs of the usual settings are those of the rows' independence.
    kind, classes = ("conv", small_victims.CLASSES) if attack is STAA_NET else ("spectrogram", 2)
    options = {"batch_size": 7, "devices": jax.devices()[:1]}
    usual = attack_all(attack, np.arange(7), kind, classes, **options)
    with other_settings():
        other = attack_all(attack, np.arange(7), kind, classes, **options)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(other, name), getattr(usual, name), err_msg=name)
    assert other.x_adv.dtype == np.float32


def double(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # JAX says what it narrows
@pytest.mark.parametrize("closed_over", [True, False])
def test_a_victim_of_64_bits_is_heard_in_32(closed_over: bool) -> None:
    plain, x = small_victims.small_victim("linear"), small_victims.waveforms(5)
    expected = run_attack(plain, x, None, PGD(steps=2), [0.02])
    with jax.enable_x64(True):
        variables = jax.tree.map(jnp.asarray, double(plain.variables))
        assert variables["kernel"].dtype == jnp.float64
        victim: Any = Victim(plain.apply, variables, plain.labels, plain.input_shape)
        if closed_over:
            victim = lambda x: plain.apply(variables, x)  # noqa: E731
        result = run_attack(victim, np.asarray(x, np.float64), None, PGD(steps=2), [0.02])
    np.testing.assert_allclose(result.x_adv, expected.x_adv, atol=1e-6)
    np.testing.assert_array_equal(result.success, expected.success)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_logits_of_half_precision_become_float32(dtype: Any) -> None:
    plain, x = small_victims.small_victim("linear"), small_victims.waveforms(5)
    result = run_attack(lambda x: plain.logits(x).astype(dtype), x, None, PGD(steps=2), [0.1])
    assert result.success.any()


@pytest.mark.parametrize(
    ("one", "other"), [(0, 2**32), (1, 2**32 + 1), (2**32, 2**33), (5, 2**62 + 5)]
)
def test_seeds_that_differ_give_other_keys(one: int, other: int) -> None:
    assert (jax.random.key_data(seed_key(one)) != jax.random.key_data(seed_key(other))).any()


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1, np.int64(3)])
def test_seeds_of_32_bits_are_those_of_jax(seed: int) -> None:
    np.testing.assert_array_equal(
        jax.random.key_data(seed_key(seed)), jax.random.key_data(jax.random.key(seed))
    )


@pytest.mark.parametrize("seed", [-1, 2**63, 2**5000, 1.5, "one", None])
def test_a_seed_that_stands_for_another_is_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match="a seed must be") as caught:
        seed_key(seed)
    assert len(str(caught.value)) < 200
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(2)
    with pytest.raises(UsageError, match="a seed must be"):
        run_attack(victim, x, None, FGSM(), [0.1], seed=seed)


def test_rows_of_large_seeds_are_their_own() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(2)
    rows = [run_attack(victim, x, None, Noise(), [0.1], seed=seed).x_adv for seed in (0, 2**32)]
    assert (rows[0] != rows[1]).any()
