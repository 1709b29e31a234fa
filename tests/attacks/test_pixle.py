"""Pixle: destinations and copies against torchattacks' golden file, the search against brute
force."""

import functools
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import row_keys
from jaxser.attacks.pixle import Pixle, copy_patch, destinations
from jaxser.runtime.errors import InputError, UsageError

ONE = jax.devices()[:1]
GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "query.npz")
(LEFT, TOP), (WIDE, HIGH) = (1, 2), (3, 2)


@pytest.mark.parametrize("shape", ["6x6x1", "7x7x3"])
@pytest.mark.parametrize("mapping", ["similarity", "distance"])
def test_the_deterministic_mappings_are_torchattacks(shape: str, mapping: Any) -> None:
    name = f"pixle/{shape}"
    _, width, channels = (int(side) for side in shape.split("x"))
    source, base = (
        jnp.asarray(GOLDEN[f"{name}/{each}"].transpose(1, 2, 0).reshape(-1, channels))
        for each in ("source", "base")
    )
    patch = jnp.asarray(
        [(TOP + i) * width + LEFT + j for i in range(HIGH) for j in range(WIDE)], jnp.int32
    )
    to = jax.jit(destinations, static_argnums=1)(
        jnp.zeros(patch.shape), mapping, patch, source, base
    )
    theirs = GOLDEN[f"{name}/{mapping}/to"]
    np.testing.assert_array_equal(to, theirs[:, 1] * width + theirs[:, 0])
    # They write (x, y) where (y, x) is meant.
    exchanged = to % width * width + to // width
    made = jax.jit(copy_patch)(source, base, patch, exchanged, jnp.ones(patch.shape, bool))
    expected = GOLDEN[f"{name}/{mapping}/made"].transpose(1, 2, 0).reshape(-1, channels)
    np.testing.assert_array_equal(made, expected)
    assert (np.asarray(made) != np.asarray(base)).any()


@pytest.mark.parametrize("mapping", ["similarity_random", "distance_random"])
def test_the_random_mappings_draw_from_the_softmax(mapping: Any) -> None:
    rng = np.random.default_rng(0)
    source, base = rng.uniform(-2, 2, (2, 9, 1))
    draws = (np.arange(20_000) + 0.5) / 20_000
    patch = jnp.full((20_000,), 4)
    to = np.asarray(
        destinations(jnp.asarray(draws), mapping, patch, jnp.asarray(source), jnp.asarray(base))
    )
    weight = np.abs(base[:, 0] - source[4, 0])
    if mapping == "similarity_random":
        weight = 1 / (1 + weight)
    probability = np.exp(weight)
    probability[4] = 0
    probability /= probability.sum()
    np.testing.assert_allclose(np.bincount(to, minlength=9) / 20_000, probability, atol=1e-3)


def test_similarity_passes_over_equal_samples() -> None:
    source, base = jnp.asarray([[0.5], [0.1], [0.2]]), jnp.asarray([[0.5], [0.5], [0.3]])
    patch = jnp.asarray([0])
    for mapping in ("similarity", "distance"):
        to = jax.jit(destinations, static_argnums=1)(jnp.zeros(1), mapping, patch, source, base)
        assert to == 2


def test_the_last_pixel_wins_a_shared_place_and_padding_copies_nothing() -> None:
    source = jnp.arange(5.0)[:, None]
    base = jnp.full((5, 1), -1.0)
    patch, to = jnp.asarray([1, 2, 3, 0]), jnp.asarray([4, 0, 4, 2])
    valid = jnp.asarray([True, True, True, False])
    made = jax.jit(copy_patch)(source, base, patch, to, valid)
    np.testing.assert_array_equal(made[:, 0], [2, -1, -1, -1, 3])


def draws_of(attack: Pixle, shape: tuple[int, int, int], count: int) -> list[np.ndarray]:
    """Changes that random patches make to an input of distinct values."""
    positions = shape[0] * shape[1]
    x = jnp.broadcast_to(jnp.arange(1.0, positions + 1)[:, None], (positions, shape[2]))
    base = jnp.zeros_like(x)
    (_, (high, wide)) = attack._patch_sides(shape)
    draws = jax.random.uniform(jax.random.key(0), (count, 4 + high * wide))
    make = jax.vmap(lambda draws: attack._candidate(draws, x, base, shape))
    made = np.asarray(jax.jit(make)(draws))
    return [each[:, 0] for each in made]


def test_patches_lie_in_the_input_and_reach_all_of_it() -> None:
    height, width = 5, 40
    attack = Pixle(x_dimensions=(2, 6), y_dimensions=(0.2, 0.6))
    assert attack._patch_sides((height, width, 1)) == ((1, 2), (3, 6))
    read, written = set(), set()
    for made in draws_of(attack, (height, width, 1), 2000):
        places = np.flatnonzero(made)
        values = made[places].astype(int) - 1
        rows, cols = values // width, values % width
        assert 1 <= np.ptp(rows) + 1 <= 3
        assert 1 <= np.ptp(cols) + 1 <= 6
        read |= set(values.tolist())
        written |= set(places.tolist())
    assert read == written == set(range(height * width))


def test_torchattacks_never_draws_the_last_row_and_column() -> None:
    attack = Pixle(compat="torchattacks")
    written: set[int] = set()
    for made in draws_of(attack, (8, 8, 1), 1000):
        written |= set(np.flatnonzero(made).tolist())
    assert written == {8 * i + j for i in range(7) for j in range(7)}


