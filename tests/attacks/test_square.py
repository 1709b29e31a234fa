"""Square: windows, schedules and patterns against golden files, the search against closed forms."""

import functools
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from short_and_long import short_and_long

from jaxser import run_attack
from jaxser.attacks.base import row_keys
from jaxser.attacks.square import Square
from jaxser.attacks.square_windows import bump_table, bumps, halvings, window_sides
from jaxser.runtime.errors import UsageError

ONE = jax.devices()[:1]
GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "query.npz")


@pytest.mark.parametrize(
    ("queries", "rescale"), [(200, True), (5000, True), (5000, False), (10_000, True)]
)
def test_the_schedule_is_torchattacks(queries: int, rescale: bool) -> None:
    ours = halvings(jnp.arange(queries), queries, rescale)
    np.testing.assert_array_equal(ours, GOLDEN[f"square/halvings/{queries}/{rescale}"])


@pytest.mark.parametrize("size", [3, 5, 8, 13])
@pytest.mark.parametrize("across", [False, True])
def test_the_l2_pattern_is_torchattacks(size: int, across: bool) -> None:
    place = jnp.arange(size)
    sides = jnp.asarray(size)
    table = jnp.asarray(bump_table(size), jnp.float32)
    ours = jax.jit(bumps)(
        place[:, None], place[None, :], (sides, sides), jnp.asarray(across), table
    )
    theirs = GOLDEN[f"square/eta/{size}"]
    np.testing.assert_allclose(ours, theirs.T if across else theirs, atol=1e-6)


def test_windows_fit_inputs_of_any_shape_and_keep_their_area() -> None:
    assert window_sides(224, 224, 0.8) == (200, 200)
    assert window_sides(12, 10, 0.8) == (10, 10)
    # Wider than high: the side that does not fit gives its area to the other.
    assert window_sides(10, 300, 0.8) == (10, 240)
    assert window_sides(300, 10, 0.8) == (240, 10)
    assert window_sides(32_000, 1, 0.8) == (25_600, 1)
    assert window_sides(32_000, 1, 0.8 / 512) == (50, 1)
    assert window_sides(12, 10, 0.001) == (1, 1)
    for height, width in ((12, 10), (10, 300), (7, 7), (64, 1)):
        for level in range(10):
            high, wide = window_sides(height, width, 0.8 / 2**level, least=3)
            assert 1 <= high <= height
            assert 1 <= wide <= width


def sure(x: jax.Array) -> jax.Array:
    """Logits of a victim that never errs but is surer the larger its input."""
    total = x.reshape(x.shape[0], -1).sum(axis=1)
    return jnp.stack([1e3 + total, jnp.zeros(x.shape[0])], axis=1)


@functools.cache
def step_program(attack: Square) -> Any:
    return jax.jit(functools.partial(attack.step, sure))


def steps_of(attack: Square, x: np.ndarray, epsilon: float, count: int) -> list[Any]:
    """States of a run against that victim."""
    keys = row_keys(jax.random.key(0), jnp.arange(len(x), dtype=jnp.uint32))
    y, epsilons = jnp.zeros(len(x), jnp.int32), jnp.full((len(x),), epsilon)
    states = [attack.init(sure, keys, jnp.asarray(x), y, epsilons)]
    for _ in range(count):
        states.append(step_program(attack)(states[-1]))
    return states


def test_every_row_has_its_own_window_at_its_own_place_in_the_schedule() -> None:
    x = np.zeros((6, 9, 30), np.float32)
    states = steps_of(Square(queries=60), x, 0.1, 12)
    stripes = np.asarray(states[2].iterate)
    # The start: one sign per column, all rows alike; another pattern in each input.
    np.testing.assert_allclose(np.abs(stripes), 0.1, rtol=1e-6)
    np.testing.assert_array_equal(stripes, np.broadcast_to(stripes[:, :1], stripes.shape))
    assert len(np.unique(stripes[:, 0], axis=0)) == 6
    for before, after in itertools.pairwise(states[2:]):
        old, new = np.asarray(before.iterate), np.asarray(after.iterate)
        changed = [np.argwhere(a != b) for a, b in zip(old, new, strict=True)]
        assert (np.asarray(after.iterate_loss) <= np.asarray(before.iterate_loss)).all()
        for row, places in enumerate(changed):
            if len(places):
                # One value inside the window, so all that changed is alike.
                assert len(np.unique(new[row][tuple(places.T)])) == 1
        corners = {tuple(places[0]) + tuple(places[-1]) for places in changed if len(places)}
        if len(corners) > 2:
            break
    else:
        raise AssertionError("all rows shared a window")


