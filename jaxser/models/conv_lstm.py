"""What Emo18 and Zhao19 have in common: convolution blocks on the waveform, then two LSTM layers.

    y = normalise_utterance(x)[..., None]                      # [batch, time, 1]
    y = ConvBlock(64, kernel_size=8, padding=3, pool=10, activation=nn.elu)(y, train=False)
    y = LSTM(256)(y)                                           # [batch, steps, 256]

The semantics are those of the usual convolution, batch norm, activation and max-pool in PyTorch.
The order of the work is not: see :class:`ConvBlock`. Computed in ``dtype``; statistics, affine
maps and the LSTM's cell in float32 at least.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxser.models.layers.batch_norm import (
    NORM_EPSILON,
    RunningStatistics,
    conv_moments,
    moments,
)
from jaxser.models.layers.conv_max_pool import conv_max_pool, window_max
from jaxser.models.layers.dense import Dense
from jaxser.models.layers.initialisers import BIAS, KERNEL
from jaxser.models.layers.lstm import LSTM, stacked
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.waveform import check_waveforms, normalise_utterance

__all__ = ["ConvBlock", "ConvLSTM"]


class ConvBlock(nn.Module):
    """Convolution, batch norm, increasing activation, max-pool (stride = window).

    Pooling comes first here: activation and affine map are monotone, so they commute with the
    maximum (a negative scale turns it into a minimum, hence the kernel takes the scale's sign)
    and run on ``1 / pool`` of the samples. Batch statistics still see every sample.

    Attributes:
      features: channels out.
      kernel_size, padding: of the convolution, in samples.
      pool: window and stride of the max-pool.
      activation: any non-decreasing function.
      dtype: the convolution's type.
    """

    features: int
    kernel_size: int
    padding: int
    pool: int
    activation: Callable[[Array], Array]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time channels"], train: bool
    ) -> Float[Array, "batch windows features"]:
        wide = at_least_float32(self.dtype)
        channels = x.shape[-1]
        per_feature = (self.features,)
        kernel = self.param(
            "kernel", KERNEL, (self.kernel_size, channels, self.features), self.param_dtype
        )
        bias = self.param("bias", BIAS, per_feature, self.param_dtype)
        scale = self.param("norm_scale", nn.initializers.ones, per_feature, self.param_dtype)
        shift = self.param("norm_bias", nn.initializers.zeros, per_feature, self.param_dtype)
        running = RunningStatistics.of(self, self.features)

        sign = jnp.where(scale < 0, -1, 1).astype(wide)
        kernel = kernel.astype(wide) * sign[None, None]
        if channels == 1:
            wave = x[..., 0].astype(wide)
            pooled = conv_max_pool(wave, kernel[:, 0], self.padding, self.pool)
        else:
            y = lax.conv_general_dilated(
                x.astype(self.dtype),
                kernel.astype(self.dtype),
                window_strides=(1,),
                padding=[(self.padding, self.padding)],
                dimension_numbers=("NWC", "WIO", "NWC"),
            ).astype(wide)
            pooled = window_max(y, self.pool)

        # Up to here without bias, and with the scale's sign.
        if train:
            if channels == 1:
                mean, variance = conv_moments(wave, kernel[:, 0], self.padding)
            else:
                mean, variance = moments(y)
            if not self.is_initializing():
                steps = x.shape[1] + 2 * self.padding - self.kernel_size + 1
                count = x.shape[0] * steps
                running.update(mean * sign + bias, variance, count)
        else:
            mean, variance = (running.mean.value - bias) * sign, running.var.value
        # Not |scale|, whose derivative at 0 would be 0 for good.
        slope = sign * scale * lax.rsqrt(variance + NORM_EPSILON)
        y = pooled * slope[None, None] + (shift - mean * slope)[None, None]
        return self.activation(y).astype(self.dtype)


class ConvLSTM(nn.Module):
    """Normalised waveform → convolution blocks → two LSTM layers → linear → mean over time.

    Subclasses set ``blocks``: ``(features, kernel_size, padding, pool)`` of each block, and
    ``activation``.

    Attributes:
      num_classes: length of a row of logits.
      dtype: type of convolutions and matrix products; bfloat16 is allowed.
      param_dtype: type of the parameters.
    """

    num_classes: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    blocks: ClassVar[tuple[tuple[int, int, int, int], ...]]
    hidden: ClassVar[int] = 256

    @staticmethod
    def activation(y: Array) -> Array:
        """The blocks' activation; must not decrease."""
        raise NotImplementedError

    @classmethod
    def shortest_input(cls) -> int:
        """Fewest samples that leave one step after the last pooling."""
        samples = 1
        for _, kernel_size, padding, pool in reversed(cls.blocks):
            samples = samples * pool + kernel_size - 1 - 2 * padding
        return samples

    def __call__(
        self, x: Float[Array, "batch ..."], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of waveforms ``x``.

        Args:
          x: waveforms ``[batch, time]``.
          train: normalise by the batch's statistics and update the running ones (the caller
            makes the collection ``batch_stats`` mutable).

        Raises:
          InputError: ``x`` is not a batch of waveforms or is too short for the poolings.
        """
        return self._layers(x, train)[1]

    def embed(
        self, x: Float[Array, "batch ..."], train: bool = False
    ) -> Float[Array, "batch hidden"]:
        """What the last linear layer reads: the mean of the last LSTM's states over time."""
        return self._layers(x, train)[0]

    @nn.compact
    def _layers(
        self, x: Float[Array, "batch ..."], train: bool
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch classes"]]:
        check_waveforms(type(self).__name__, x, self.shortest_input())
        wide = at_least_float32(self.dtype)
        y = normalise_utterance(x.astype(wide))[..., None]
        for index, (features, kernel_size, padding, pool) in enumerate(self.blocks):
            y = ConvBlock(
                features,
                kernel_size,
                padding,
                pool,
                self.activation,
                self.dtype,
                self.param_dtype,
                name=f"block{index}",
            )(y, train)
        lower, upper = (
            LSTM(self.hidden, self.dtype, self.param_dtype, name=f"lstm{index}")
            for index in range(2)
        )
        y = stacked(lower, upper, y)
        # The mean of linear outputs is the linear output of the mean.
        hidden = y.astype(wide).mean(axis=1)
        return hidden, Dense(self.num_classes, self.param_dtype, name="head")(hidden)
