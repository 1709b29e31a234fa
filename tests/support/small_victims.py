"""Small victims with fixed weights, for tests of attacks: a linear one and a 1-D convolution on
waveforms, a small CNN on standardised log-mel spectrograms, and that CNN behind its front end.

The torch twins for the oracles are in ``scripts/golden_victims.py``; both sides read the weights
made here.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxser.victims.victim import Victim

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


FRAME, HOP, MELS, FRAMES = 32, 8, 10, 12
FRONT_END_SAMPLES = FRAME + HOP * (FRAMES - 1)
SPECTROGRAM_BOUNDS = (-5.0, 7.0)


def log_mel(x):
    """Standardised log-mel spectrogram [batch, frames, mels] of waveforms; differentiable."""
    frames = jnp.stack([x[:, i * HOP : i * HOP + FRAME] for i in range(FRAMES)], axis=1)
    power = jnp.square(jnp.abs(jnp.fft.rfft(frames * jnp.hanning(FRAME)[None, None])))
    # Triangles between mel-like, ever wider centres.
    centres = np.geomspace(1.0, FRAME / 2, MELS + 2)
    bins = np.arange(FRAME // 2 + 1)
    rising = (bins[:, None] - centres[:-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[2:] - bins[:, None]) / (centres[2:] - centres[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    logs = jnp.log(power @ filters + 1e-4)
    return (logs - 0.5) / 2.0


def cnn_weights(kind: str, seed: int = 4, classes: int = CLASSES) -> dict:
    """Weights whose logits are centred and spread alike on the victim's own inputs."""
    rng = np.random.default_rng(seed)
    weights = {
        "filters": rng.normal(0, 0.4, (3, 3, 1, CHANNELS)).astype(np.float32),
        "shift": rng.normal(0, 0.3, CHANNELS).astype(np.float32),
        "kernel": rng.normal(0, 1.0, (CHANNELS, classes)).astype(np.float32),
        "bias": np.zeros(classes, np.float32),
    }
    logits = np.asarray(APPLY[kind](weights, jnp.asarray(inputs(kind, 64, seed=98))))
    spread = logits.std(axis=0)
    return weights | {
        "kernel": weights["kernel"] / spread,
        "bias": -(logits.mean(axis=0) / spread),
    }


def cnn_apply(variables, x):
    """Spectrogram [batch, frames, mels] -> logits: convolution, tanh, mean of squares, linear."""
    hidden = jax.lax.conv_general_dilated(
        x[..., None],
        variables["filters"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    shift = variables["shift"][None, None, None]
    pooled = jnp.square(jnp.tanh(hidden + shift)).mean(axis=(1, 2))
    return pooled @ variables["kernel"] + variables["bias"][None]


def front_end_apply(variables, x):
    """Waveform [batch, FRONT_END_SAMPLES] -> logits, through the spectrogram."""
    return cnn_apply(variables, log_mel(x))


APPLY = {
    "linear": linear_apply,
    "conv": conv_apply,
    "spectrogram": cnn_apply,
    "front_end": front_end_apply,
}
WEIGHTS = {
    "linear": linear_weights,
    "conv": conv_weights,
    "spectrogram": functools.partial(cnn_weights, "spectrogram"),
    "front_end": functools.partial(cnn_weights, "front_end"),
}
SHAPES = {
    "linear": (SAMPLES,),
    "conv": (SAMPLES,),
    "spectrogram": (FRAMES, MELS),
    "front_end": (FRONT_END_SAMPLES,),
}


def small_victim(kind: str, **options) -> Victim:
    weights = WEIGHTS[kind](**options)
    classes = len(weights["bias"])
    return Victim(
        apply=APPLY[kind],
        variables=jax.tree.map(jnp.asarray, weights),
        labels=tuple(f"class{i}" for i in range(classes)),
        input_shape=(options["samples"],) if "samples" in options else SHAPES[kind],
        name=kind,
        bounds=SPECTROGRAM_BOUNDS if kind == "spectrogram" else (-1.0, 1.0),
    )


def fresh(victim: Victim) -> Victim:
    """The same with a function of its own, so that nothing is compiled for it yet."""
    return dataclasses.replace(victim, apply=lambda variables, x: victim.apply(variables, x))


def waveforms(count: int, seed: int = 2, samples: int = SAMPLES) -> np.ndarray:
    """Inputs well inside (-1, 1)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (count, samples)).astype(np.float32)


def labels(count: int, seed: int = 3, classes: int = CLASSES) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, count).astype(np.int32)


def spectrograms(count: int, seed: int = 5) -> np.ndarray:
    """Inputs of the spectrogram victim, some close to the bounds."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1.5, (count, FRAMES, MELS)).astype(np.float32)
    return np.clip(values, *SPECTROGRAM_BOUNDS)


def inputs(kind: str, count: int, seed: int = 2) -> np.ndarray:
    """Inputs that fit the victim ``kind``."""
    if kind == "spectrogram":
        return spectrograms(count, seed)
    return waveforms(count, seed, SHAPES[kind][0])
