"""The step that trains against an attack: closed forms on linear victims, and what it leaves be."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from golden_scripts import load_script
from scipy.optimize import minimize
from scipy.special import expit

from jaxser.attacks import FGSM, PGD
from jaxser.driver.ahead_of_time import Program
from jaxser.runtime.sharding import batch_sharding, make_mesh, put_batch, replicated
from jaxser.training import adversarial_update as adversarial_update_module
from jaxser.training.adversarial import (
    Defence,
    _budgets,
    adversarial_parts,
    step_of,
)
from jaxser.training.adversarial_update import adversarial_update
from jaxser.training.robust_losses import divergence, mart_loss, trades_loss
from jaxser.training.victim import TrainState, init_state, make_train_step, with_noise

GOLDEN = Path(__file__).parents[1] / "golden" / "robust_losses.npz"
SIZE, ROWS = 6, 8


def make_adversarial_step(*arguments: Any, **options: Any) -> Callable[..., TrainState]:
    return step_of(adversarial_parts(*arguments, **options))


def same(variables: object, x: jax.Array) -> jax.Array:
    return x


class Linear(nn.Module):
    """Two classes."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(2, name="head")(x)


class Normed(nn.Module):
    """A frozen layer, batch norm and dropout, so that modes matter."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.Dense(5, name="feature_encoder")(x)
        y = jnp.tanh(nn.BatchNorm(use_running_average=not train)(y))
        return nn.Dense(2, name="head")(nn.Dropout(0.3, deterministic=not train)(y))


def batch(seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, SIZE)).astype(np.float32)
    return {"x": jnp.asarray(x), "y": jnp.asarray(rng.integers(0, 2, ROWS), jnp.int32)}


def start(
    model: nn.Module, optimizer: optax.GradientTransformation, frozen: tuple[str, ...] = ()
) -> TrainState:
    return init_state(model, optimizer, jax.random.key(0), (SIZE,), 2, frozen=frozen)


def fgsm(**fields: object) -> Defence:
    return Defence(FGSM(bounds=None), same, **fields)  # type: ignore[arg-type]


def margins(state: TrainState, of: dict[str, jax.Array]) -> tuple[np.ndarray, float]:
    """Of the true class of each row, and the L1 norm of what separates the classes."""
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    bias = np.asarray(state.params["head"]["bias"], np.float64)
    apart = kernel[:, 1] - kernel[:, 0]
    sign = 2.0 * np.asarray(of["y"]) - 1
    return sign * (np.asarray(of["x"]) @ apart + bias[1] - bias[0]), float(np.abs(apart).sum())


def test_fgsm_on_logistic_regression_lowers_margins_by_epsilon_times_the_l1_norm() -> None:
    optimizer, model, of = optax.sgd(0.0), Linear(), batch()
    state = start(model, optimizer)
    margin, norm = margins(state, of)
    clean, lowered = np.logaddexp(0, -margin), np.logaddexp(0, -(margin - 0.1 * norm))
    epsilon, key = jnp.array([0.1, 0.1]), jax.random.key(1)

    def loss(defence: Defence, at: int = 0) -> float:
        step = jax.jit(make_adversarial_step(model, optimizer, key, defence))
        told = step(state.replace(step=jnp.int32(at)), of, epsilon).metrics.loss
        return float(told)

    assert loss(fgsm()) == pytest.approx(lowered.mean(), rel=1e-5)
    # Every second row, and every fourth.
    half = np.where(np.arange(ROWS) % 2, clean, lowered)
    assert loss(fgsm(share=0.5)) == pytest.approx(half.mean(), rel=1e-5)
    quarter = np.where(np.arange(ROWS) % 4, clean, lowered)
    assert loss(fgsm(share=0.25)) == pytest.approx(quarter.mean(), rel=1e-5)
    # Its budget grows from nothing.
    warming = fgsm(warmup_steps=4)
    assert loss(warming) == pytest.approx(clean.mean(), rel=1e-5)
    some = np.logaddexp(0, -(margin - 0.05 * norm))
    assert loss(warming, at=2) == pytest.approx(some.mean(), rel=1e-5)
    assert loss(warming, at=9) == pytest.approx(lowered.mean(), rel=1e-5)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_attacks_lower_margins_by_epsilon_times_the_dual_norm(norm: Any, dual: float) -> None:
    optimizer, model, of = optax.sgd(0.0), Linear(), batch()
    state = start(model, optimizer)
    attack = PGD(steps=1, relative_step_size=1.0, norm=norm, random_start=False, bounds=None)
    step = make_adversarial_step(model, optimizer, jax.random.key(1), Defence(attack, same))
    told = float(step(state, of, jnp.array([0.1, 0.1])).metrics.loss)
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    norm_of_weights = np.linalg.norm(kernel[:, 1] - kernel[:, 0], dual)
    lowered = margins(state, of)[0] - 0.1 * norm_of_weights
    assert told == pytest.approx(np.logaddexp(0, -lowered).mean(), rel=1e-5)


def test_training_ends_at_the_most_robust_linear_victim() -> None:
    """SciPy minimises the closed form: logistic regression with ε |w| off every margin."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 60)
    x = (rng.normal(size=(60, 3)) + 0.6 * (2 * y - 1)[:, None]).astype(np.float32)
    of = {"x": jnp.asarray(x), "y": jnp.asarray(y, jnp.int32)}

    def closed_form(w: np.ndarray) -> float:
        margin = (2.0 * y - 1) * (x @ w[:3] + w[3]) - 0.2 * np.linalg.norm(w[:3])
        return float(np.logaddexp(0, -margin).mean())

    attack = PGD(steps=1, relative_step_size=1.0, norm="l2", random_start=False, bounds=None)
    model, optimizer = Linear(), optax.sgd(1.0)
    parts = adversarial_parts(model, optimizer, jax.random.key(1), Defence(attack, same))
    step = jax.jit(step_of(parts))
    state = init_state(model, optimizer, jax.random.key(0), (3,), 2)
    for _ in range(300):
        state = step(state, of, jnp.array([0.2, 0.2]))
    head = jax.device_get(state.params["head"])
    found = [*(head["kernel"][:, 1] - head["kernel"][:, 0]), head["bias"][1] - head["bias"][0]]
    best = minimize(closed_form, np.full(4, 0.1), tol=1e-10).x
    np.testing.assert_allclose(found, best, atol=1e-3)
    # Without an attack the victim would be another.
    plain = minimize(lambda w: np.logaddexp(0, -(2.0 * y - 1) * (x @ w[:3] + w[3])).mean(), best).x
    assert np.abs(plain - best).max() > 0.1