def test_the_loss_is_the_closed_form_in_the_end() -> None:
    """Where only the sum counts, the best of the box is -ε everywhere."""
    x = np.zeros((3, 24), np.float32)
    states = steps_of(Square(queries=400), x, 0.1, 402)
    assert (np.asarray(states[-1].x_adv) < 0).mean() > 0.95
    np.testing.assert_allclose(np.abs(np.asarray(states[-1].x_adv)), 0.1, rtol=1e-6)
    losses = np.array([np.asarray(state.loss) for state in states])
    assert (np.diff(losses, axis=0) <= 0).all()


def test_no_query_is_spent_on_an_input_that_is_there_already() -> None:
    x = np.zeros((3, 24), np.float32)
    attack, theirs = Square(queries=400), Square(queries=400, compat="torchattacks")
    state = steps_of(attack, x, 0.1, 100)[-1]
    keys = jax.random.split(jax.random.key(5), 500)
    delta = (state.iterate[0] - state.x[0])[:, None, None]

    def idle(attack: Square) -> int:
        moved = jax.jit(
            jax.vmap(
                lambda key: attack._linf_window(
                    key, jnp.zeros((24, 1, 1)), delta, jnp.asarray(0.1), jnp.asarray([1, 1])
                )
            )
        )(keys)
        return int((jnp.abs(moved - delta[None]) < 1e-6).all(axis=(1, 2, 3)).sum())

    assert idle(attack) == 0
    assert 150 < idle(theirs) < 350


@pytest.mark.parametrize(
    ("norm", "shape"),
    short_and_long(
        [("linf", (9, 30)), ("linf", (5, 4, 3)), ("l2", (48,)), ("l2", (9, 30)), ("l2", (1, 8, 3))],
        [("linf", (5, 4, 3)), ("l2", (9, 30))],
    ),
)
def test_the_ball_is_used_up_and_never_left(norm: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).uniform(-0.4, 0.4, (3, *shape)).astype(np.float32)
    states = steps_of(Square(norm=norm, queries=30), x, 0.3, 20)
    moved = np.asarray(states[-1].iterate) - x
    assert (moved.reshape(3, -1) != 0).any(axis=1).all()
    for state in states[2:]:
        delta = (np.asarray(state.iterate) - x).reshape(3, -1)
        size = np.abs(delta).max(axis=1) if norm == "linf" else np.linalg.norm(delta, axis=1)
        np.testing.assert_allclose(size, 0.3, rtol=1e-4)


def test_a_clean_success_costs_one_query_and_a_first_pattern_two() -> None:
    victim = small_victims.small_victim("conv")
    x = small_victims.waveforms(16)
    y = np.asarray(victim.logits(jnp.asarray(x))).argmax(axis=1)
    wrong = np.where(np.arange(16) < 8, y, (y + 1) % 5)
    result = run_attack(victim, x, wrong, Square(queries=20), [0.4], devices=ONE, batch_size=16)
    assert (result.queries[0, 8:] == 1).all()
    np.testing.assert_array_equal(result.x_adv[0, 8:], x[8:])
    assert (result.queries[0, :8] >= 2).all()
    assert result.success.all()


def test_restarts_keep_the_best_and_spend_their_queries() -> None:
    x = np.zeros((3, 24), np.float32)
    attack = Square(queries=5, restarts=3)
    assert attack.max_steps == 1 + 3 * 6
    states = steps_of(attack, x, 0.1, 19)
    runs = [np.asarray(states[1 + 6 * (i + 1)].iterate_loss) for i in range(3)]
    best = np.min(runs, axis=0)
    np.testing.assert_array_equal(np.asarray(states[-1].loss), best)
    totals = 1e3 + np.asarray(states[-1].x_adv).sum(axis=1)
    np.testing.assert_allclose(totals, best, rtol=1e-6)
    assert np.asarray(states[-1].done).all()
    assert (np.asarray(states[-1].queries) == 19).all()
    # A restart is another search.
    assert (np.asarray(states[2].iterate) != np.asarray(states[8].iterate)).any()


def test_losses_and_targets() -> None:
    assert Square()._loss(jnp.asarray([[3.0, 1.0, 0.0]]), jnp.asarray([0]))[0] == 2.0
    targeted = Square(targeted=True)._loss(jnp.asarray([[3.0, 1.0, 0.0]]), jnp.asarray([1]))[0]
    np.testing.assert_allclose(targeted, np.log(np.exp(3) + 1) - 1, rtol=1e-6)
    margin = Square(targeted=True, loss="margin")
    assert margin._loss(jnp.asarray([[3.0, 1.0, 0.0]]), jnp.asarray([1]))[0] == 2.0
    assert Square(norm="l2").epsilon_norm == "l2"


def test_bad_settings_are_refused() -> None:
    for settings in (
        {"norm": "l1"},
        {"queries": 0},
        {"restarts": 0},
        {"share": 1.2},
        {"loss": "dlr"},
        {"block": 0},
        {"compat": "art"},
        {"bounds": (1.0, -1.0)},
    ):
        with pytest.raises(UsageError, match="square: "):
            Square(**settings)