def test_a_waveforms_patch_is_an_interval() -> None:
    for made in draws_of(Pixle(x_dimensions=(3, 3)), (1, 50, 1), 200):
        values = np.sort(made[made > 0])
        assert len(values) <= 3
        assert np.ptp(values) <= 2


def test_success_changes_few_samples_and_makes_up_no_value() -> None:
    victim = small_victims.small_victim("spectrogram")
    x = small_victims.spectrograms(16)
    y = np.asarray(victim.logits(jnp.asarray(x))).argmax(axis=1)
    y[:4] = (y[:4] + 1) % 5
    attack = Pixle(restarts=2, iterations=5, x_dimensions=(1, 2), y_dimensions=(1, 1))
    result = run_attack(victim, x, y, attack, [120.0], devices=ONE, batch_size=8)
    success, changed = result.success[0], result.measures["l0"][0]
    assert success[:4].all()
    assert (result.queries[0, :4] == 1).all()
    assert (changed[:4] == 0).all()
    assert success[4:].any()
    assert not success.all()
    for row in range(16):
        assert set(result.x_adv[0, row].ravel()) <= set(x[row].ravel())
        if success[row]:
            # Every restart adds at most one patch of two samples.
            assert changed[row] <= 2 * result.steps[0, row]
        else:
            np.testing.assert_array_equal(result.x_adv[0, row], x[row])
            assert result.queries[0, row] == 1 + 10
    logits = victim.logits(jnp.asarray(result.x_adv[0]))
    np.testing.assert_array_equal(np.argmax(logits, axis=1) != y, success)


def replay(attack: Pixle, updates: int) -> list[Any]:
    """States of a run against a victim that is never fooled, with a score per input."""
    x = jnp.asarray(small_victims.waveforms(3))
    weights = jnp.linspace(-1, 1, 64)

    def sure(x: jax.Array) -> jax.Array:
        return jnp.stack([1e3 + x @ weights, jnp.zeros(x.shape[0])], axis=1)

    keys = row_keys(jax.random.key(0), jnp.arange(3, dtype=jnp.uint32))
    state = attack.init(sure, keys, x, jnp.zeros(3, jnp.int32), jnp.full((3,), jnp.inf))
    step = jax.jit(lambda state: attack.step(sure, state))
    states = [state]
    for _ in range(updates):
        states.append(step(states[-1]))
    return states


def test_a_restart_goes_on_from_the_best_input() -> None:
    attack = Pixle(restarts=4, iterations=10, candidates=5)
    assert attack.forward_rows == 5
    assert attack.max_steps == 8
    states = replay(attack, 8)
    for before, after in itertools.pairwise(states):
        assert (after.score <= before.score).all()
        if int(after.steps[0]) % 2:
            # In the middle of a restart patches still go to the same input.
            np.testing.assert_array_equal(after.base, before.base)
        else:
            np.testing.assert_array_equal(after.base, after.best)
    assert (states[-1].score < states[0].score).all()
    assert np.asarray(states[-1].done).all()
    assert (np.asarray(states[-1].queries) == 41).all()
    np.testing.assert_array_equal(states[-1].x_adv, states[0].x)


def test_patch_upon_patch() -> None:
    attack = Pixle(iterations=30, restarts=20, update_each_iteration=True)
    assert attack.forward_rows == 1
    assert attack.max_steps == 30
    states = replay(attack, 30)
    improved = 0
    for before, after in itertools.pairwise(states):
        better = np.asarray(after.score < before.score)
        improved += better.sum()
        same = (np.asarray(after.base) == np.asarray(before.base)).all(axis=1)
        np.testing.assert_array_equal(same, ~better)
        np.testing.assert_array_equal(after.base, after.best)
    assert improved > 10
    assert (np.asarray(states[-1].queries) == 31).all()


def test_torchattacks_goes_on_from_its_last_bad_patch() -> None:
    """A victim that grows surer with every change leaves the default where it is."""
    x = jnp.asarray(small_victims.spectrograms(2)[:, :10])

    def surer(z: jax.Array) -> jax.Array:
        changed = (z != jnp.repeat(x, z.shape[0] // 2, axis=0)).sum(axis=(1, 2))
        return jnp.stack([1.0 + changed, jnp.zeros(z.shape[0])], axis=1)

    keys = row_keys(jax.random.key(0), jnp.arange(2, dtype=jnp.uint32))
    for compat in (None, "torchattacks"):
        attack = Pixle(compat=compat, iterations=5)
        state = attack.init(surer, keys, x, jnp.zeros(2, jnp.int32), jnp.full((2,), jnp.inf))
        state = jax.jit(functools.partial(attack.step, surer))(state)
        stayed = (np.asarray(state.base) == np.asarray(x)).all(axis=(1, 2))
        np.testing.assert_array_equal(stayed, compat is None)
        np.testing.assert_array_equal(state.x_adv, x)


def test_bad_settings_are_refused() -> None:
    for settings in (
        {"x_dimensions": (0, 5)},
        {"x_dimensions": (0.2, 1.5)},
        {"y_dimensions": (5, 2)},
        {"mapping": "nearest"},
        {"restarts": 0},
        {"iterations": 0},
        {"candidates": 0},
        {"compat": "art"},
    ):
        with pytest.raises(UsageError, match="pixle: "):
            Pixle(**settings)
    with pytest.raises(InputError, match="square inputs only"):
        run_attack(
            small_victims.small_victim("spectrogram"),
            small_victims.spectrograms(2),
            [0, 1],
            Pixle(compat="torchattacks"),
            [10.0],
        )
