"""A victim that reads images of spectrograms, with the way from speech to the image inside.

    model = WithImage(SpectrogramImage(image_spectrogram("mel")), network=network)
    model.apply(variables, waveforms, train=False)              # [batch, samples]: all of it
    levels = model.apply(variables, waveforms, method="spectrogram")
    model.apply(variables, levels, train=False)                 # [batch, 224, 224, 1]: colours on
    images = model.apply(variables, levels, method="image")
    model.apply(variables, images, train=False)                 # [batch, 224, 224, 3]: the network

The three are the domains of an attacker: one who plays speech, one who draws spectrograms, and that
of Echim et al., who changes colours. Each is in [0, 1] but the waveform.

Source: Echim et al., section 3.2. The range is the mean of the windows' least and of their largest
dB over the training part.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.images import SpectrogramImage

__all__ = ["WithImage", "fit_range"]


class WithImage(nn.Module):
    """``network`` behind the image of a spectrogram.

    The range of dB is two variables of the collection ``batch_stats`` that no training step
    changes; :func:`fit_range` finds them. A fixed range needs no variables.

    Attributes:
      front_end: from waveforms to images, all but the range.
      network: reads ``[batch, size, size, 3]`` in [0, 1].
      fixed_range: dB of the first and the last colour; None to fit them.
    """

    front_end: SpectrogramImage
    network: nn.Module
    fixed_range: tuple[float, float] | None = None

    def setup(self) -> None:
        if self.fixed_range is not None:
            lowest, highest = self.fixed_range
            if not -np.inf < lowest < highest < np.inf:
                raise UsageError(
                    f"a range from {lowest:g} to {highest:g} dB has no colours; give two numbers, "
                    "the lower one first."
                )
            return
        self.lowest = self.variable("batch_stats", "lowest", jnp.zeros, (), jnp.float32)
        self.highest = self.variable("batch_stats", "highest", jnp.ones, (), jnp.float32)

    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch classes"]:
        """Logits of waveforms, of spectrograms in [0, 1] or of images in [0, 1].

        Args:
          x: ``[batch, samples]``, ``[batch, size, size, 1]`` or ``[batch, size, size, 3]``.
          train: passed to the network.

        Raises:
          InputError: any other shape.
        """
        if x.shape[1:] != self._shape(3):
            x = self.image(x)
        return self.network(x, train=train)

    def embed(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch features"]:
        """What the last linear layer of the network reads, of what :meth:`__call__` takes."""
        if x.shape[1:] != self._shape(3):
            x = self.image(x)
        return self.network.embed(x, train=train)

    def spectrogram(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch size size 1"]:
        """Levels in [0, 1] of waveforms, the lowest band in the last row."""
        self._check(x.shape, waveforms=True)
        return self.front_end.levels(x, *self._range())

    def unclipped(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch size size 1"]:
        """The same before they are clipped to [0, 1]."""
        self._check(x.shape, waveforms=True)
        return self.front_end.unclipped(x, *self._range())

    def image(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch size size 3"]:
        """Colours of waveforms or of levels."""
        self._check(x.shape)
        return self.front_end.colours(self.spectrogram(x) if x.ndim == 2 else x)

    def decibels(self, levels: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
        """What levels stand for, in dB."""
        lowest, highest = self._range()
        return lowest + levels * (highest - lowest)

    def _range(self) -> tuple[Float[Array, ""] | float, Float[Array, ""] | float]:
        if self.fixed_range is not None:
            return self.fixed_range
        return self.lowest.value, self.highest.value

    def _shape(self, channels: int) -> tuple[int, ...]:
        return (self.front_end.size, self.front_end.size, channels)

    def _check(self, shape: tuple[int, ...], waveforms: bool = False) -> None:
        samples = self.front_end.samples
        if shape[1:] == (samples,) or (not waveforms and shape[1:] == self._shape(1)):
            return
        size = self.front_end.size
        raise InputError(
            f"this victim reads {samples} samples, or {size} x {size} x 1 levels or "
            f"{size} x {size} x 3 colours, but was given {' x '.join(map(str, shape[1:]))}; give "
            "speech of its own length."
        )


def fit_range(
    model: WithImage, batches: Iterable[Float[np.ndarray, "_ samples"]]
) -> dict[str, Float[np.ndarray, ""]]:
    """The range of ``model`` over waveforms, in float64: the "batch_stats" that it adds.

    Args:
      model: whose spectrograms are taken; with a fixed range there is nothing to find.
      batches: waveforms; gone through once.

    Raises:
      InputError: there are no waveforms, the dB of one are no numbers, or all are constant.
    """
    if model.fixed_range is not None:
        return {}

    @jax.jit
    def extremes(x: Array) -> Array:
        decibels = model.front_end.decibels(x)
        return jnp.stack([decibels.min(axis=(1, 2)), decibels.max(axis=(1, 2))])

    count, unknown, total = 0, 0, np.zeros(2)
    for x in batches:
        found = np.asarray(extremes(x), np.float64)
        count += found.shape[1]
        unknown += int((~np.isfinite(found).all(axis=0)).sum())
        total += found.sum(axis=1)
    if count == 0:
        raise InputError("there is no speech to find the range of dB in; give a training part.")
    if unknown:
        raise InputError(
            f"the spectrograms of {unknown} of {count} windows of the training part are not "
            "finite; check their samples."
        )
    lowest, highest = (total / count).astype(np.float32)
    if not lowest < highest:
        raise InputError(
            f"all {count} windows of the training part are silent or the same throughout, "
            f"{lowest:g} dB, so there is no range of dB to colour; give speech, or a range by "
            "--features.decibels."
        )
    return {"lowest": np.asarray(lowest), "highest": np.asarray(highest)}
