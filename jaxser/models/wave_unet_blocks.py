"""What a Wave-U-Net is made of: a convolution with its norm, a decoder, and the conditions.

A condition scales and shifts the channels of both decoders (Perez et al., "FiLM", AAAI 2018).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxser.models.layers.group_norm import group_norm
from jaxser.models.layers.initialisers import BIAS, KERNEL
from jaxser.models.layers.precision import at_least_float32
from jaxser.models.layers.resampling_conv import (
    convolve,
    laid_out_kernel,
    strided_conv,
    transposed_conv,
    transposed_kernel,
    waveform_sums,
)
from jaxser.models.layers.winograd import is_faster, winograd_conv, winograd_kernel
from jaxser.models.wave_unet_geometry import Geometry
from jaxser.runtime.forms import on_cpu

__all__ = ["PREPARED", "Condition", "ConvNorm", "Decoder"]

# The collection of kernels as the convolutions take them; prepare() makes it.
PREPARED = "prepared"

# Numbers that describe a target class and an ε, and the ε described by the middle of their range.
_CONDITION_WIDTH = 64
_USUAL_EPSILON = 0.01


class ConvNorm(nn.Module):
    """Convolution, group norm, ReLU.

    Attributes:
      features: channels out.
      geometry: says how large and how padded the kernel is.
      resampling: the convolution keeps the rate, or divides ("down") or multiplies ("up") it by
        the stride.
      dtype: the convolution's type.
    """

    features: int
    geometry: Geometry
    resampling: Literal["keep", "down", "up"] = "keep"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch time channels"],
        condition: Float[Array, "batch width"] | None = None,
    ) -> Float[Array, "batch steps features"]:
        size, stride = self.geometry.kernel_size, self.geometry.stride
        per_feature = (self.features,)
        shape = (size, x.shape[-1], self.features)
        kernel = self.param("kernel", KERNEL, shape, self.param_dtype).astype(self.dtype)
        bias = self.param("bias", BIAS, per_feature, self.param_dtype).astype(self.dtype)
        scale = self.param("norm_scale", nn.initializers.ones, per_feature, self.param_dtype)[None]
        shift = self.param("norm_bias", nn.initializers.zeros, per_feature, self.param_dtype)[None]
        if condition is not None:
            # Zero at first: a new condition changes nothing.
            film = nn.Dense(
                2 * self.features,
                kernel_init=nn.initializers.zeros,
                param_dtype=self.param_dtype,
                name="film",
            )
            gain, move = jnp.split(film(condition), 2, axis=1)
            scale, shift = scale * (1 + gain), shift * (1 + gain) + move
        same = self.geometry.padding == "same"
        if self.resampling == "up":
            # Unpadded, without the ends that fewer steps reach.
            crop = self.geometry.strided_ends if same else (size - 1, size - 1)
            taps = self._prepared(functools.partial(transposed_kernel, stride=stride), kernel)
            y = transposed_conv(x, taps, size, stride, crop)
        elif self.resampling == "down":
            taps = self._prepared(laid_out_kernel, kernel)
            y = strided_conv(x, taps, stride, self.geometry.strided_ends)
        else:
            y = self._at_same_rate(x, kernel, (size // 2, size // 2) if same else (0, 0))
        return group_norm(y, bias, self.geometry.group_size, scale, shift)

    def _at_same_rate(self, x: Array, kernel: Array, padding: tuple[int, int]) -> Array:
        if is_faster(kernel):
            return winograd_conv(x, self._prepared(winograd_kernel, kernel), len(kernel), padding)
        # The sum is fused with what reads it, where cuDNN's convolution of one channel is a pass of
        # its own; on a CPU XLA's convolutions that keep the rate are fast.
        if x.shape[2] == 1 and not on_cpu():
            return waveform_sums(x, kernel, padding)
        return convolve(x, self._prepared(laid_out_kernel, kernel), padding)

    def _prepared(self, form: Callable[[Array], Any], kernel: Array) -> Any:
        """``form(kernel)``, which :func:`jaxser.models.wave_unet.prepare` may have made already."""
        if self.has_variable(PREPARED, "kernel"):
            return self.get_variable(PREPARED, "kernel")
        made = form(kernel)
        changed = made is not kernel
        if changed and self.is_mutable_collection(PREPARED) and not self.is_initializing():
            self.put_variable(PREPARED, "kernel", made)
        return made


class Decoder(nn.Module):
    """From the encoder's last output and its shortcuts to one number per sample."""

    geometry: Geometry
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch steps channels"],
        shortcuts: Sequence[Float[Array, "batch _ _"]],
        condition: Float[Array, "batch width"] | None,
    ) -> Float[Array, "batch time"]:
        layer = functools.partial(
            ConvNorm, geometry=self.geometry, dtype=self.dtype, param_dtype=self.param_dtype
        )
        widths = self.geometry.widths
        x = layer(widths[-1], name="bottleneck")(x, condition)
        for level in reversed(range(len(widths) - 1)):
            x = layer(widths[level + 1], resampling="up", name=f"up{level}")(x, condition)
            x = layer(widths[level], name=f"before{level}")(x, condition)
            beyond = (shortcuts[level].shape[1] - x.shape[1]) // 2
            shortcut = shortcuts[level][:, beyond : beyond + x.shape[1]]
            x = jnp.concatenate([shortcut, x], axis=2)
            x = layer(widths[level], name=f"after{level}")(x, condition)
        kernel = self.param("kernel", KERNEL, (widths[0], 1), self.param_dtype)
        bias = self.param("bias", BIAS, (1,), self.param_dtype)
        x = x.astype(at_least_float32(self.dtype))
        # A sum is computed where ``x`` is, which then never is in memory; a CPU takes longer so.
        y = (x @ kernel)[..., 0] if on_cpu() else (x * kernel[None, None, :, 0]).sum(axis=2)
        return y + bias[None]


class Condition(nn.Module):
    """The class to reach and ε as numbers for the decoders."""

    num_classes: int | None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, target: Int[Array, " batch"] | None, epsilon: Float[Array, " batch"] | None
    ) -> Float[Array, "batch width"]:
        dense = functools.partial(nn.Dense, _CONDITION_WIDTH, param_dtype=self.param_dtype)
        described = []
        if self.num_classes is not None:
            embed = nn.Embed(
                self.num_classes,
                _CONDITION_WIDTH,
                embedding_init=nn.initializers.normal(1.0),
                param_dtype=self.param_dtype,
                name="target",
            )
            described.append(embed(target))
        if epsilon is not None:
            log = jnp.log(epsilon / _USUAL_EPSILON)[:, None]
            described.append(dense(name="epsilon1")(nn.silu(dense(name="epsilon0")(log))))
        return nn.silu(functools.reduce(jnp.add, described))
