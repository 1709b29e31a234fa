"""HopSkipJump against closed forms on a linear victim, and against what both peers find."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser.attacks.base import NON_FINITE, row_keys
from jaxser.attacks.hopskipjump import HopSkipJump
from jaxser.runtime.errors import UsageError

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "decision.npz")
ONE = jax.devices()[:1]
FAR = 1e6


def states(attack: Any, logits_fn: Any, x: Any, y: Any, every: int = 100) -> list[Any]:
    """The attack's states after every so many steps."""
    keys = row_keys(jax.random.key(0), jnp.arange(len(x), dtype=jnp.uint32))
    epsilon = jnp.full(len(x), jnp.inf)
    rows = keys, jnp.asarray(x), jnp.asarray(y, jnp.int32), epsilon

    def one(_: Any, state: Any) -> Any:
        return attack.step(logits_fn, state)

    advance = jax.jit(lambda state: jax.lax.fori_loop(0, every, one, state))
    reached = [jax.jit(lambda *rows: attack.init(logits_fn, *rows))(*rows)]
    while not reached[-1].done.all():
        reached.append(advance(reached[-1]))
    return reached


def victim(kind: str, **options: Any) -> Any:
    """A small victim as a function."""
    made = small_victims.small_victim(kind, **options)
    return lambda x: made.apply(made.variables, x)


def classes_of(logits_fn: Any, x: Any) -> np.ndarray:
    return np.asarray(logits_fn(jnp.asarray(x))).argmax(axis=1)


def found(state: Any) -> np.ndarray:
    return np.asarray(state.x_adv != state.x).any(axis=tuple(range(1, state.x.ndim)))


def distance(state: Any, norm: str) -> np.ndarray:
    delta = np.asarray(state.x_adv - state.x, np.float64).reshape(len(state.x), -1)
    return np.linalg.norm(delta, ord=2 if norm == "l2" else np.inf, axis=1)


LINEAR, CONV = victim("linear"), victim("conv")


def closed_form(x: np.ndarray, norm: str, bounds: Any) -> np.ndarray:
    """Smallest norm to each class of the linear victim from the present one; inf to itself."""
    weights = small_victims.linear_weights()
    kernel = weights["kernel"].astype(np.float64)
    x = x.astype(np.float64)
    logits = x @ kernel + weights["bias"]
    best = np.full(logits.shape, np.inf)
    for row, present in enumerate(logits.argmax(axis=1)):
        for goal in set(range(logits.shape[1])) - {int(present)}:
            across = kernel[:, goal] - kernel[:, present]
            # By the KKT conditions; for L∞, every sample goes as far as it may.
            shape = across if norm == "l2" else np.sign(across)
            room = bounds[0] - x[row], bounds[1] - x[row]
            small, large = 0.0, 1e4
            for _ in range(100):
                middle = (small + large) / 2
                gained = across @ np.clip(middle * shape, *room)
                if gained >= logits[row, present] - logits[row, goal]:
                    large = middle
                else:
                    small = middle
            order = 2 if norm == "l2" else np.inf
            best[row, goal] = np.linalg.norm(np.clip(large * shape, *room), ord=order)
    return best


