"""The fast layers against their textbook formulations, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxser.models.conv_lstm import ConvBlock
from jaxser.models.layers import conv_max_pool as fused
from jaxser.models.layers.batch_norm import conv_moments, moments
from jaxser.models.layers.conv_max_pool import conv_max_pool, window_max
from jaxser.models.layers.lstm import LSTM, recurrence
from jaxser.models.layers.waveform import normalise_utterance
from jaxser.models.zhao19 import elu


@pytest.fixture
def double():
    """Formulas that are equal agree to 1e-12 or so; near-ties cannot blur a comparison."""
    with jax.enable_x64(True):
        yield


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def textbook_conv(x, kernel, padding):
    return lax.conv_general_dilated(
        x, kernel, (1,), [(padding, padding)], dimension_numbers=("NWC", "WIO", "NWC")
    )


def textbook_pool(y, pool):
    return lax.reduce_window(y, -jnp.inf, lax.max, (1, pool, 1), (1, pool, 1), "VALID")


def textbook_conv_pool(x, kernel, padding, pool):
    return textbook_pool(textbook_conv(x[..., None], kernel[:, None], padding), pool)


def assert_same_derivatives(fast, textbook, *args):
    """Values, reverse mode and forward mode, in every argument."""
    cotangent = jax.tree.map(lambda a: normal(9, *a.shape), jax.eval_shape(textbook, *args))
    tangents = tuple(normal(10 + i, *a.shape) for i, a in enumerate(args))

    def all_of(function):
        def run(args, tangents, cotangent):
            value, pull = jax.vjp(function, *args)
            return value, pull(cotangent), jax.jvp(function, args, tangents)[1]

        return jax.jit(run)(args, tangents, cotangent)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11, rtol=1e-9),
        all_of(fast),
        all_of(textbook),
    )


def test_normalise_utterance_standardises_each_row():
    x = np.random.default_rng(0).normal(3.0, 0.2, (2, 500)).astype(np.float32)
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(normalise_utterance(jnp.asarray(x)), expected, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, -0.7, 1e-30])
def test_normalise_utterance_is_zero_on_silence(level):
    x = jnp.full((2, 9601), level, jnp.float32)
    gradient = jax.grad(lambda x: (normalise_utterance(x) ** 2).sum() + x.sum())(x)
    np.testing.assert_array_equal(normalise_utterance(x), 0.0)
    np.testing.assert_array_equal(gradient, 1.0)


def test_normalise_utterance_keeps_faint_rows():
    x = 1e-6 * jax.random.normal(jax.random.key(0), (1, 4000))
    np.testing.assert_allclose(normalise_utterance(x).std(), 1.0, atol=1e-3)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("samples", [40, 43])
def test_window_max_is_max_pooling(samples):
    assert_same_derivatives(
        lambda y: window_max(y, 4), lambda y: textbook_pool(y, 4), normal(0, 2, samples, 3)
    )


def test_window_max_sends_a_tie_to_the_first_sample():
    gradient = jax.grad(lambda y: window_max(y, 3).sum())(jnp.zeros((1, 7, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0], [1, 0, 0, 1, 0, 0, 0])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("samples", "size", "padding", "pool", "piece"),
    # by default; in pieces that do not divide the windows; one window each; all windows at once
    [(97, 8, 3, 10, None), (100, 3, 1, 4, 4), (41, 5, 0, 2, 1), (97, 8, 3, 10, 100)],
)
def test_conv_max_pool_is_convolution_and_pooling(monkeypatch, samples, size, padding, pool, piece):
    if piece is not None:
        monkeypatch.setattr(fused, "_piece", lambda batch, windows: piece)
    assert_same_derivatives(
        lambda x, kernel: conv_max_pool(x, kernel, padding, pool),
        lambda x, kernel: textbook_conv_pool(x, kernel, padding, pool),
        normal(0, 2, samples),
        normal(1, size, 6),
    )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("argument", [0, 1])
def test_conv_max_pool_by_one_argument(argument):
    args = normal(0, 2, 100), normal(1, 8, 6)

    def gradient(function):
        return jax.jit(jax.grad(lambda *a: jnp.sin(function(*a, 3, 10)).sum(), argument))(*args)

    fast, slow = gradient(conv_max_pool), gradient(textbook_conv_pool)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_conv_max_pool_jacobian_by_vmap():
    x, kernel = normal(0, 1, 45), normal(1, 8, 2)
    fast = jax.jit(jax.jacrev(lambda x: conv_max_pool(x, kernel, 3, 10)))(x)
    slow = jax.jit(jax.jacrev(lambda x: textbook_conv_pool(x, kernel, 3, 10)))(x)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_moments_are_mean_and_variance():
    assert_same_derivatives(
        moments,
        lambda y: (y.mean(axis=(0, 1)), y.var(axis=(0, 1))),
        2 + normal(0, 3, 20, 4),
    )


@pytest.mark.usefixtures("double")
def test_conv_moments_are_those_of_the_convolution():
    def textbook(x, kernel):
        y = textbook_conv(x[..., None], kernel[:, None], 3)
        return y.mean(axis=(0, 1)), y.var(axis=(0, 1))

    assert_same_derivatives(
        lambda x, kernel: conv_moments(x, kernel, 3),
        textbook,
        1 + normal(0, 2, 57),
        normal(1, 8, 5),
    )


@pytest.mark.usefixtures("double")
def test_recurrence_is_an_lstm():
    def textbook(projected, kernel):
        hidden = cell = jnp.zeros((projected.shape[1], kernel.shape[0]))
        states = []
        for step in projected:
            i, f, g, o = jnp.split(step + hidden @ kernel, 4, axis=1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            states.append(hidden)
        return jnp.stack(states)

    projected, kernel = normal(0, 7, 2, 12), normal(1, 3, 12)
    assert_same_derivatives(recurrence, textbook, projected, kernel)

    def gradient(function, argument):
        loss = jax.grad(lambda *a: (function(*a) ** 2).sum(), argument)
        return jax.jit(loss)(projected, kernel)

    for argument in (0, 1):
        np.testing.assert_allclose(
            gradient(recurrence, argument),
            gradient(textbook, argument),
            atol=1e-12,
        )


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
    variables = block.init(jax.random.key(1), x, train=False)
    params = {**variables["params"], "norm_scale": jnp.zeros(2)}

    def loss(params):
        return block.apply({**variables, "params": params}, x, train=False).sum()

    assert np.all(np.abs(jax.grad(loss)(params)["norm_scale"]) > 0.1)


def test_initial_weights():
    """LeCun's variance, orthogonal recurrences, zero biases."""
    variables = LSTM(64).init(jax.random.key(0), jnp.zeros((1, 3, 400)))["params"]
    assert float(variables["input_kernel"].std()) == pytest.approx(1 / 20, rel=0.02)
    for gate in jnp.split(variables["recurrent_kernel"], 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(64), atol=1e-5)
    assert not variables["bias"].any()
    block = ConvBlock(256, 5, 2, 4, nn.elu).init(jax.random.key(0), jnp.zeros((1, 40, 30)), False)
    assert float(block["params"]["kernel"].std()) == pytest.approx(150**-0.5, rel=0.02)
    assert not block["params"]["bias"].any()
