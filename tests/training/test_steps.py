"""The pure steps: closed forms of the loss, the schedules, the optimiser and the metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from sklearn.utils.class_weight import compute_class_weight

from jaxser.config import TrainingConfig
from jaxser.training.optimizer import make_optimizer
from jaxser.training.victim import (
    class_weights,
    init_state,
    make_evaluation_step,
    make_train_step,
    mean_cross_entropy,
    mix_pairs,
)


class Linear(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(self.num_classes)(nn.Dropout(0.5, deterministic=not train)(x))


def rates(config: TrainingConfig, steps_per_epoch: int, steps: list[int]) -> list[float]:
    """Learning rates at given steps, read off the size of Adam's first moves."""
    optimizer = make_optimizer(config, steps_per_epoch)
    params = jnp.zeros(())
    state, seen = optimizer.init(params), []
    for _ in range(max(steps) + 1):
        update, state = optimizer.update(jnp.ones(()), state, params)
        seen.append(float(-update))
    return [seen[step] for step in steps]


def test_schedules() -> None:
    constant = TrainingConfig(learning_rate=0.1, schedule="constant")
    assert rates(constant, 4, [0, 9]) == pytest.approx([0.1, 0.1], rel=1e-4)
    step = TrainingConfig(learning_rate=0.1, schedule="step", decay=0.5, decay_epochs=2)
    assert rates(step, 3, [5, 6, 12]) == pytest.approx([0.1, 0.05, 0.025], rel=1e-4)
    cosine = TrainingConfig(learning_rate=0.1, schedule="cosine", epochs=5)
    assert rates(cosine, 4, [0, 10, 19]) == pytest.approx(
        [0.1, 0.05, 0.05 * (1 + np.cos(np.pi * 19 / 20))], rel=1e-3
    )
    warm = TrainingConfig(learning_rate=0.1, schedule="constant", warmup_steps=4)
    assert rates(warm, 4, [0, 2, 4]) == pytest.approx([0, 0.05, 0.1], rel=1e-4, abs=1e-9)


def test_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 7])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3), expected, rtol=1e-6)


def test_weighted_loss_is_divided_by_the_weights_of_the_batch() -> None:
    logits = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    labels, weights = jnp.array([0, 0, 1]), np.array([1.0, 4.0], np.float32)
    each = -np.log(np.exp(logits)[np.arange(3), labels] / np.exp(logits).sum(1))
    expected = (each * [1, 1, 4]).sum() / 6
    assert float(mean_cross_entropy(logits, labels, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(mean_cross_entropy(logits, labels)) == pytest.approx(each.mean(), rel=1e-5)


def test_weight_decay_is_in_the_gradient() -> None:
    """Coupled as in torch: Adam normalises the penalty away, so the move has the full rate."""
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.1, weight_decay=1e-3), 1)
    params = jnp.array([2.0, -3.0])
    update, _ = optimizer.update(jnp.zeros(2), optimizer.init(params), params)
    np.testing.assert_allclose(update, [-0.1, 0.1], rtol=1e-3)


def test_updates_shrink_from_block_to_block() -> None:
    config = TrainingConfig(learning_rate=0.1, schedule="constant", layer_decay=0.5)
    optimizer = make_optimizer(config, steps_per_epoch=1, blocks=2)
    params = {
        "feature_projection": {"norm": jnp.ones(1)},
        "encoder": {"layer0": {"norm": jnp.ones(1)}, "layer1": {"layer_norm": jnp.ones(1)}},
        "head": {"classifier": jnp.ones(1)},
    }
    update, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params))
    sizes = [float(leaf[0]) for leaf in jax.tree.leaves(update)]
    # Adam's first step has the full rate, whatever the gradient; leaves are sorted by name.
    np.testing.assert_allclose(sizes, [-0.025, -0.05, -0.0125, -0.1], rtol=1e-4)