STEPWISE: list[dict[str, object]] = [
    {"loss": "trades", "batch_norm": "training"},
    {"share": 0.5},
    {"loss": "mart", "awp": 0.01},
    # A single row is on both devices.
    {"share": 0.125, "warmup_steps": 3},
]


@pytest.mark.long
@pytest.mark.parametrize("fields", STEPWISE)
def test_step_by_step_is_the_step_in_one_program(fields: dict[str, object]) -> None:
    """As the host drives it on a CPU; two devices share the rows."""
    optimizer, model, key, mesh = optax.sgd(0.1), Normed(), jax.random.key(1), make_mesh()
    attack = PGD(steps=2, random_start=True, bounds=None)
    defence = Defence(attack, same, **fields)  # type: ignore[arg-type]
    epsilon = jax.device_put(jnp.array([0.05, 0.2]), replicated(mesh))
    parts, traced = adversarial_parts(model, optimizer, key, defence), []

    def advance(*arguments: Any) -> Any:
        traced.append(1)
        return parts.advance(*arguments)

    update = adversarial_update(dataclasses.replace(parts, advance=advance), mesh)
    step = jax.jit(make_adversarial_step(model, optimizer, key, defence))
    states = [start(model, optimizer, ("feature_encoder",)) for _ in range(2)]
    states[0] = jax.device_put(states[0], replicated(mesh))
    for seed in range(2):
        placed = put_batch(jax.device_get(batch(seed)), mesh)
        states = [update(states[0], placed, epsilon), step(states[1], batch(seed), epsilon)]
    for ours, theirs in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)
    # One program for both steps of the attack, and for both batches.
    assert traced == [1]


def test_an_accelerator_has_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = adversarial_parts(
        Linear(), optax.sgd(1.0), jax.random.key(1), Defence(PGD(steps=3, bounds=None), same)
    )
    monkeypatch.setattr(adversarial_update_module, "on_cpu", lambda: False)
    update = adversarial_update(parts, make_mesh())
    state = start(Linear(), optax.sgd(1.0))
    arguments = (state, batch(), jnp.array([0.1, 0.1]))
    assert isinstance(update, Program)
    assert "while" in update.lowered(*arguments).as_text()


