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

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from jaxser.models.layers import NORM_EPSILON, check_waveforms, on_cpu
from jaxser.models.winograd import is_faster, winograd_conv, winograd_kernel
from jaxser.runtime.errors import InputError, UsageError

__all__ = [
    "PREPARED",
    "WaveUNet",
    "example_inputs",
    "group_norm",
    "prepare",
    "strided_conv",
    "transposed_conv",
    "transposed_kernel",
]

# The collection of what :func:`prepare` makes.
PREPARED = "prepared"

_KERNEL = nn.initializers.lecun_normal()
_ZEROS = nn.initializers.zeros

# Numbers that describe a target class and an ε, and the ε described by the middle of their range.
_CONDITION_WIDTH = 64
_USUAL_EPSILON = 0.01


# --- convolutions --------------------------------------------------------------------------
#
# What is below was chosen by timing all levels of the published generator, 6 s of speech.
#
# On an AMD EPYC (batch 1, jax 0.10.2) XLA's stride-1 convolutions reach 90 GFLOP/s, in gradients as
# well; Winograd's take half the time from 128 channels on and more time below 64. But the kernel's
# gradient took 135 ms instead of 42 for the first strided convolution, and 1.2 to 2.6 s instead of
# 20 ms for each transposed one, the first of which takes 48 ms forward as well, and 25 as products.
#
# On an NVIDIA H100 (batch 32, bfloat16, jax 0.11.2) all but the deepest levels take as long as
# their memory takes to be read and written. Two things did not. cuDNN's convolution of the
# waveform, which has one channel, took 0.38 ms; as a sum it is computed where it is read. And
# cuDNN's gradients by the kernels of the last transposed convolutions took 362 of a training step's
# 426 ms; a plain convolution that gives a whole stride of samples at a time has none of that kind.


def laid_out_kernel(kernel: Float[Array, "size inputs outputs"]) -> Array:
    """What :func:`strided_conv` takes; outputs first, as cuDNN wants them, but on a CPU."""
    return kernel if on_cpu() else kernel.transpose(2, 0, 1)


def _convolve(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "_ _ _"],
    padding: tuple[int, int] = (0, 0),
    stride: int = 1,
) -> Float[Array, "batch steps outputs"]:
    """Of every ``stride``-th place; ``kernel`` is from :func:`laid_out_kernel`."""
    order = "WIO" if on_cpu() else "OWI"
    return lax.conv_general_dilated(
        x, kernel, (stride,), [padding], dimension_numbers=("NWC", order, "NWC")
    )


def _waveform_sums(
    x: Float[Array, "batch time 1"],
    kernel: Float[Array, "size 1 outputs"],
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    """A convolution of one channel, which accelerators fuse into what reads it."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    samples = jnp.pad(x[..., 0].astype(wide), ((0, 0), padding))[..., None]
    steps = samples.shape[1] - len(kernel) + 1
    taps = enumerate(kernel.astype(wide))
    terms = [samples[:, tap : tap + steps] * row[None] for tap, row in taps]
    return functools.reduce(jnp.add, terms).astype(x.dtype)


def _strided(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs outputs"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    return _convolve(x, kernel, padding, stride)


def _strided_products(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs outputs"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch steps outputs"]:
    """The same as one product for every ``stride`` taps and one for each tap that is left."""
    size, inputs, outputs = kernel.shape
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    steps = (x.shape[1] - size) // stride + 1
    blocks = size // stride * stride
    terms = [
        x[:, start : start + steps * stride].reshape(-1, steps, stride * inputs)
        @ kernel[start : start + stride].reshape(stride * inputs, outputs)
        for start in range(0, blocks, stride)
    ]
    last = (steps - 1) * stride + 1
    terms += [x[:, tap : tap + last : stride] @ kernel[tap] for tap in range(blocks, size)]
    return functools.reduce(jnp.add, terms)


def _tangent(
    by_input: Any, by_kernel: Any, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> Array:
    """Of a convolution, by forms of it whose transposes are cheap.

    Only what is differentiated is computed: attacks move x, training moves the kernel.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    if isinstance(dkernel, SymbolicZero):
        return by_input(jnp.zeros_like(x) if isinstance(dx, SymbolicZero) else dx, kernel)
    of_kernel = by_kernel(x, dkernel)
    return of_kernel if isinstance(dx, SymbolicZero) else by_input(dx, kernel) + of_kernel


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def strided_conv(
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "size inputs outputs"],
    stride: int,
    padding: tuple[int, int] = (0, 0),
) -> Float[Array, "batch steps outputs"]:
    """A convolution of every ``stride``-th place, after zeros at both ends (``padding``).

    On a CPU its gradients are matrix products. ``size`` must be ``stride`` at least, and ``kernel``
    is from :func:`laid_out_kernel`.
    """
    return _strided(x, kernel, stride, padding)


