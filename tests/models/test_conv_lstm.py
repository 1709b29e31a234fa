"""Blocks of Emo18 and Zhao19 against the same in the order in which they are defined."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from textbook import assert_same_derivatives, normal, textbook_conv, textbook_pool

from jaxser.models.conv_lstm import ConvBlock
from jaxser.models.layers.lstm import LSTM
from jaxser.models.zhao19 import elu


@pytest.mark.usefixtures("double")
def test_elu_is_elu():
    y = jnp.concatenate([normal(0, 50), jnp.array([-40.0, -1e-9, 1e-9])])
    assert_same_derivatives(elu, nn.elu, y)


class TextbookBlock:
    """Convolution, batch norm, activation, pooling, in the order in which they are defined."""

    def __init__(self, padding, pool, activation):
        self.padding, self.pool, self.activation = padding, pool, activation

    def __call__(self, variables, x, train):
        params, stats = variables["params"], variables["batch_stats"]
        y = textbook_conv(x, params["kernel"], self.padding) + params["bias"][None, None]
        mean, variance = stats["mean"], stats["var"]
        if train:
            mean, variance = y.mean(axis=(0, 1)), y.var(axis=(0, 1))
            unbiased = y.var(axis=(0, 1), ddof=1)
            stats = {
                "mean": 0.9 * stats["mean"] + 0.1 * mean,
                "var": 0.9 * stats["var"] + 0.1 * unbiased,
            }
        y = (y - mean[None, None]) / jnp.sqrt(variance + 1e-5)[None, None]
        y = y * params["norm_scale"][None, None] + params["norm_bias"][None, None]
        return textbook_pool(self.activation(y), self.pool), stats


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_conv_block_is_the_textbook_block(channels, train):
    block = ConvBlock(6, 4, 1, 5, nn.leaky_relu, jnp.float64, jnp.float64)
    textbook = TextbookBlock(1, 5, nn.leaky_relu)
    x = normal(0, 3, 62, channels)
    variables = {
        "params": {
            "kernel": normal(1, 4, channels, 6),
            "bias": normal(2, 6),
            "norm_scale": jnp.array([1.0, -1.0, 0.3, -2.0, 1e-3, 1.5]),
            "norm_bias": normal(4, 6),
        },
        "batch_stats": {"mean": normal(5, 6), "var": jnp.abs(normal(6, 6)) + 0.1},
    }

    def fast(params, x):
        stats = variables["batch_stats"]
        y, updated = block.apply(
            {"params": params, "batch_stats": stats}, x, train, mutable=["batch_stats"]
        )
        return y, updated["batch_stats"]

    def slow(params, x):
        return textbook({**variables, "params": params}, x, train)

    def all_of(function):
        def loss(params, x):
            y, stats = function(params, x)
            return jnp.sin(y).sum(), (y, stats)

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)

    for a, b in zip(*map(jax.tree.leaves, (all_of(fast), all_of(slow))), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_a_zero_scale_can_leave_zero():
    block = ConvBlock(2, 3, 1, 2, nn.elu)
    x = jax.random.normal(jax.random.key(0), (2, 20, 1))
    variables = jax.jit(functools.partial(block.init, train=False))(jax.random.key(1), x)
    params = {**variables["params"], "norm_scale": jnp.zeros(2)}

    def loss(params):
        return block.apply({**variables, "params": params}, x, train=False).sum()

    assert np.all(np.abs(jax.jit(jax.grad(loss))(params)["norm_scale"]) > 0.1)


def test_initial_weights():
    """LeCun's variance, orthogonal recurrences, zero biases."""
    variables = jax.jit(LSTM(64).init)(jax.random.key(0), jnp.zeros((1, 3, 400)))["params"]
    assert float(variables["input_kernel"].std()) == pytest.approx(1 / 20, rel=0.02)
    for gate in jnp.split(variables["recurrent_kernel"], 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(64), atol=1e-5)
    assert not variables["bias"].any()
    block = ConvBlock(256, 5, 2, 4, nn.elu).init(jax.random.key(0), jnp.zeros((1, 40, 30)), False)
    assert float(block["params"]["kernel"].std()) == pytest.approx(150**-0.5, rel=0.02)
    assert not block["params"]["bias"].any()