@pytest.mark.parametrize(
    ("norm", "bounds"),
    [
        ("linf", None),
        ("l2", (-0.5, 0.5)),
        pytest.param("l2", None, marks=pytest.mark.long),
        pytest.param("linf", (-0.5, 0.5), marks=pytest.mark.long),
    ],
)
def test_a_linear_victim_is_left_by_a_short_way(norm: Any, bounds: Any) -> None:
    x = small_victims.waveforms(16)
    if bounds is not None:
        # Many samples lie at the bounds, so that half of the directions are barred there.
        x = np.clip(4 * x, *bounds)
    y = classes_of(LINEAR, x)
    attack = HopSkipJump(norm=norm, queries=10_000, bounds=bounds)
    last = states(attack, LINEAR, x, y, every=1_000)[-1]
    best = closed_form(x, norm, (-FAR, FAR) if bounds is None else bounds)
    reached = classes_of(LINEAR, last.x_adv)
    assert (reached != y).all()
    ratio = distance(last, norm) / best.min(axis=1)
    assert ratio.min() > 1 - 1e-4
    # Rows end at the nearest side of some class, not always of the nearest one.
    ends = distance(last, norm) / np.take_along_axis(best, reached[:, None], axis=1)[:, 0]
    assert np.abs(ends - 1).max() < (0.02 if norm == "l2" else 0.05)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_end_is_a_thousandth_beyond_the_boundary(norm: Any) -> None:
    x = small_victims.waveforms(8)
    y = classes_of(CONV, x)
    attack = HopSkipJump(norm=norm, queries=300, initial_evaluations=20)
    end = states(attack, CONV, x, y, every=1)[-1]
    longer = states(dataclasses.replace(attack, queries=301), CONV, x, y, every=1)[-2]
    assert end.done.all()
    assert not longer.done.any()
    np.testing.assert_allclose(end.x_adv - x, 1.001 * (longer.x_adv - x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_distance_never_grows_and_what_is_kept_is_adversarial(norm: Any) -> None:
    x = small_victims.waveforms(8)
    # Resampling overshoots: what lies outside the bounds is not pulled in.
    x[:, :5] *= 2
    y = classes_of(CONV, x)
    attack = HopSkipJump(norm=norm, queries=400, bounds=(-0.5, 0.5), initial_evaluations=20)
    before, done = np.full(len(x), np.inf), np.zeros(len(x), bool)
    for state in states(attack, CONV, x, y, every=1)[1:]:
        there = found(state)
        now = np.where(there, distance(state, norm), np.inf)
        # A row that ends steps out by a thousandth.
        ended = np.asarray(state.done) & ~done
        assert (now <= before * np.where(ended, 1.001 + 1e-6, 1.0)).all()
        before, done = now, np.asarray(state.done)
        assert (classes_of(CONV, state.x_adv)[there] != y[there]).all()
        assert (np.asarray(state.x_adv) >= np.minimum(x, -0.5)).all()
        assert (np.asarray(state.x_adv) <= np.maximum(x, 0.5)).all()
    assert np.isfinite(before).mean() > 0.7


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_gets_no_less_close_than_the_peers_on_as_many_queries(norm: Any) -> None:
    budgets = {
        peer: int(GOLDEN[f"{peer}/hopskipjump/{norm}/queries"]) for peer in ("foolbox", "art")
    }
    x, y = GOLDEN["x"], GOLDEN["predicted"]
    reached = states(HopSkipJump(norm=norm, queries=max(budgets.values())), CONV, x, y, every=1)
    for peer, queries in budgets.items():
        theirs = GOLDEN[f"{peer}/hopskipjump/{norm}/distances"]
        # Where its start fails, ART returns the clean input.
        theirs = np.where(theirs > 0, theirs, np.inf)
        ours = distance(reached[queries], norm)
        assert found(reached[queries]).all()
        assert np.median(ours) < 1.05 * np.median(theirs)


def test_a_start_that_is_not_there_is_reported_and_a_clean_success_costs_one_query() -> None:
    x = small_victims.waveforms(4)

    def one_class(x: Any) -> Any:
        return jnp.zeros((len(x), 2)) + jnp.array([[1.0, 0.0]])

    last = states(HopSkipJump(start_tries=30), one_class, x, np.array([0, 0, 1, 1]))[-1]
    np.testing.assert_array_equal(last.x_adv, x)
    assert np.asarray(last.queries).tolist() == [31, 31, 1, 1]
    assert (np.asarray(last.gradients) == 0).all()


@pytest.mark.parametrize(("kind", "norm"), [("spectrogram", "linf"), ("front_end", "l2")])
def test_spectrograms_and_front_ends(kind: str, norm: Any) -> None:
    x, logits_fn = small_victims.inputs(kind, 8), victim(kind)
    low, high = small_victims.small_victim(kind).bounds
    y = classes_of(logits_fn, x)
    last = states(HopSkipJump(norm=norm, queries=600, bounds=(low, high)), logits_fn, x, y)[-1]
    assert (classes_of(logits_fn, last.x_adv) != y).all()
    assert np.asarray(last.x_adv).min() >= low
    assert np.asarray(last.x_adv).max() <= high
    # A fraction of the way to the next input of another class.
    apart = (x[:, None] - x[None]).reshape(8, 8, -1)
    apart = np.linalg.norm(apart, ord=2 if norm == "l2" else np.inf, axis=2)
    nearest = np.where(y[:, None] != y[None], apart, np.inf).min(axis=1)
    assert (distance(last, norm) < 0.35 * nearest).all()


@pytest.mark.parametrize("classes", [2, 50])
def test_two_and_fifty_classes(classes: int) -> None:
    """Noise does not reach each of fifty targets; what is reported is what is so."""
    x, logits_fn = small_victims.waveforms(8), victim("linear", classes=classes)
    y = (classes_of(logits_fn, x) + 1) % classes
    attack = HopSkipJump(queries=600, targeted=True, start_tries=400)
    last = states(attack, logits_fn, x, y)[-1]
    np.testing.assert_array_equal(classes_of(logits_fn, last.x_adv) == y, found(last))
    assert found(last).sum() >= (8 if classes == 2 else 3)


def test_logits_that_are_not_finite_are_flagged_and_never_kept() -> None:
    x = small_victims.waveforms(6)
    x[:, 0] = 0

    def fragile(x: Any) -> Any:
        return jnp.where(x[:, :1] > 0, jnp.nan, LINEAR(x))

    last = states(HopSkipJump(queries=400), fragile, x, classes_of(LINEAR, x))[-1]
    assert (np.asarray(last.flags) == NON_FINITE).all()
    assert np.isfinite(np.asarray(fragile(last.x_adv))).all()
    assert found(last).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"queries": -1}, "queries"),
        ({"norm": "l1"}, "norm"),
        ({"gamma": 0.0}, "gamma"),
        ({"max_halvings": 0}, "max_halvings"),
        ({"bounds": (1.0, 1.0)}, "bounds"),
    ],
)
def test_wrong_hyper_parameters_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=f"hopskipjump: .*{named}"):
        HopSkipJump(**wrong)
