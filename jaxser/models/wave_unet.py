"""A Wave-U-Net with one encoder and two decoders: where to change a waveform, and by how much.

    model = jaxser.models.build("waveunet", num_samples=96_000)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 96_000)))
    locations, magnitudes = model.apply(variables, x)      # x [batch, 96_000] -> twice that shape

The generator of Chang et al., "STAA-Net: A Sparse and Transferable Adversarial Attack for Speech
Emotion Recognition", 2024, section 3.2.2, with learned resampling as in the Wave-U-Net (Stoller et
al., ISMIR 2018) that its public weights belong to. Both outputs are those of the last 1x1
convolutions; squashing, quantising and scaling them by ε is left to the attack.

The generator can also be told whom to fool and how loudly: the class to reach and ε then scale and
shift the channels of both decoders (Perez et al., "FiLM", AAAI 2018).
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from jaxser.models.layers.waveform import check_waveforms
from jaxser.models.wave_unet_blocks import PREPARED, Condition, ConvNorm, Decoder
from jaxser.models.wave_unet_geometry import Geometry
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.forms import on_cpu

__all__ = ["WaveUNet", "example_inputs", "prepare"]


class WaveUNet(nn.Module):
    """STAA-Net's generator; 50,681,858 parameters as published.

    Attributes:
      num_samples: length of the waveforms, in samples.
      widths: channels of the levels, the last is the bottleneck.
      kernel_size: of all convolutions; odd.
      stride: by which one level is slower than the last.
      group_size: channels that are normalised together.
      padding: "valid", as published: no convolution is padded, the waveform is reflected at both
        ends instead and shortcuts are cropped to their centre; or "same": zeros around every
        convolution, and the waveform is reflected at its end up to whole strides.
      num_classes: classes that ``target`` may name; None for a generator without it.
      condition_epsilon: whether the generator is told ε.
      dtype: type of the convolutions; bfloat16 is allowed. Statistics and outputs are float32.
      param_dtype: type of the parameters.

    Raises:
      UsageError: the fields contradict each other.
    """

    num_samples: int
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    kernel_size: int = 5
    stride: int = 4
    group_size: int = 8
    padding: Literal["valid", "same"] = "valid"
    num_classes: int | None = None
    condition_epsilon: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        self.widths = tuple(self.widths)
        if self.num_samples < 1:
            raise UsageError(f"a waveunet for {self.num_samples} samples is none; give 1 or more.")
        if self.num_classes is not None and self.num_classes < 1:
            raise UsageError(f"a waveunet for {self.num_classes} classes is none; give 1 or more.")
        self._geometry()
        super().__post_init__()

    def _geometry(self) -> Geometry:
        return Geometry(self.widths, self.kernel_size, self.stride, self.group_size, self.padding)

    @property
    def input_samples(self) -> int:
        """Length of what the first convolution sees: the waveform and its reflections."""
        return self._geometry().samples(self.num_samples)[0]

    @property
    def output_samples(self) -> int:
        """Length of what the last convolutions give, of which ``num_samples`` are kept."""
        return self._geometry().samples(self.num_samples)[1]

    @property
    def reflected_before(self) -> int:
        """Samples of what the first convolution sees that come before the waveform's first."""
        return (self.input_samples - self.output_samples) // 2

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        target: Int[Array, " batch"] | None = None,
        epsilon: Float[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch time"], Float[Array, "batch time"]]:
        """Locations and magnitudes for waveforms ``x``, before tanh, in float32.

        Args:
          x: waveforms ``[batch, num_samples]``.
          target: class to reach, if and only if the generator has ``num_classes``.
          epsilon: largest perturbation, above 0, if and only if it has ``condition_epsilon``.

        Raises:
          InputError: ``x`` has another shape, or a condition is missing or not known here.
        """
        geometry = self._geometry()
        self._check(x, target, epsilon)
        layer = functools.partial(
            ConvNorm, geometry=geometry, dtype=self.dtype, param_dtype=self.param_dtype
        )
        before = self.reflected_before
        after = self.input_samples - before - self.num_samples
        y = jnp.pad(x, ((0, 0), (before, after)), mode="reflect")[..., None].astype(self.dtype)
        shortcuts = []
        for level, width in enumerate(self.widths[:-1]):
            shortcuts.append(layer(width, name=f"before{level}")(y))
            wider = self.widths[level + 1]
            y = layer(wider, name=f"after{level}")(shortcuts[-1])
            y = layer(wider, resampling="down", name=f"down{level}")(y)
        condition = None
        if target is not None or epsilon is not None:
            condition = Condition(self.num_classes, self.param_dtype)(target, epsilon)
        decoder = functools.partial(Decoder, geometry, self.dtype, self.param_dtype)
        locations = decoder(name="locations")(y, shortcuts, condition)
        magnitudes = decoder(name="magnitudes")(_after(y, locations), shortcuts, condition)
        return locations[:, : self.num_samples], magnitudes[:, : self.num_samples]

    def _check(self, x: Any, target: Any, epsilon: Any) -> None:
        check_waveforms("waveunet", x, 1)
        if x.shape[1] != self.num_samples:
            raise InputError(
                f"this generator makes perturbations of {self.num_samples} samples, but got "
                f"waveforms of {x.shape[1]}; cut or pad them, or build one with num_samples "
                f"{x.shape[1]}."
            )
        for name, given, wanted in (
            ("target class", target is not None, self.num_classes is not None),
            ("ε", epsilon is not None, self.condition_epsilon),
        ):
            if given != wanted:
                raise InputError(
                    f"this generator is {'' if wanted else 'not '}conditioned on the {name}; "
                    f"{'give it' if wanted else 'call it without'}."
                )


def _after(
    y: Float[Array, "batch steps channels"], other: Float[Array, "batch time"]
) -> Float[Array, "batch steps channels"]:
    """``y``, once ``other`` is there.

    XLA's CPU backend runs both decoders at once, and each throws the other's arrays out of the
    cache; it drops barriers, but cannot know that this adds zero.
    """
    if not on_cpu():
        return y
    zero = jnp.minimum(jnp.abs(lax.stop_gradient(other[:, 0])), 0.0)
    return y + zero.astype(y.dtype)[:, None, None]


def example_inputs(module: "WaveUNet") -> tuple[Array, Array | None, Array | None]:
    """A silent waveform, with the conditions that the generator wants."""
    x = jnp.zeros((1, module.num_samples), jnp.float32)
    target = None if module.num_classes is None else jnp.zeros(1, jnp.int32)
    return x, target, jnp.ones(1) if module.condition_epsilon else None


def prepare(module: "WaveUNet", variables: Mapping[str, Any]) -> dict[str, Any]:
    """``variables`` with what depends on the parameters alone made once instead of in every call.

    Kernels are in the convolutions' type, and laid out for the device too, for twice the memory: on
    a CPU this is a fifth of a pass over 6 s of speech at the published size. Gradients by the
    parameters are not those of the generator afterwards.

    Args:
      module: the generator.
      variables: its parameters, as ``module.init`` or a training run leaves them.
    """
    inputs = example_inputs(module)

    def of_parameters(params: Any) -> Any:
        return module.apply({"params": params}, *inputs, mutable=PREPARED)[1]

    def in_type(leaf: Array) -> Array:  # no array but a convolution's kernel has three dimensions
        return leaf.astype(module.dtype) if leaf.ndim == 3 else leaf

    params = jax.tree.map(in_type, variables["params"])
    return {"params": params, **jax.jit(of_parameters)(params)}
