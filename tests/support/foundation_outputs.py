"""Outputs of a speech transformer, for the tests that hold it to PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def outputs_and_gradients(
    model: Any, variables: Any, x: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[Any, Any, Any, Any]:
    """(logits, hidden states, gradients by input and by variables), on the host.

    The gradients are those of the sum of the squared logits. Not compiled as a whole: the cases
    share their operations' shapes, so that each is compiled once for all of them.
    """
    lengths = None if lengths is None else jnp.asarray(lengths)

    def loss(variables: Any, x: Any) -> Any:
        logits = model.apply(variables, x, lengths=lengths)
        return (logits**2).sum(), logits

    gradients = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (by_variables, by_input), logits = gradients(variables, jnp.asarray(x))
    states = model.apply(variables, x, lengths=lengths, method="hidden_states")
    return jax.tree.map(np.asarray, (logits, states, by_input, by_variables))