def _strided_jvp(stride: int, padding: tuple[int, int], primals: Any, tangents: Any) -> Any:
    form = _strided_products if on_cpu() else _strided
    form = functools.partial(form, stride=stride, padding=padding)
    return strided_conv(*primals, stride, padding), _tangent(form, form, primals, tangents)


strided_conv.defjvp(_strided_jvp, symbolic_zeros=True)


def transposed_kernel(kernel: Float[Array, "size inputs outputs"], stride: int) -> Any:
    """What :func:`transposed_conv` takes: ``stride`` taps side by side at a time.

    On a CPU one matrix for each time, else a kernel for :func:`_convolve`.
    """
    if on_cpu():
        blocks = [kernel[start : start + stride] for start in range(0, len(kernel), stride)]
        return [block.transpose(1, 0, 2).reshape(kernel.shape[1], -1) for block in blocks]
    size, inputs, outputs = kernel.shape
    times = -(-size // stride)
    kernel = jnp.pad(kernel, ((0, times * stride - size), (0, 0), (0, 0)))
    kernel = kernel.reshape(times, stride, inputs, outputs)[::-1]
    return kernel.transpose(1, 3, 0, 2).reshape(stride * outputs, times, inputs)


def transposed_conv(
    x: Float[Array, "batch steps inputs"],
    kernel: Any,
    size: int,
    stride: int,
    crop: tuple[int, int] = (0, 0),
) -> Float[Array, "batch time outputs"]:
    """Every step laid down as ``size`` samples, ``stride`` apart, and what overlaps added.

    ``(steps - 1) * stride + size`` samples, less ``crop`` at both ends.

    Args:
      x: channels last.
      kernel: from :func:`transposed_kernel`.
      size: its taps.
      stride: samples from one step to the next.
      crop: samples to leave out before and after.
    """
    batch, steps, _ = x.shape
    time = (steps - 1) * stride + size - sum(crop)
    # Rows of ``stride`` samples, without those that are cropped off as a whole.
    first, last = crop[0] // stride, -(-(crop[0] + time) // stride)
    if isinstance(kernel, list):
        rows = _rows_by_products(x, kernel, stride, first, last)
    else:
        rows = _convolve(x, kernel, (kernel.shape[1] - 1 - first, last - steps))
    skipped = crop[0] - first * stride
    return rows.reshape(batch, (last - first) * stride, -1)[:, skipped : skipped + time]


def _rows_by_products(
    x: Float[Array, "batch steps inputs"],
    taps: Sequence[Float[Array, "inputs _"]],
    stride: int,
    first: int,
    last: int,
) -> Float[Array, "batch rows stride outputs"]:
    """One product for every ``stride`` taps, each added a step later than the last."""
    batch, steps, inputs = x.shape
    outputs = taps[0].shape[1] // stride
    terms = []
    for block, of_block in enumerate(taps):
        begin, end = first - block, last - block
        read = x[:, max(begin, 0) : min(end, steps)]
        read = jnp.pad(read, ((0, 0), (max(-begin, 0), max(end - steps, 0)), (0, 0)))
        products = (read.reshape(-1, inputs) @ of_block).reshape(batch, last - first, -1, outputs)
        terms.append(products if products.shape[2] == stride else _laid_out(products, stride))
    return functools.reduce(jnp.add, terms)


def _laid_out(
    products: Float[Array, "batch rows taps outputs"], stride: int
) -> Float[Array, "batch rows stride outputs"]:
    """Zeros where there is no tap; a choice, which XLA's CPU backend does faster than padding."""
    place = jnp.arange(stride)[None, None, :, None]
    taps = range(products.shape[2])
    terms = [jnp.where(place == tap, products[:, :, tap : tap + 1], 0) for tap in taps]
    return functools.reduce(jnp.add, terms)


# --- normalisation -------------------------------------------------------------------------


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
    y = y.astype(jnp.promote_types(dtype, jnp.float32))
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


# --- modules -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a Wave-U-Net is laid out; see :class:`WaveUNet` for the fields."""

    widths: tuple[int, ...]
    kernel_size: int
    stride: int
    group_size: int
    padding: Literal["valid", "same"]

    def __post_init__(self) -> None:
        faults = []
        if len(self.widths) < 2:
            faults.append("widths are fewer than two levels")
        if self.group_size < 1:
            faults.append(f"group_size {self.group_size} is less than 1")
        elif any(width < 1 or width % self.group_size for width in self.widths):
            faults.append(f"widths {self.widths} are not multiples of group_size {self.group_size}")
        if self.kernel_size % 2 == 0:
            faults.append(f"kernel_size {self.kernel_size} is even and would shift the shortcuts")
        if not 2 <= self.stride <= self.kernel_size:
            faults.append(f"stride {self.stride} is not between 2 and kernel_size")
        if self.padding not in ("valid", "same"):
            faults.append(f"padding is {self.padding!r}, not valid or same")
        if faults:
            raise UsageError(f"such a waveunet cannot be built: {'; '.join(faults)}.")

    @property
    def strided_ends(self) -> tuple[int, int]:
        """Zeros around the input of a strided convolution; cropped off a transposed one."""
        if self.padding == "valid":
            return 0, 0
        beyond = self.kernel_size - self.stride
        return beyond // 2, beyond - beyond // 2

    def samples(self, num_samples: int) -> tuple[int, int]:
        """The samples that go in and come out, for ``num_samples`` that are wanted at least."""
        levels = len(self.widths) - 1
        if self.padding == "same":
            whole = self.stride**levels
            length = -(-num_samples // whole) * whole
            return length, length
        lost = self.kernel_size - 1
        # The fewest steps at the bottleneck that are enough.
        for bottleneck in itertools.count(1):
            length = bottleneck
            for _ in range(levels):
                length = (length - 1) * self.stride + 1 - 3 * lost
            if length >= num_samples:
                break
        needed = bottleneck + lost
        for _ in range(levels):
            needed = (needed - 1) * self.stride + 1 + 3 * lost
        return needed, length


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
        kernel = self.param("kernel", _KERNEL, shape, self.param_dtype).astype(self.dtype)
        bias = self.param("bias", _ZEROS, per_feature, self.param_dtype).astype(self.dtype)
        scale = self.param("norm_scale", nn.initializers.ones, per_feature, self.param_dtype)[None]
        shift = self.param("norm_bias", _ZEROS, per_feature, self.param_dtype)[None]
        if condition is not None:
            film = nn.Dense(
                2 * self.features, kernel_init=_ZEROS, param_dtype=self.param_dtype, name="film"
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
        if x.shape[2] == 1 and not on_cpu():
            return _waveform_sums(x, kernel, padding)
        return _convolve(x, self._prepared(laid_out_kernel, kernel), padding)

    def _prepared(self, form: Callable[[Array], Any], kernel: Array) -> Any:
        """``form(kernel)``, which :func:`prepare` may have made already."""
        if self.has_variable(PREPARED, "kernel"):
            return self.get_variable(PREPARED, "kernel")
        made = form(kernel)
        changed = made is not kernel
        if changed and self.is_mutable_collection(PREPARED) and not self.is_initializing():
            self.put_variable(PREPARED, "kernel", made)
        return made


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
        kernel = self.param("kernel", _KERNEL, (widths[0], 1), self.param_dtype)
        bias = self.param("bias", _ZEROS, (1,), self.param_dtype)
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
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

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch time"],
        target: Int[Array, " batch"] | None = None,
        epsilon: Float[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch time"], Float[Array, "batch time"]]:
        """Locations and magnitudes for waveforms ``x``, before tanh, in float32.

        Args:
          x: waveforms of ``num_samples``.
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
        inputs, outputs = geometry.samples(self.num_samples)
        before = (inputs - outputs) // 2
        after = inputs - before - self.num_samples
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
