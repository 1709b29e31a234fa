"""Layers as they are defined, in plain JAX, and the comparison of a fast form with them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