def test_frozen_groups_stay_and_an_update_is_made_of_several_batches() -> None:
    class TwoGroups(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            return nn.Dense(3, name="head")(nn.Dense(4, name="feature_encoder")(x))

    rng = np.random.default_rng(0)
    batches = [
        {"x": jnp.asarray(rng.normal(size=(6, 5)), jnp.float32), "y": jnp.arange(6) % 3}
        for _ in range(2)
    ]
    config = TrainingConfig(learning_rate=0.1, schedule="constant", accumulate=2)
    model, optimizer = TwoGroups(), make_optimizer(config, steps_per_epoch=2)
    frozen = ("feature_encoder",)
    start = init_state(model, optimizer, jax.random.key(0), (5,), 3, frozen=frozen)
    assert set(start.params) == {"head"}
    step = jax.jit(make_train_step(model, optimizer, jax.random.key(1)))
    first = step(start, batches[0])
    jax.tree.map(np.testing.assert_array_equal, first.params, start.params)
    second = step(first, batches[1])
    jax.tree.map(np.testing.assert_array_equal, second.frozen, start.frozen)

    def loss(params: dict) -> jax.Array:
        logits = [
            model.apply({"params": {**params, **start.frozen}}, b["x"], True) for b in batches
        ]
        losses = [mean_cross_entropy(o, b["y"]) for o, b in zip(logits, batches, strict=True)]
        return sum(losses) / 2

    adam = optax.adam(0.1)
    gradient = jax.jit(jax.grad(loss))(start.params)
    expected, _ = adam.update(gradient, adam.init(start.params))
    moved = jax.tree.map(lambda a, b: a - b, second.params, start.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), moved, expected)


def test_a_step_learns_counts_and_drops_out_by_step() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0)
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    model, optimizer = Linear(), optax.adam(0.05)
    state = init_state(model, optimizer, jax.random.key(0), (5,), 3)
    step = jax.jit(make_train_step(model, optimizer, jax.random.key(1)))
    evaluate = make_evaluation_step(model)
    before = evaluate(state.variables, batch)[0].mean()
    first, again = step(state, batch), step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for _ in range(40):
        state = step(state, batch)
    losses, logits = evaluate(state.variables, batch)
    predictions = logits.argmax(axis=1)
    assert losses.mean() < 0.8 * before
    assert (predictions == y).mean() > 0.7
    assert int(state.step) == int(state.metrics.steps) == 40
    assert int(state.metrics.confusion.sum()) == 40 * 60
    np.testing.assert_array_equal(state.metrics.confusion.sum(1), 40 * np.bincount(y))


def test_mixup_mixes_equal_loudness_by_beta_shares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 30)).astype(np.float32) * rng.uniform(0.01, 1, (2_000, 1))
    x[3] = 0.0
    mixed, partner, share = mix_pairs(jax.random.key(0), jnp.asarray(x, jnp.float32), 0.4)
    assert sorted(np.asarray(partner)) == list(range(2_000))
    level = x / np.where(x.std(1, keepdims=True) > 0, x.std(1, keepdims=True), 1)
    own = np.asarray(share)[:, None]
    np.testing.assert_allclose(mixed, own * level + (1 - own) * level[partner], atol=1e-5)
    assert share.min() >= 0.5
    # max(b, 1 - b) of a Beta(a, a): E = 1/2 + E|b - 1/2|, and b's variance is 1 / (4 (2a + 1)).
    np.testing.assert_allclose(np.square(share - 0.5).mean(), 1 / (4 * 1.8), rtol=0.05)


def test_mixup_trains_on_both_labels() -> None:
    """One step on a linear model: its gradient is that of the share-weighted cross-entropies."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
    y, key = jnp.array([0, 1, 2, 0, 1, 2]), jax.random.key(1)
    model, optimizer = nn.Dense(3), optax.sgd(1.0)

    class Victim(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            return model.copy()(x)

    victim = Victim()
    state = init_state(victim, optimizer, jax.random.key(0), (5,), 3)
    after = jax.jit(make_train_step(victim, optimizer, key, mixup=0.4))(state, {"x": x, "y": y})
    step_key = jax.random.fold_in(jax.random.fold_in(key, 0), 1)
    mixed, partner, share = mix_pairs(step_key, x, 0.4)

    def expected_loss(params: dict) -> jax.Array:
        log_p = jax.nn.log_softmax(victim.apply({"params": params}, mixed, train=True))
        rows = jnp.arange(6)
        return -(share * log_p[rows, y] + (1 - share) * log_p[rows, y[partner]]).mean()

    gradient = jax.jit(jax.grad(expected_loss))(state.params)
    moved = jax.tree.map(lambda a, b: a - b, state.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), moved, gradient)
