"""LSTMs against a loop over their steps, in the forms for a CPU and for accelerators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from short_and_long import short_and_long
from textbook import assert_same_derivatives, normal

from jaxser.models.layers import lstm
from jaxser.models.layers.lstm import LSTM, read_together, recurrence, stacked
from jaxser.runtime.forms import forms_for

PLATFORMS = ("cpu", "gpu")


@pytest.fixture(autouse=True)
def short_loops(monkeypatch):
    """Bodies of two or three steps: of 7 and 5 there are no whole number."""
    monkeypatch.setattr(lstm, "_MOST_UNROLLED", 3)
    monkeypatch.setattr(lstm, "_FEWEST_UNROLLED", 2)


def textbook(projected, kernel):
    hidden = cell = jnp.zeros((projected.shape[1], kernel.shape[0]))
    states = []
    for step in projected:
        i, f, g, o = jnp.split(step + hidden @ kernel, 4, axis=1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        states.append(hidden)
    return jnp.stack(states)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_recurrence_is_an_lstm(platform):
    projected, kernel = normal(0, 7, 2, 12), normal(1, 3, 12)
    with forms_for(platform):
        assert_same_derivatives(recurrence, textbook, projected, kernel)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("argument", [0, 1])
def test_recurrence_by_one_argument(argument):
    """What is not differentiated is left out."""
    projected, kernel = normal(0, 7, 2, 12), normal(1, 3, 12)

    def gradient(function):
        loss = jax.grad(lambda *a: (function(*a) ** 2).sum(), argument)
        return jax.jit(loss)(projected, kernel)

    np.testing.assert_allclose(gradient(recurrence), gradient(textbook), atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.long
@pytest.mark.parametrize("platform", PLATFORMS)
def test_gradients_of_all_classes_and_gradients_of_gradients(platform):
    projected, kernel = normal(0, 3, 2, 8), normal(1, 2, 8)
    classes, direction = normal(2, 2, 5), normal(3, 3, 2, 8)

    def logits(function, projected):
        return function(projected, kernel).mean(axis=0) @ classes

    def everything(function):
        def run(projected):
            one_hot = jnp.broadcast_to(jnp.eye(5)[:, None], (5, 2, 5))
            pull_back = jax.vjp(functools.partial(logits, function), projected)[1]

            def along(projected):
                gradient = jax.grad(lambda p: (logits(function, p) ** 3).sum())(projected)
                return (gradient * direction).sum()

            return jax.vmap(pull_back)(one_hot), jax.grad(along)(projected)

        return jax.jit(run)(projected)

    with forms_for(platform):
        found, expected = everything(recurrence), everything(textbook)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


class TwoLayers:
    """Two layers of different sizes, stacked by a function, as one of inputs and parameters."""

    lower, upper = LSTM(3, jnp.float64, jnp.float64), LSTM(2, jnp.float64, jnp.float64)

    def parameters(self):
        return [
            {
                "input_kernel": normal(seed, channels, 4 * units),
                "recurrent_kernel": normal(seed + 1, units, 4 * units),
                "bias": normal(seed + 2, 4 * units),
            }
            for seed, channels, units in ((0, 5, 3), (3, 3, 2))
        ]

    def bound(self, params):
        layers = (self.lower, self.upper)
        return [m.bind({"params": p}) for m, p in zip(layers, params, strict=True)]

    def stacked(self, x, params):
        return stacked(*self.bound(params), x)

    def textbook(self, x, params):
        for p in params:
            projected = x.swapaxes(0, 1) @ p["input_kernel"] + p["bias"][None, None]
            x = textbook(projected, p["recurrent_kernel"]).swapaxes(0, 1)
        return x


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("steps", short_and_long([1, 4], [4]))
def test_stacked_layers_in_one_loop_are_one_after_the_other(steps):
    """A loop of a step more; five are no whole number of bodies."""
    layers = TwoLayers()
    x, params = normal(9, 2, steps, 5), layers.parameters()

    def everything(function):
        def run(x, params):
            y, pull_back = jax.vjp(function, x, params)
            return y, pull_back(jnp.cos(y)), jax.vmap(pull_back)(jnp.stack([y, 2 + y]))

        return jax.jit(run)(x, params)

    with forms_for("gpu"):
        found = everything(layers.stacked)
    expected = everything(layers.textbook)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_readers_in_one_loop_do_not_see_each_other():
    kernels, projected = normal(0, 2, 2, 8), normal(1, 2, 3, 1, 8)

    def together(kernels, projected):
        readers = [
            LSTM(2, jnp.float64).bind({"params": {"recurrent_kernel": kernel}})
            for kernel in kernels
        ]
        return jnp.stack(read_together(readers, list(projected)))

    def apart(kernels, projected):
        return jnp.stack([textbook(*each) for each in zip(projected, kernels, strict=True)])

    with forms_for("gpu"):
        assert_same_derivatives(together, apart, kernels, projected)


@pytest.mark.long
def test_stacked_layers_in_half_precision_round_no_more_than_layer_by_layer():
    """Products are rounded, cells and what is kept of them for the gradient are not."""
    layers = TwoLayers()
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), layers.parameters())
    x = jnp.asarray(normal(9, 2, 40, 5), jnp.float32)

    def gradient(dtype, platform):
        def loss(x):
            lower, upper = (
                layer.clone(dtype=dtype, param_dtype=jnp.float32).bind({"params": p})
                for layer, p in zip((layers.lower, layers.upper), params, strict=True)
            )
            return (stacked(lower, upper, x).astype(jnp.float32) ** 2).sum()

        with forms_for(platform):
            return np.asarray(jax.jit(jax.grad(loss))(x))

    exact = gradient(jnp.float32, "cpu")
    errors = [
        np.linalg.norm(gradient(jnp.bfloat16, platform) - exact) / np.linalg.norm(exact)
        for platform in PLATFORMS
    ]
    assert 0 < errors[1] < 1.5 * errors[0]
