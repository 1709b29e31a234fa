"""Two bounds at once: how many samples change, and by how much each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.carlini_l0 import CarliniL0
from jaxser.attacks.few_pixel import FewPixel
from jaxser.attacks.jsma import JSMA
from jaxser.attacks.one_pixel import OnePixel
from jaxser.attacks.pixle import Pixle
from jaxser.attacks.sparse import amplitude_box
from jaxser.attacks.sparsefool import SparseFool
from jaxser.attacks.tanh_space import in_box, offset_to
from jaxser.runtime.errors import UsageError

ONE_DEVICE = {"devices": jax.devices()[:1]}
AMPLITUDE = 0.3
# With settings that nearly always find something where nothing bounds the amplitude.
ATTACKS = [
    JSMA(theta=1.0, amplitude=AMPLITUDE),
    CarliniL0(steps=8, rounds=12, initial_const=1.0, amplitude=AMPLITUDE),
    Pixle(restarts=3, iterations=5, x_dimensions=(2, 4), amplitude=AMPLITUDE),
    FewPixel(count=6, population=20, generations=3, compat="art", amplitude=AMPLITUDE),
]
# The original is below.
MORE = [SparseFool(variant="torchattacks", lam=2.0, amplitude=AMPLITUDE)]


def linear() -> tuple[Callable[[jax.Array], jax.Array], np.ndarray, np.ndarray, np.ndarray]:
    """(logits, inputs, margin of each, what a unit of each sample takes off it)."""
    weights = small_victims.linear_weights(classes=2, samples=16, seed=5)
    x = np.clip(2 * small_victims.waveforms(24, samples=16), -0.99, 0.99)
    margin = (x @ weights["kernel"] + weights["bias"]) @ [1.0, -1.0]
    slope = (weights["kernel"][:, 0] - weights["kernel"][:, 1]).astype(np.float64)
    gain = -np.sign(margin)[:, None] * slope
    return lambda x: small_victims.linear_apply(weights, x), x, np.abs(margin), gain


@pytest.mark.parametrize("attack", short_and_long([*ATTACKS, *MORE], ATTACKS), ids=str)
def test_both_bounds_hold(attack: Any) -> None:
    """And nothing is found where all samples together cannot take the margin away."""
    logits_fn, x, margin, gain = linear()
    counts = [2, 16]
    result = run_attack(logits_fn, x, None, attack, counts, **ONE_DEVICE)
    delta = result.x_adv - x
    assert (np.abs(delta) <= AMPLITUDE + 1e-6).all()
    assert (np.abs(result.x_adv) <= 1).all()
    for e, count in enumerate(counts):
        assert ((delta[e] != 0).sum(axis=1) <= count).all()
    room = np.minimum(AMPLITUDE, np.where(gain > 0, 1 - x, 1 + x))
    reach = (np.abs(gain) * room).sum(axis=1)
    assert not result.success[1, reach < margin * (1 - 1e-5)].any()
    assert result.success[1].any()
    assert not result.success[1].all()


def test_sparsefool_takes_the_shortest_prefix_in_the_box() -> None:
    """By falling |w|, each sample by its amplitude or to its bound, until the margin is gone."""
    logits_fn, x, margin, gain = linear()
    attack = SparseFool(lam=1.0, overshoot=0.0, amplitude=AMPLITUDE)
    result = run_attack(logits_fn, x, None, attack, [float("inf")], **ONE_DEVICE)
    order = np.argsort(-np.abs(gain[0]), kind="stable")
    room = np.minimum(AMPLITUDE, np.where(gain > 0, 1 - x, 1 + x))
    covered = np.cumsum((np.abs(gain) * room)[:, order], axis=1)
    possible = covered[:, -1] > margin * (1 + 1e-3)
    needed = (covered < margin[:, None]).sum(axis=1) + 1
    assert 3 < possible.sum() < 22
    np.testing.assert_array_equal(result.success[0], possible)
    np.testing.assert_array_equal(result.measures["l0"][0, possible], needed[possible])
    assert len(set(needed[possible])) > 2
    # Every sample but the last goes as far as it may.
    row = int(np.flatnonzero(possible & (needed > 1))[0])
    full = order[: needed[row] - 1]
    moved = np.abs(result.x_adv[0, row] - x[row])
    np.testing.assert_allclose(moved[full], room[row, full], atol=1e-6)


def test_the_box_is_the_bounds_around_the_input() -> None:
    x = jnp.asarray([[0.0, 0.95, -1.2]])
    low, high = amplitude_box(x, (-1.0, 1.0), 0.1) or (None, None)
    np.testing.assert_allclose(low, [[-0.1, 0.85, -1.2]], atol=1e-7)
    np.testing.assert_allclose(high, [[0.1, 1.0, -1.1]], atol=1e-7)
    assert amplitude_box(x, (-1.0, 1.0), None) == (-1.0, 1.0)
    low, high = amplitude_box(x, None, 0.1) or (None, None)
    np.testing.assert_allclose(low, x - 0.1, atol=1e-7)
    np.testing.assert_allclose(high, x + 0.1, atol=1e-7)


@pytest.mark.long
def test_tanh_space_in_a_box_of_each_sample() -> None:
    """There and back; far offsets end at the box, and one too narrow for float32 is left alone."""
    x = jnp.asarray([[0.0, 0.95, 0.3, 1.0]])
    box = amplitude_box(x, (-1.0, 1.0), 0.1)
    offset = jnp.asarray([[0.4, -0.3, 0.2, -0.5]])
    x_adv, slope = in_box(x, offset, box)
    np.testing.assert_allclose(offset_to(x, x_adv, box)[:, :3], offset[:, :3], atol=1e-4)
    step = 1e-3
    moved = (in_box(x, offset + step, box)[0] - in_box(x, offset - step, box)[0]) / (2 * step)
    np.testing.assert_allclose(slope[:, :3], moved[:, :3], atol=1e-3)
    far, _ = in_box(x, jnp.full_like(x, 50.0), box)
    np.testing.assert_allclose(far[0, :3], [0.1, 1.0, 0.4], atol=1e-5)
    still, slope = in_box(x, offset, amplitude_box(x, (-1.0, 1.0), 1e-12))
    np.testing.assert_allclose(still, x, atol=1e-6)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("attack", [SparseFool, JSMA, Pixle, CarliniL0])
def test_an_amplitude_is_positive(attack: Any) -> None:
    with pytest.raises(UsageError, match="amplitude must be positive"):
        attack(amplitude=-0.1)


def test_where_epsilon_is_the_amplitude_there_is_no_other() -> None:
    for attack in (OnePixel, FewPixel):
        with pytest.raises(UsageError, match="epsilon bounds how far a sample goes"):
            attack(amplitude=0.1)
