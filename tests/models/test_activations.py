"""Activations by the names of transformers, against their papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxser.models.transformer.activations import ACTIVATIONS

# --- activations -----------------------------------------------------------------------------

# By their papers, in double precision.
FORMULAS = {
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_10": lambda x: np.clip(x * special.ndtr(x), -10, 10),
    "gelu_new": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "laplace": lambda x: special.ndtr((x - 0.707107) / 0.282095),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "linear": lambda x: x,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "quick_gelu": lambda x: x * special.expit(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "sqrtsoftplus": lambda x: np.sqrt(np.log1p(np.exp(x))),
    "tanh": np.tanh,
}
SAME = {
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "swish": "silu",
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_their_papers(name):
    x = np.linspace(-15, 15, 301)
    expected = FORMULAS[SAME.get(name, name)](x)
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x, jnp.float32)), expected, atol=2e-5)
    slope = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray(x, jnp.float32))
    assert np.isfinite(slope).all()