def test_the_update_is_that_of_the_attacked_rows() -> None:
    optimizer, model, of = optax.sgd(1.0), Linear(), batch()
    state = start(model, optimizer)
    margin, norm = margins(state, of)
    after = make_adversarial_step(model, optimizer, jax.random.key(1), fgsm())(
        state, of, jnp.array([0.1, 0.1])
    )
    kernel = np.asarray(state.params["head"]["kernel"])
    sign = 2.0 * np.asarray(of["y"]) - 1
    x_adv = np.asarray(of["x"]) - 0.1 * sign[:, None] * np.sign(kernel[:, 1] - kernel[:, 0])
    descent = (expit(-(margin - 0.1 * norm)) * sign)[:, None] * x_adv
    moved = np.asarray(after.params["head"]["kernel"])[:, 1] - kernel[:, 1]
    np.testing.assert_allclose(moved, descent.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_every_row_draws_its_budget_from_the_range() -> None:
    def drawn(step: int, rows: int) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(1), step)
        return np.asarray(_budgets(fgsm(), key, jnp.int32(step), jnp.array([0.1, 0.5]), rows))

    many = drawn(0, 400)
    assert len(set(many)) == 400
    assert (many.min(), many.max()) == pytest.approx((0.1, 0.5), abs=0.01)
    assert many.mean() == pytest.approx(0.3, abs=0.02)
    # Of the row and the step, whatever the batch.
    np.testing.assert_array_equal(drawn(0, 7), many[:7])
    assert not set(drawn(1, 7)) & set(many)


@pytest.mark.parametrize("name", ["trades", "mart"])
def test_losses_are_their_authors(name: str) -> None:
    """Of torch, by the authors' definitions: the batch's loss and its gradients."""
    script = load_script("golden_robust_losses")
    with np.load(GOLDEN) as file:
        golden = dict(file)
    clean, attacked, labels = script.logits(name)
    rows = {"trades": trades_loss, "mart": mart_loss}[name]

    def loss(clean: jax.Array, attacked: jax.Array) -> jax.Array:
        return rows(clean, attacked, jnp.asarray(labels), script.BETA).mean()

    value, gradients = jax.value_and_grad(loss, (0, 1))(jnp.asarray(clean), jnp.asarray(attacked))
    np.testing.assert_allclose(value, golden[f"{name}_loss"], rtol=1e-5)
    for side, gradient in zip(("clean", "attacked"), gradients, strict=True):
        np.testing.assert_allclose(gradient, golden[f"{name}_{side}_gradient"], atol=2e-5)


def test_trades_moves_the_prediction_as_far_as_it_can() -> None:
    """Of two classes the divergence grows along the one direction, to one side or the other."""
    optimizer, model, of = optax.sgd(0.0), Linear(), batch()
    state = start(model, optimizer)
    attack = PGD(steps=4, relative_step_size=1.0, bounds=None)
    defence = Defence(attack, same, loss="trades", beta=2.0)
    step = make_adversarial_step(model, optimizer, jax.random.key(1), defence)
    told = float(step(state, of, jnp.array([0.1, 0.1])).metrics.loss)
    margin, norm = margins(state, of)

    def far(moved: np.ndarray) -> np.ndarray:
        pair = [jax.nn.log_softmax(jnp.stack([jnp.zeros(ROWS), m], 1)) for m in (margin, moved)]
        return np.asarray(divergence(*pair))

    down, up = far(jnp.asarray(margin - 0.1 * norm)), far(jnp.asarray(margin + 0.1 * norm))
    clean = np.logaddexp(0, -margin).mean()
    assert clean + 2 * np.minimum(down, up).mean() < told
    assert told <= (clean + 2 * np.maximum(down, up).mean()) * (1 + 1e-5)
    assert step(state, of, jnp.array([0.1, 0.1])).metrics.confusion.sum() == ROWS


def test_perturbed_weights_are_the_gradients_direction_at_a_share_of_the_weights() -> None:
    model, of, epsilon = Linear(), batch(), jnp.array([1e-6, 1e-6])
    optimizer = optax.sgd(1.0)
    state = start(model, optimizer)
    after = make_adversarial_step(model, optimizer, jax.random.key(1), fgsm(awp=0.3))(
        state, of, epsilon
    )

    def loss(head: dict) -> jax.Array:
        logits = of["x"] @ head["kernel"] + head["bias"][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, of["y"]).mean()

    head = state.params["head"]
    ascent = jax.grad(loss)(head)["kernel"]
    norm = jnp.linalg.norm
    worse = head["kernel"] + 0.3 * norm(head["kernel"]) * ascent / norm(ascent)
    gradient = jax.grad(loss)({**head, "kernel": worse})
    for name in ("kernel", "bias"):
        moved = head[name] - after.params["head"][name]
        np.testing.assert_allclose(moved, gradient[name], atol=1e-4)


