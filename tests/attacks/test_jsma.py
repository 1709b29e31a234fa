"""JSMA: the best pair against all pairs, the moves, and what the driver is owed."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import run_attack
from jaxser.attacks.base import NON_FINITE, ZERO_GRADIENT
from jaxser.attacks.jsma import JSMA, best_pair
from jaxser.driver.result import AttackResult
from jaxser.runtime.errors import UsageError

DEVICES = jax.devices()
ONE_DEVICE = {"devices": DEVICES[:1]}
ANY_SIZE = [float("inf")]
GOLDEN = Path(__file__).parents[1] / "golden" / "saliency_carlini.npz"

ATTACKS = [
    JSMA(theta=0.5, steps=60),
    JSMA(theta=-0.5, target="random", gamma=0.3, steps=60),
    JSMA(theta=0.5, compat="art", steps=60),
]


def brute_force(first: np.ndarray, second: np.ndarray, allowed: np.ndarray) -> tuple[float, tuple]:
    """(product, pair) of the best of all pairs; (0, ()) where none has two positive sums."""
    best: tuple[float, tuple] = (0.0, ())
    for p, q in itertools.combinations(np.flatnonzero(allowed), 2):
        u, v = first[p] + first[q], second[p] + second[q]
        if u > 0 and v > 0 and u * v > best[0]:
            best = (float(u * v), (p, q))
    return best


@pytest.mark.parametrize("kind", ["independent", "opposed", "heavy tails", "few values", "tiny"])
def test_the_best_pair_is_the_best_of_all(kind: str) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 30))
    if kind == "opposed":
        second = -first + 0.3 * second
    if kind == "heavy tails":
        first, second = rng.standard_t(1.5, size=(2, 40, 30))
    if kind == "few values":
        first, second = np.round(first), np.round(second)
    if kind == "tiny":
        first, second = 1e-30 * first, 1e-25 * second
    allowed = rng.uniform(size=first.shape) < rng.uniform(size=(40, 1))
    allowed[:3, 1:] = False
    chosen = np.asarray(jax.jit(best_pair)(first, second, allowed))
    none = 0
    for row in range(40):
        value, pair = brute_force(first[row], second[row], allowed[row])
        none += not pair
        found = np.flatnonzero(chosen[row])
        assert len(found) == len(pair)
        assert allowed[row, found].all()
        if pair:
            product = first[row, found].sum() * second[row, found].sum()
            np.testing.assert_allclose(product, value, rtol=1e-5)
    assert 0 < none < 40


def test_no_pair_is_found_where_none_is_salient() -> None:
    first, second = jnp.ones((2, 6)), -jnp.ones((2, 6))
    assert not np.asarray(best_pair(first, second, jnp.ones((2, 6), bool))).any()


@pytest.mark.parametrize("theta", [0.25, -0.25])
@pytest.mark.parametrize("compat", [None, "art"])
def test_every_move_is_that_of_the_saliency_map(theta: float, compat: Any) -> None:
    """Replayed in float64 with the map taken over all pairs; a linear victim has one Jacobian."""
    victim, x = small_victims.small_victim("linear"), small_victims.waveforms(8)
    kernel, bias = (np.asarray(victim.variables[name], float) for name in ("kernel", "bias"))
    result = run_attack(
        victim, x, None, JSMA(theta=theta, compat=compat, steps=200), ANY_SIZE, **ONE_DEVICE
    )
    assert result.success.all()
    for row in range(len(x)):
        iterate = x[row].astype(float)
        clean = iterate @ kernel + bias
        label = clean.argmax()
        target = np.argsort(clean)[-2]
        towards = np.sign(theta) * kernel[:, target]
        against = np.sign(theta) * (kernel.sum(axis=1) - kernel[:, target])
        moves = 0
        while (iterate @ kernel + bias).argmax() == label:
            allowed = iterate < 1 if theta > 0 else iterate > -1
            if compat == "art":
                pair = np.argsort(np.where(allowed, towards, -np.inf))[-2:]
            else:
                pair = np.array(brute_force(towards, -against, allowed)[1])
            iterate[pair] = np.clip(iterate[pair] + theta, -1, 1)
            moves += 1
        np.testing.assert_allclose(result.x_adv[0, row], iterate, atol=1e-5)
        assert result.steps[0, row] == moves + 1
    per_step = 1 if compat == "art" else 2
    np.testing.assert_array_equal(result.gradients, per_step * result.steps)
    np.testing.assert_array_equal(result.queries, result.steps)


def test_rows_that_art_found_are_found_again() -> None:
    golden = np.load(GOLDEN)
    victim = small_victims.small_victim("conv")
    target = (golden["y"] + 1) % small_victims.CLASSES
    for theta in (0.3, -0.3):
        attack = JSMA(theta=theta, compat="art", targeted=True)
        result = run_attack(victim, golden["x"], target, attack, ANY_SIZE, **ONE_DEVICE)
        theirs = golden[f"jsma/{theta}"]
        reached = np.asarray(victim.logits(theirs)).argmax(axis=1) == target
        assert 2 < reached.sum() < len(reached)
        np.testing.assert_array_equal(result.success[0], reached)
        # Rows that never get there keep the last iterate, as with ART.
        np.testing.assert_allclose(result.x_adv[0], theirs, atol=1e-5)


def test_gamma_and_steps_bound_the_search() -> None:
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24)
    free = run_attack(victim, x, None, JSMA(theta=0.5), ANY_SIZE, **ONE_DEVICE)
    few = run_attack(victim, x, None, JSMA(theta=0.5, gamma=2 / 64), ANY_SIZE, **ONE_DEVICE)
    assert free.measures["l0"].max() > 2
    assert few.measures["l0"].max() == 2
    # The way is the same, so a run without limit serves every budget.
    np.testing.assert_array_equal(few.success, free.success & (free.measures["l0"] <= 2))
    budgets = run_attack(victim, x, None, JSMA(theta=0.5), [2.0, 6.0], **ONE_DEVICE)
    np.testing.assert_array_equal(
        budgets.success, free.success & (free.measures["l0"] <= [[2.0], [6.0]])
    )
    short = JSMA(theta=0.5, steps=2)
    result = run_attack(victim, x, None, short, ANY_SIZE, **ONE_DEVICE)
    assert result.steps.max() == short.max_steps == 3
    assert (result.steps[free.steps > 3] == 3).all()


def test_targets_are_reached() -> None:
    victim, x = small_victims.small_victim("spectrogram"), small_victims.spectrograms(16)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    target = (y + 2) % small_victims.CLASSES
    attack = JSMA(theta=1.0, targeted=True)
    result = run_attack(victim, x, target, attack, ANY_SIZE, **ONE_DEVICE)
    np.testing.assert_array_equal(result.success[0], result.prediction[0] == target)
    assert result.success.mean() > 0.4


def test_random_targets_are_other_classes_and_depend_on_the_seed() -> None:
    x, y = jnp.zeros((200, 4)), jnp.arange(200, dtype=jnp.int32) % 3
    drawn = []
    for seed in (0, 1):
        attack = JSMA(target="random")
        keys = jax.random.split(jax.random.key(seed), 200)
        state = attack.init(lambda x: x[:, :3], keys, x, y, jnp.full(200, jnp.inf))
        step = jax.jit(lambda state, attack=attack: attack.step(lambda x: x[:, :3], state))
        drawn.append(np.asarray(step(state).target))
    assert (drawn[0] != drawn[1]).any()
    for targets in drawn:
        assert (targets != np.asarray(y)).all()
        assert set(targets) == {0, 1, 2}


def attack_all(attack: Any, order: np.ndarray, **options: Any) -> AttackResult:
    """Attack some of 24 utterances, a third of which is misclassified, under their own ids."""
    victim, x = small_victims.small_victim("conv"), small_victims.waveforms(24)
    y = np.asarray(victim.logits(x)).argmax(axis=1)
    y[::3] = (y[::3] + 1) % small_victims.CLASSES
    options = ONE_DEVICE | {"batch_size": 8} | options
    return run_attack(
        victim, x[order], y[order], attack, ANY_SIZE, seed=5, ids=order.tolist(), **options
    )


def assert_same(one: AttackResult, other: AttackResult, order: Any = slice(None)) -> None:
    for name in ("x_adv", "prediction", "steps", "queries", "gradients", "flags"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[:, order], name)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_rows_do_not_depend_on_their_mates(attack: Any) -> None:
    base = attack_all(attack, np.arange(24))
    assert len(np.unique(base.steps)) > 2
    assert base.success.mean() > 0.5
    clean = base.clean_prediction != base.labels
    assert clean.sum() >= 8
    if attack.compat is None:
        np.testing.assert_array_equal(base.steps[0, clean], 1)
        assert (base.measures["l0"][0, clean] == 0).all()
    shuffled = np.random.default_rng(0).permutation(24)
    assert_same(attack_all(attack, shuffled), base, shuffled)
    assert_same(attack_all(attack, np.arange(24), refill=False), base)


@pytest.mark.parametrize("kind", ["spectrogram", "front_end"])
def test_spectrograms_and_front_ends(kind: str) -> None:
    victim, x = small_victims.small_victim(kind), small_victims.inputs(kind, 16)
    result = run_attack(victim, x, None, JSMA(theta=0.5), ANY_SIZE, **ONE_DEVICE)
    assert result.success.mean() > 0.9
    low, high = victim.bounds
    assert result.x_adv.min() >= low
    assert result.x_adv.max() <= high
    assert (result.x_adv[0] >= x).all()
    assert np.median(result.measures["l0"]) < 12


@pytest.mark.parametrize("classes", [2, 50])
def test_two_classes_and_fifty_without_bounds(classes: int) -> None:
    weights = small_victims.linear_weights(classes=classes)
    x = small_victims.waveforms(8)
    result = run_attack(
        lambda x: small_victims.linear_apply(weights, x),
        x,
        None,
        JSMA(theta=0.5, bounds=None),
        ANY_SIZE,
        **ONE_DEVICE,
    )
    assert result.success.all()
    assert result.x_adv.max() > 1


def test_rows_without_a_gradient_or_with_logits_that_are_not_finite_end_at_once() -> None:
    weights = small_victims.linear_weights()

    def broken(x: jax.Array) -> jax.Array:
        logits = small_victims.linear_apply(weights, x)
        logits = jnp.where(x[:, :1] > 0.9, jnp.nan, logits)
        return jnp.where(x[:, :1] < -0.9, jnp.arange(5.0)[None], logits)

    x = small_victims.waveforms(3)
    x[:, 0] = [0.0, 0.95, -0.95]
    attack = JSMA(theta=0.3, bounds=None)
    result = run_attack(broken, x, np.array([0, 1, 4]), attack, ANY_SIZE, **ONE_DEVICE)
    assert result.flags[0].tolist() == [0, NON_FINITE, ZERO_GRADIENT]
    np.testing.assert_array_equal(result.steps[0, 1:], 1)
    np.testing.assert_array_equal(result.x_adv[0, 1:], x[1:])


def test_what_the_driver_is_told() -> None:
    attack = JSMA(steps=7)
    assert attack.epsilon_norm == "l0"
    assert attack.minimal_norm
    assert attack.finishes_early
    assert attack.forward_rows == 1
    assert attack.max_steps == 8


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"theta": 0.0}, "theta must be positive"),
        ({"gamma": 1.5}, "gamma must be at most 1"),
        ({"steps": 0}, "steps must be positive"),
        ({"target": "third"}, "target must be"),
        ({"compat": "foolbox"}, "compat must be"),
    ],
)
def test_hyper_parameters_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        JSMA(**settings)
