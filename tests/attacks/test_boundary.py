"""Boundary against closed forms on a linear victim, ART's own walk, and what both peers find."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser.attacks.base import NON_FINITE, row_keys
from jaxser.attacks.boundary import Boundary
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


def l2(state: Any) -> np.ndarray:
    delta = np.asarray(state.x_adv - state.x, np.float64)
    return np.linalg.norm(delta.reshape(len(delta), -1), axis=1)


def smallest_in_box(x: np.ndarray, across: np.ndarray, margin: float, bounds: Any) -> float:
    """Smallest ‖δ‖₂ with ``across · δ = margin`` inside the bounds, by its KKT conditions."""
    low, high = bounds
    small, large = 0.0, 1e4
    for _ in range(200):
        middle = (small + large) / 2
        delta = np.clip(middle * across, low - x, high - x)
        small, large = (small, middle) if across @ delta >= margin else (middle, large)
    delta = np.clip(large * across, low - x, high - x)
    return float(np.linalg.norm(delta)) if across @ delta >= margin - 1e-6 else np.inf


LINEAR, CONV = victim("linear"), victim("conv")
LOUD = 4 * small_victims.waveforms(16)


def closed_form(x: np.ndarray, bounds: Any) -> np.ndarray:
    """Smallest L2 norm to each class of the linear victim from the present one; inf to itself."""
    weights = small_victims.linear_weights()
    kernel = weights["kernel"].astype(np.float64)
    logits = x.astype(np.float64) @ kernel + weights["bias"]
    found = np.full(logits.shape, np.inf)
    for row, present in enumerate(logits.argmax(axis=1)):
        for goal in set(range(logits.shape[1])) - {int(present)}:
            across = kernel[:, goal] - kernel[:, present]
            margin = logits[row, present] - logits[row, goal]
            found[row, goal] = smallest_in_box(x[row].astype(np.float64), across, margin, bounds)
    return found


@pytest.mark.parametrize("bounds", [None, (-0.5, 0.5)], ids=["unbounded", "bounded"])
def test_a_linear_victim_is_left_by_the_shortest_way(bounds: Any) -> None:
    # Many samples lie at the bounds, so that half of the directions are barred there.
    x = small_victims.waveforms(16) if bounds is None else np.clip(LOUD, *bounds)
    y = classes_of(LINEAR, x)
    last = states(Boundary(queries=4_000, bounds=bounds), LINEAR, x, y, every=500)[-1]
    best = closed_form(x, (-FAR, FAR) if bounds is None else bounds)
    ratio = l2(last) / best.min(axis=1)
    # Clipping to the bounds takes proposals off the sphere: walks along them end a little early.
    slack = 2e-3 if bounds is None else 0.04
    assert ratio.min() > 1 - 1e-4
    assert np.median(ratio) < 1 + slack
    reached = classes_of(LINEAR, last.x_adv)
    assert (reached != y).all()
    # A walk ends where it cannot get closer: on the nearest side of some class, or of two.
    ends = l2(last) / np.take_along_axis(best, reached[:, None], axis=1)[:, 0]
    assert (np.abs(ends - 1) < slack).mean() > 0.85
    if bounds is not None:
        assert np.median(best.min(axis=1) / closed_form(x, (-FAR, FAR)).min(axis=1)) > 1.1


def test_a_target_of_a_linear_victim_is_reached_by_a_short_way() -> None:
    x = small_victims.waveforms(16)
    y = (classes_of(LINEAR, x) + 2) % small_victims.CLASSES
    last = states(Boundary(queries=4_000, targeted=True), LINEAR, x, y, every=500)[-1]
    # Reaching the target takes at least passing the present class; others may be in the way.
    least = np.take_along_axis(closed_form(x, (-1.0, 1.0)), y[:, None], axis=1)[:, 0]
    ratio = l2(last) / least
    np.testing.assert_array_equal(classes_of(LINEAR, last.x_adv), y)
    assert ratio.min() > 1 - 1e-4
    assert np.median(ratio) < 1.1


@pytest.mark.parametrize("compat", [None, "art"])
def test_the_distance_never_grows_and_what_is_kept_is_adversarial(compat: Any) -> None:
    x = small_victims.waveforms(8)
    # Resampling overshoots: what lies outside the bounds is not pulled in.
    x[:, :5] *= 2
    y = classes_of(CONV, x)
    attack = Boundary(queries=150, compat=compat, iterations=5, samples=4, bounds=(-0.5, 0.5))
    before, done = np.full(len(x), np.inf), np.zeros(len(x), bool)
    for state in states(attack, CONV, x, y, every=1)[1:]:
        there = found(state)
        now = np.where(there, l2(state), np.inf)
        # A row that ends steps out by a thousandth, but not ART's.
        ended = np.asarray(state.done) & ~done & (compat is None)
        assert (now <= before * np.where(ended, 1.001 + 1e-6, 1.0)).all()
        before, done = now, np.asarray(state.done)
        assert (classes_of(CONV, state.x_adv)[there] != y[there]).all()
        assert (np.asarray(state.x_adv) >= np.minimum(x, -0.5)).all()
        assert (np.asarray(state.x_adv) <= np.maximum(x, 0.5)).all()
    assert np.isfinite(before).mean() > 0.7


@pytest.mark.parametrize("targeted", [False, True])
def test_compat_art_walks_as_art_does_on_the_same_random_numbers(targeted: bool) -> None:
    kind = "targeted" if targeted else "untargeted"
    x, y = GOLDEN["x"], GOLDEN["targets" if targeted else "predicted"]
    attack = Boundary(
        compat="art", iterations=20, spherical_step=0.1, start_tries=60, targeted=targeted
    )
    last = states(attack, CONV, x, y, every=25)[-1]
    theirs = GOLDEN[f"art/boundary/{kind}"]
    there = np.abs(theirs - x).max(axis=1) > 0
    assert there.sum() > 5
    np.testing.assert_array_equal(found(last), there)
    # Where samples are as far as each other but for rounding, the walks may part.
    apart = np.abs(np.asarray(last.x_adv) - theirs).max(axis=1)
    assert (apart[there] < 1e-5).mean() > 0.85


def test_it_gets_closer_than_foolbox_on_as_many_queries() -> None:
    queries = int(GOLDEN["foolbox/boundary/l2/queries"])
    last = states(Boundary(queries=queries), CONV, GOLDEN["x"], GOLDEN["predicted"])[-1]
    assert (np.asarray(last.queries) == queries).all()
    assert np.median(l2(last)) < 0.5 * np.median(GOLDEN["foolbox/boundary/l2/distances"])


@pytest.mark.parametrize("compat", [None, "art"])
def test_a_start_that_is_not_there_is_reported(compat: Any) -> None:
    """A victim that knows one class: no input leaves it, so the clean one comes back."""
    x = small_victims.waveforms(4)

    def one_class(x: Any) -> Any:
        return jnp.zeros((len(x), 2)) + jnp.array([[1.0, 0.0]])

    last = states(Boundary(start_tries=30, compat=compat), one_class, x, np.zeros(4))[-1]
    np.testing.assert_array_equal(last.x_adv, x)
    # The clean input and thirty starts, one by one or, as ART's samples are, twenty at a time.
    assert (np.asarray(last.queries) == 31).all()
    assert (np.asarray(last.steps) == (3 if compat == "art" else 31)).all()
    assert (np.asarray(last.gradients) == 0).all()


@pytest.mark.parametrize("compat", [None, "art"])
def test_what_is_already_adversarial_costs_one_query(compat: Any) -> None:
    x = small_victims.waveforms(6)
    there = np.array([0, 1, 0, 1, 1, 0], bool)
    y = (classes_of(CONV, x) + there) % small_victims.CLASSES
    last = states(Boundary(queries=60, compat=compat, iterations=2), CONV, x, y, every=20)[-1]
    np.testing.assert_array_equal(np.asarray(last.x_adv)[there], x[there])
    assert (np.asarray(last.queries)[there] == 1).all()
    assert (np.asarray(last.queries)[~there] > 1).all()


def test_a_converged_row_is_done_before_its_queries_are_spent() -> None:
    x = small_victims.waveforms(8)
    attack = Boundary(queries=4_000, source_step_convergence=1e-3)
    last = states(attack, LINEAR, x, classes_of(LINEAR, x))[-1]
    assert (np.asarray(last.queries) < 3_000).all()
    assert (np.asarray(last.source_step) < 1e-3).all()


@pytest.mark.parametrize("kind", ["spectrogram", "front_end"])
def test_spectrograms_and_front_ends(kind: str) -> None:
    x, logits_fn = small_victims.inputs(kind, 8), victim(kind)
    low, high = small_victims.small_victim(kind).bounds
    y = classes_of(logits_fn, x)
    last = states(Boundary(queries=600, bounds=(low, high)), logits_fn, x, y)[-1]
    assert (classes_of(logits_fn, last.x_adv) != y).all()
    assert np.asarray(last.x_adv).min() >= low
    assert np.asarray(last.x_adv).max() <= high
    # A fraction of the way to the next input of another class.
    apart = np.linalg.norm((x[:, None] - x[None]).reshape(8, 8, -1), axis=2)
    nearest = np.where(y[:, None] != y[None], apart, np.inf).min(axis=1)
    assert (l2(last) < 0.35 * nearest).all()


@pytest.mark.parametrize("classes", [2, 50])
def test_two_and_fifty_classes(classes: int) -> None:
    """Noise does not reach each of fifty targets; what is reported is what is so."""
    x, logits_fn = small_victims.waveforms(8), victim("linear", classes=classes)
    y = (classes_of(logits_fn, x) + 1) % classes
    last = states(Boundary(queries=600, targeted=True, start_tries=400), logits_fn, x, y)[-1]
    np.testing.assert_array_equal(classes_of(logits_fn, last.x_adv) == y, found(last))
    assert found(last).sum() >= (8 if classes == 2 else 3)


def test_logits_that_are_not_finite_are_flagged_and_never_kept() -> None:
    x = small_victims.waveforms(6)
    x[:, 0] = 0

    def fragile(x: Any) -> Any:
        return jnp.where(x[:, :1] > 0, jnp.nan, LINEAR(x))

    last = states(Boundary(queries=200), fragile, x, classes_of(LINEAR, x))[-1]
    assert (np.asarray(last.flags) == NON_FINITE).all()
    assert np.isfinite(np.asarray(fragile(last.x_adv))).all()
    assert found(last).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"queries": 0}, "queries"),
        ({"step_adaptation": 1.0}, "step_adaptation"),
        ({"compat": "foolbox"}, "compat"),
        ({"spherical_step": -0.1}, "spherical_step"),
        ({"bounds": (1.0, -1.0)}, "bounds"),
        ({"samples": 0}, "samples"),
    ],
)
def test_wrong_hyper_parameters_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=f"boundary: .*{named}"):
        Boundary(**wrong)