def test_replays_move_weights_and_attack_by_one_pass() -> None:
    """On a linear victim the first replay's gradient drives the second's input into a corner."""
    model, optimizer, of = Linear(), optax.adam(1e-6), batch()
    state = start(model, optimizer)
    step = make_adversarial_step(model, optimizer, jax.random.key(1), fgsm(replays=3))
    after = step(state, of, jnp.array([0.1, 0.1]))
    assert int(after.step) == 1
    assert int(after.metrics.steps) == int(after.opt_state[0].count) == 3
    margin, norm = margins(state, of)
    corner = np.logaddexp(0, -(margin - 0.1 * norm)).mean()
    first = float(
        make_adversarial_step(model, optimizer, jax.random.key(1), fgsm(replays=1))(
            state, of, jnp.array([0.0, 0.0])
        ).metrics.loss
    )
    # The first one from a random point of the box, the other two at its corner or close to it: a
    # step of ε from a point inside reaches every side that it moves towards.
    total = float(after.metrics.loss)
    assert first + corner < total < 3 * corner


def test_modes_of_batch_norm_frozen_layers_and_statistics() -> None:
    model, optimizer, of = Normed(), optax.MultiSteps(optax.adam(0.1), 2), batch()
    optimizer = optimizer.gradient_transformation()
    state = start(model, optimizer, frozen=("feature_encoder",))
    losses, epsilon = {}, jnp.array([0.3, 0.3])
    plain = make_train_step(model, optimizer, jax.random.key(1))(state, of)
    for mode in ("evaluation", "training"):
        defence = Defence(PGD(steps=2, bounds=None), same, batch_norm=mode)
        step = jax.jit(make_adversarial_step(model, optimizer, jax.random.key(1), defence))
        after = step(state, of, epsilon)
        losses[mode] = float(after.metrics.loss)
        # The statistics are of one pass over the batch, whatever the attack has seen.
        jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
        jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
        moved = after.batch_stats["BatchNorm_0"]["mean"] - state.batch_stats["BatchNorm_0"]["mean"]
        usual = plain.batch_stats["BatchNorm_0"]["mean"] - state.batch_stats["BatchNorm_0"]["mean"]
        assert 0.3 < float(jnp.linalg.norm(moved) / jnp.linalg.norm(usual)) < 3
        second = step(after, batch(1), epsilon)
        kernel = second.params["head"]["kernel"]
        assert float(jnp.abs(kernel - state.params["head"]["kernel"]).max()) > 0.05
    assert losses["evaluation"] != losses["training"]
    assert min(losses.values()) > float(plain.metrics.loss)


def test_devices_share_a_batch() -> None:
    """The same update on one device, in one program as on an accelerator, and on two, whose halves
    both hold attacked rows, in three programs as on a CPU."""
    model, optimizer, of = Normed(), optax.sgd(0.1), batch()
    state = start(model, optimizer)
    defence = Defence(PGD(steps=2, random_start=True, bounds=None), same, share=0.5)
    parts, traced, ends = adversarial_parts(model, optimizer, jax.random.key(1), defence), [], []

    def advance(*arguments: Any) -> Any:
        traced.append(1)
        return parts.advance(*arguments)

    counted = dataclasses.replace(parts, advance=advance)
    for count in (1, 2):
        mesh = make_mesh(jax.devices()[:count])
        whole = replicated(mesh)
        program: Any = jax.jit(
            step_of(parts), in_shardings=(whole, batch_sharding(mesh), whole), out_shardings=whole
        )
        if count == 2:
            program = adversarial_update(counted, mesh)
        epsilon = jax.device_put(jnp.array([0.1, 0.3]), whole)
        ends.append(program(jax.device_put(state, whole), put_batch(of, mesh), epsilon))
    # One program for both steps of the attack.
    assert traced == [1]
    one, two = (jax.device_get((end.params, end.metrics.loss)) for end in ends)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)


def test_noise_is_of_the_step_and_the_deviation() -> None:
    x = jnp.zeros((50, 400))
    noise = np.asarray(with_noise(jax.random.key(0), x, 0.2))
    assert noise.std() == pytest.approx(0.2, rel=0.02)
    assert np.abs(np.corrcoef(noise[:2])[0, 1]) < 0.2
    model, optimizer, of = Linear(), optax.sgd(0.0), batch()
    state = start(model, optimizer)
    step = make_train_step(model, optimizer, jax.random.key(1), noise=0.2)
    losses = [
        float(step(dataclasses.replace(state, step=jnp.int32(at)), of).metrics.loss)
        for at in (0, 1, 1)
    ]
    assert losses[0] != losses[1] == losses[2]
    attacked = make_adversarial_step(model, optimizer, jax.random.key(1), fgsm(), noise=0.2)
    none = jnp.array([0.0, 0.0])
    assert float(attacked(state, of, none).metrics.loss) == pytest.approx(losses[0], rel=1e-6)
