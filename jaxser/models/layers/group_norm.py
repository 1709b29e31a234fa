"""Group norm and ReLU as one affine map per channel."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import NORM_EPSILON
from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.forms import on_cpu

__all__ = ["group_norm"]


def _row_moments(
    y: Float[Array, "batch time channels"],
) -> tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]]:
    """Mean and (biased) variance over time; squares of plain numbers could drown the variance."""
    if on_cpu():
        mean = y.mean(axis=1)
        # What is left of a channel has mean 0, so the mean's own derivative adds nothing.
        return mean, ((y - lax.stop_gradient(mean)[:, None]) ** 2).mean(axis=1)
    # About a sample ``y`` is read once instead of twice. A CPU takes longer so.
    first = lax.stop_gradient(y[:, :1])
    mean = (y - first).mean(axis=1)
    return first[:, 0] + mean, ((y - first) ** 2).mean(axis=1) - mean**2


def _of_groups(
    a: Float[Array, "batch channels"], group_size: int
) -> Float[Array, "batch channels"]:
    """The mean of its group for every channel."""
    groups = a.shape[1] // group_size
    means = a.reshape(-1, groups, group_size).mean(axis=2)
    if not on_cpu():
        return jnp.repeat(means, group_size, axis=1)
    # A product, as XLA would fuse repeated means into the loop over samples and gather them there.
    return means @ jnp.repeat(jnp.eye(groups, dtype=a.dtype), group_size, axis=1)


def group_norm(
    y: Float[Array, "batch time channels"],
    bias: Float[Array, " channels"],
    group_size: int,
    scale: Float[Array, "#batch channels"],
    shift: Float[Array, "#batch channels"],
) -> Float[Array, "batch time channels"]:
    """ReLU of groups of neighbouring channels with mean 0 and (biased) variance 1 over time.

    Statistics are taken in float32 at least and of each channel by itself, then put together:
    nothing but the result is made of the size of ``y``. PyTorch's epsilon.

    Args:
      y: of a whole number of groups.
      bias: of the channels, which is added to ``y`` first.
      group_size: channels of a group.
      scale, shift: what the normalised channels are multiplied with and moved by.
    """
    dtype = y.dtype
    y = y.astype(at_least_float32(dtype))
    mean, variance = _row_moments(y)
    mean = mean + bias[None]
    of_groups = _of_groups(mean, group_size)
    of_variance = _of_groups(variance + (mean - of_groups) ** 2, group_size)
    slope = scale * lax.rsqrt(of_variance + NORM_EPSILON)
    offset = shift + (bias[None] - of_groups) * slope
    if not on_cpu():  # which drops barriers; elsewhere all this is not to be redone per sample
        slope, offset = lax.optimization_barrier((slope, offset))
    slope, offset = slope[:, None], offset[:, None]
    # The ReLU is in the factors, so that the gradient by the slope is no sum of bare products,
    # which takes XLA's CPU backend 54 ms instead of 3 for one row of the first level.
    kept = y * slope + offset > 0
    return (y * jnp.where(kept, slope, 0) + jnp.where(kept, offset, 0)).astype(dtype)
