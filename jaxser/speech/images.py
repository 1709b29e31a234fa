"""Spectrograms as colour images, differentiable from the waveform to the last pixel.

    image = SpectrogramImage(image_spectrogram("mel"))
    images = image(waveforms, lowest=-52.0, highest=27.0)    # [rows, 16000] -> [rows, 224, 224, 3]

A waveform of a second becomes a spectrogram in dB of 229 frames and 224 bands, that a level from 0
(``lowest`` dB) to 1 (``highest`` dB), resized to 224 x 224 and clipped, and that a colour. In an
image time runs along the columns, and the rows are frequencies, the lowest at the bottom, as people
draw it: ``images[:, -1, 0]`` is the start of the lowest band.

Source: Echim et al., section 3.2 and figure 1. They give the hop (70 samples), the window (256),
both sizes and librosa; the rest of :func:`image_spectrogram` is what makes 224 bands of that.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.speech.colours import COLOUR_MAPS, ColourMap, jet
from jaxser.speech.features import Spectrogram
from jaxser.speech.resizing import resize_matrix

__all__ = [
    "IMAGE_KINDS",
    "ImageKind",
    "SpectrogramImage",
    "clipped_share",
    "image_spectrogram",
]

ImageKind = Literal["linear", "mel", "cqt", "mfcc"]

# An FFT of 446 has 224 frequencies. One of 2048, librosa's default, is the first power of 2 that
# leaves none of 224 mel bands without a frequency, and the window in it is still the paper's.
# 32 bins per octave are the fewest whole number for which 224 from C1 stay below 8 kHz.
_DEFAULTS: dict[ImageKind, dict[str, Any]] = {
    "linear": {"n_fft": 446, "win_length": 256, "db": True},
    "mel": {"n_fft": 2048, "win_length": 256, "n_mels": 224, "db": True},
    "mfcc": {"n_fft": 2048, "win_length": 256, "n_mels": 224, "n_mfcc": 224},
    "cqt": {"fmin": 32.70319566257483, "n_bins": 224, "bins_per_octave": 32},
}
IMAGE_KINDS: tuple[ImageKind, ...] = tuple(_DEFAULTS)


def image_spectrogram(kind: ImageKind, **changes: Any) -> Spectrogram:
    """The paper's spectrogram in dB of 224 bands every 70 samples, at 16 kHz.

    Its dB are absolute, within 80 of the loudest: relative to the loudest they would reach from -80
    to 0 in every window, and there would be nothing to normalise.

    Args:
      kind: one of ``IMAGE_KINDS``.
      **changes: other fields of :class:`~jaxser.speech.features.Spectrogram`.

    Raises:
      UsageError: an unknown kind, or fields that make no spectrogram.

    Examples:
      >>> from jaxser.speech.images import image_spectrogram
      >>> spectrogram = image_spectrogram("mel")
      >>> spectrogram.frames(16_000), spectrogram.n_mels
      (229, 224)
    """
    if kind not in _DEFAULTS:
        raise UsageError(
            f"there is no image of kind {kind!r}; {nearest_name(str(kind), _DEFAULTS)}"
        )
    return Spectrogram(**{"kind": kind, "hop_length": 70, **_DEFAULTS[kind], **changes})


@dataclasses.dataclass(frozen=True)
class SpectrogramImage:
    """A front end ``[batch, samples] -> [batch, size, size, 3]`` in [0, 1].

    Attributes:
      spectrogram: in dB.
      samples: of a waveform.
      size: rows and columns of the image.
      colour_map: "table" for matplotlib's 256 colours, "continuous" for what they are taken from.

    Raises:
      UsageError: a field is impossible, or does not go with another one.
      InputError: the waveforms are shorter than a frame.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.images import SpectrogramImage, image_spectrogram
      >>> front_end = SpectrogramImage(image_spectrogram("linear"), samples=800, size=32)
      >>> tone = jnp.sin(2 * jnp.pi * 1_000 * jnp.arange(800) / 16_000)[None]
      >>> image = front_end(tone, lowest=-40.0, highest=20.0)
      >>> image.shape, bool((image >= 0).all() and (image <= 1).all())
      ((1, 32, 32, 3), True)
    """

    spectrogram: Spectrogram
    samples: int = 16_000
    size: int = 224
    colour_map: ColourMap = "table"

    def __post_init__(self) -> None:
        of = self.spectrogram
        for name in ("samples", "size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.colour_map not in COLOUR_MAPS:
            raise UsageError(
                f"colour_map must be one of {', '.join(COLOUR_MAPS)}, not {self.colour_map!r}."
            )
        if of.kind in ("linear", "mel") and not of.db:
            raise UsageError(f"an image shows decibels; give the {of.kind} spectrogram db=True.")
        if of.kind != "cqt":
            window = of.win_length or of.n_fft
            if of.hop_length > window:
                raise UsageError(
                    f"a hop of {of.hop_length} samples is longer than the window of {window}, so "
                    "what lies between would not be seen; give a smaller hop_length."
                )
        empty = of.empty_bands()
        if empty:
            raise UsageError(
                f"{empty} of {of.n_mels} mel bands hold no frequency of an n_fft of {of.n_fft}; "
                "give a larger n_fft, such as 2048, or fewer n_mels."
            )
        of.frames(self.samples)

    @property
    def frames(self) -> int:
        """Of the spectrogram, before it is resized."""
        return self.spectrogram.frames(self.samples)

    def decibels(self, x: Float[Array, "batch time"]) -> Float[Array, "batch frames bins"]:
        """The spectrogram of each waveform, in dB."""
        return self.spectrogram(x)

    def unclipped(
        self,
        x: Float[Array, "batch time"],
        lowest: Float[Array, ""] | float,
        highest: Float[Array, ""] | float,
    ) -> Float[Array, "batch size size 1"]:
        """Levels that may lie outside [0, 1]: 0 is ``lowest`` dB, 1 is ``highest``."""
        level = (self.decibels(x) - lowest) / (highest - lowest)
        # A product with the identity would cost as much as any.
        if level.shape[1] != self.size:
            over_time = resize_matrix(level.shape[1], self.size)
            level = jnp.einsum("ot,btf->bof", jnp.asarray(over_time, level.dtype), level)
        if level.shape[2] != self.size:
            upwards = resize_matrix(level.shape[2], self.size)
            level = jnp.einsum("of,btf->bto", jnp.asarray(upwards, level.dtype), level)
        return level.swapaxes(1, 2)[:, ::-1, :, None]

    def levels(
        self,
        x: Float[Array, "batch time"],
        lowest: Float[Array, ""] | float,
        highest: Float[Array, ""] | float,
    ) -> Float[Array, "batch size size 1"]:
        """The levels in [0, 1] that colours are given to; no gradient passes clipped cells."""
        return jnp.clip(self.unclipped(x, lowest, highest), 0.0, 1.0)

    def colours(
        self, levels: Float[Array, "batch size size 1"]
    ) -> Float[Array, "batch size size 3"]:
        """The image of levels."""
        return jet(levels[..., 0], self.colour_map)

    def __call__(
        self,
        x: Float[Array, "batch time"],
        lowest: Float[Array, ""] | float,
        highest: Float[Array, ""] | float,
    ) -> Float[Array, "batch size size 3"]:
        """The image of each waveform.

        Args:
          x: waveforms.
          lowest, highest: dB of the first and the last colour, the same for all rows; of the
            training part, or fixed.
        """
        return self.colours(self.levels(x, lowest, highest))


def clipped_share(unclipped: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Share of each row's cells that clipping to [0, 1] changes.

    Args:
      unclipped: as :meth:`SpectrogramImage.unclipped` gives them.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.images import clipped_share
      >>> print(clipped_share(jnp.array([[[-0.5, 0.5], [0.25, 1.0]]])))
      [0.25]
    """
    outside = (unclipped < 0.0) | (unclipped > 1.0)
    return outside.reshape(len(unclipped), -1).mean(axis=1, dtype=unclipped.dtype)
