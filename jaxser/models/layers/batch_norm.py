"""Batch norm's statistics, as PyTorch has them: eps 1e-5, momentum 0.1, unbiased running variance.

    statistics = RunningStatistics.of(module, features)
    mean, variance = moments(y)                                # y [batch, time, channels]
    statistics.update(mean, variance, y.shape[0] * y.shape[1])

The affine map is left to the layer, which folds the statistics into one slope and one offset per
channel; :class:`BatchNorm` is such a layer, by itself.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.errors import UsageError

__all__ = [
    "NORM_EPSILON",
    "NORM_MOMENTUM",
    "BatchNorm",
    "RunningStatistics",
    "conv_moments",
    "moments",
]

NORM_EPSILON = 1e-5
# Share of the newest batch in the running statistics; Flax's ``momentum`` is that of the old ones.
NORM_MOMENTUM = 0.1


class RunningStatistics(NamedTuple):
    """Mean and variance of the channels in evaluation, variables of the collection "batch_stats".

    They are float32 whatever the parameters are.
    """

    mean: nn.Variable
    var: nn.Variable

    @classmethod
    def of(cls, module: nn.Module, features: int) -> "RunningStatistics":
        """The variables ``mean`` and ``var`` of a module, made where it has none yet."""
        shape = (features,)
        return cls(
            module.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32),
            module.variable("batch_stats", "var", jnp.ones, shape, jnp.float32),
        )

    def update(
        self, mean: Float[Array, " channels"], variance: Float[Array, " channels"], count: int
    ) -> None:
        """Move towards the (biased) moments of a batch of ``count`` samples of each channel."""
        unbiased = variance * (count / (count - 1))
        self.mean.value += NORM_MOMENTUM * (mean - self.mean.value)
        self.var.value += NORM_MOMENTUM * (unbiased - self.var.value)


@jax.custom_jvp
def moments(
    y: Float[Array, "batch time channels"],
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Mean and (biased) variance of every channel.

    Differentiated by hand so that the centred signal, an array of the size of ``y``, is never kept
    for the gradient.
    """
    return y.mean(axis=(0, 1)), y.var(axis=(0, 1))


@moments.defjvp
def _moments_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (y,), (dy,) = primals, tangents
    mean, variance = moments(y)
    dmean = dy.mean(axis=(0, 1))
    return (mean, variance), (dmean, 2 * ((y * dy).mean(axis=(0, 1)) - mean * dmean))


def conv_moments(
    x: Float[Array, "batch time"], kernel: Float[Array, "size channels"], padding: int
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """:func:`moments` of the convolution of a waveform, without computing the convolution.

    The mean is linear and the variance quadratic in the kernel, so the waveform's means and
    covariances under the taps (``size × size`` numbers) say it all.
    """
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding)))
    steps = x.shape[1] - size + 1
    taps = [x[:, k : k + steps] for k in range(size)]
    means = [tap.mean() for tap in taps]
    lower = {
        (k, m): (taps[k] * taps[m]).mean() - means[k] * means[m]
        for k in range(size)
        for m in range(k + 1)
    }
    covariance = jnp.stack([lower[max(k, m), min(k, m)] for k in range(size) for m in range(size)])
    covariance = covariance.reshape(size, size)
    variance = jnp.sum(kernel * (covariance @ kernel), axis=0)
    return jnp.stack(means) @ kernel, jnp.maximum(variance, 0.0)


class BatchNorm(nn.Module):
    """PyTorch's batch norm over all axes but the last: unbiased running variance, eps 1e-5.

    Attributes:
      dtype: type of what comes out; the statistics are at least float32.
      scale_init: of ``scale``; zeros where a residual branch begins as nothing.
    """

    dtype: Any = jnp.float32
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, y: Float[Array, "... channels"], train: bool
    ) -> Float[Array, "... channels"]:
        """``y`` normalised; in training by its own moments, which move the running ones.

        Raises:
          UsageError: in training there is one number per channel, whose variance is none.
        """
        channels = y.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running = RunningStatistics.of(self, channels)
        wide = y.astype(at_least_float32(self.dtype))
        if train:
            count = wide.size // channels
            if count < 2:
                raise UsageError(
                    "batch norm cannot be trained with one image, whose variance over the batch is "
                    "none; give training.batch_size 2 or more."
                )
            mean, variance = moments(wide.reshape(1, count, channels))
            if not self.is_initializing():
                running.update(mean, variance, count)
        else:
            mean, variance = running.mean.value, running.var.value
        slope = scale * lax.rsqrt(variance + NORM_EPSILON)
        offset = bias - mean * slope
        shape = (1,) * (y.ndim - 1) + (channels,)
        wide = wide * slope.reshape(shape) + offset.reshape(shape)
        return wide.astype(self.dtype)
