"""Logits, gradients and statistics of a module, for the tests that hold it to PyTorch's."""

import functools
from typing import Any

import jax
import numpy as np
import optax


def logits_and_gradients(
    model: Any, variables: Any, x: Any, y: Any, train: bool
) -> tuple[Any, Any, Any, Any]:
    """(logits, gradients by input and by parameters, updated batch statistics), on the host.

    The gradients are those of the mean cross-entropy.
    """
    others = {name: variables[name] for name in variables if name != "params"}
    (by_params, by_input), (logits, stats) = _run(
        variables["params"], x, others, y, model=model, train=train
    )
    return jax.tree.map(np.asarray, (logits, by_input, by_params, stats))


# One program for all tests of a module; weights that it closed over would be folded into it.
@functools.partial(jax.jit, static_argnames=("model", "train"))
def _run(params: Any, x: Any, others: Any, y: Any, *, model: Any, train: bool) -> Any:
    def loss(params: Any, x: Any) -> Any:
        logits, updated = model.apply(
            {**others, "params": params}, x, train=train, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), (logits, updated.get("batch_stats", {}))

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Relative, over the whole array; absolute where the reference is rounding noise."""
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-4))
