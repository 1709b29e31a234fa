"""What a network does with a batch of waveforms first: check it, and normalise every row."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxser.runtime.errors import InputError

__all__ = ["before_padding", "check_waveforms", "normalise_input", "normalise_utterance"]


def check_waveforms(name: str, x: Float[Array, "..."], shortest: int) -> None:
    """Refuse what is no batch of waveforms, or shorter than ``shortest`` samples.

    Raises:
      InputError: it says so of the model ``name``.
    """
    if x.ndim != 2:
        raise InputError(
            f"{name} takes waveforms of shape [batch, time], but got an array of shape "
            f"{tuple(x.shape)}; add a batch axis or mix the channels down."
        )
    if x.shape[1] < shortest:
        raise InputError(
            f"{name} needs waveforms of at least {shortest} samples, but got {x.shape[1]}; pad "
            "them or use longer utterances."
        )


def before_padding(lengths: Int[Array, " batch"], size: int) -> Bool[Array, "batch size"]:
    """Which of ``size`` places are within each row's length."""
    return jnp.arange(size)[None] < lengths[:, None]


def normalise_utterance(x: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
    """Every row with mean 0 and (unbiased) standard deviation 1; a constant row becomes zeros.

    Differentiable everywhere: the gradient of a constant row is 0, not NaN.
    """
    centred = x - x.mean(axis=1, keepdims=True)
    variance = jnp.sum(centred**2, axis=1, keepdims=True) / (x.shape[1] - 1)
    # The mean of n equal numbers is off by rounding; what is left of them is silence as well.
    peak = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    # Both branches of the choice must be finite: where one divides by 0, its NaN reaches the
    # gradient though the other is chosen. Hence the second ``where``.
    silent = variance <= (4 * jnp.finfo(x.dtype).eps * peak) ** 2
    return jnp.where(silent, 0.0, centred) * lax.rsqrt(jnp.where(silent, 1.0, variance))


def normalise_input(
    x: Float[Array, "batch time"], lengths: Int[Array, " batch"] | None = None
) -> Float[Array, "batch time"]:
    """Mean 0 and variance 1 of every row; with ``lengths``, of its first samples, then zeros.

    As Hugging Face's feature extractor does: 1e-7 is added to the variance, so that silence stays
    silence and its gradient finite.
    """
    if lengths is None:
        x = x - x.mean(axis=1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, axis=1, keepdims=True) + 1e-7)
    valid = before_padding(lengths, x.shape[1])
    count = jnp.maximum(lengths, 1).astype(x.dtype)[:, None]
    mean = jnp.sum(jnp.where(valid, x, 0), axis=1, keepdims=True) / count
    x = jnp.where(valid, x - mean, 0)
    return x * lax.rsqrt(jnp.sum(x**2, axis=1, keepdims=True) / count + 1e-7)
