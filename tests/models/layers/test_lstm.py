"""The LSTM's recurrence against a loop over its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from textbook import assert_same_derivatives, normal

from jaxser.models.layers.lstm import recurrence


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
