"""Small victims with fixed weights, for tests of attacks: a linear one and a 1-D convolution.

The torch twins for the oracles are in ``scripts/golden_attacks.py``; both sides read the weights
made here.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.victim import Victim

SAMPLES, CLASSES, CHANNELS, KERNEL = 64, 5, 8, 7


def linear_weights(classes: int = CLASSES, samples: int = SAMPLES, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(0, 1, (samples, classes)).astype(np.float32),
        "bias": rng.normal(0, 0.1, classes).astype(np.float32),
    }


def conv_weights(seed: int = 1) -> dict:
    """Weights whose logits are centred on random inputs, so that all classes are predicted."""
    rng = np.random.default_rng(seed)
    weights = {
        "filters": rng.normal(0, 0.6, (KERNEL, 1, CHANNELS)).astype(np.float32),
        "shift": rng.normal(0, 0.3, CHANNELS).astype(np.float32),
        "kernel": rng.normal(0, 30.0, (CHANNELS, CLASSES)).astype(np.float32),
        "bias": np.zeros(CLASSES, np.float32),
    }
    typical = np.lib.stride_tricks.sliding_window_view(waveforms(64, seed=99), KERNEL, axis=1)
    hidden = np.tanh(typical @ weights["filters"][:, 0, :] + weights["shift"])
    features = np.square(hidden).mean(axis=(0, 1))
    return weights | {"bias": (-features @ weights["kernel"]).astype(np.float32)}


def linear_apply(variables, x):
    return x @ variables["kernel"] + variables["bias"][None]


def conv_apply(variables, x):
    """Convolution, tanh, mean of squares over time, linear layer: smooth, so signs are sure."""
    hidden = jax.lax.conv_general_dilated(
        x[..., None], variables["filters"], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    pooled = jnp.square(jnp.tanh(hidden + variables["shift"][None, None])).mean(axis=1)
    return pooled @ variables["kernel"] + variables["bias"][None]


APPLY = {"linear": linear_apply, "conv": conv_apply}
WEIGHTS = {"linear": linear_weights, "conv": conv_weights}


def small_victim(kind: str, **options) -> Victim:
    weights = WEIGHTS[kind](**options)
    classes = len(weights["bias"])
    return Victim(
        apply=APPLY[kind],
        variables=jax.tree.map(jnp.asarray, weights),
        labels=tuple(f"class{i}" for i in range(classes)),
        input_shape=(SAMPLES,),
        name=kind,
    )


def waveforms(count: int, seed: int = 2, samples: int = SAMPLES) -> np.ndarray:
    """Inputs well inside (-1, 1)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (count, samples)).astype(np.float32)


def labels(count: int, seed: int = 3, classes: int = CLASSES) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, count).astype(np.int32)
