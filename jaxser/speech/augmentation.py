"""Augmentation of spectrograms as images, for training: stretched in time, and masked.

    augment = ImageAugmentation()
    images = augment(keys, images)               # [batch] keys, [batch, rows, columns, channels]

After Echim et al., who stretch by 0.9, mask two stretches of time of 16 and one of frequencies of
16, similarly to SpecAugment (Park et al., 2019), and do not say more. What is chosen here:

- Stretched images are 0.9 times as wide: faster speech of the same pitch. They start at the left
  edge, and the columns that become free have the colour of level 0: silence after the speech, as
  the padding of short files is.
- Half of the images are stretched, as all images are whole when the network is tested.
- Masks are from 0 to 16 columns or rows wide, all widths and places equally likely, may overlap,
  and have the colour of level 0, too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.colours import jet_table
from jaxser.speech.resizing import resize_matrix

__all__ = ["ImageAugmentation"]


@dataclasses.dataclass(frozen=True)
class ImageAugmentation:
    """``augment(keys [batch], images) -> images`` of the same shape; a row sees its key alone.

    Attributes:
      stretch: width of a stretched image, as a share.
      stretched_share: how many images are stretched.
      time_masks, time_width: how many columns are masked: so many times up to so many.
      frequency_masks, frequency_width: the same of rows.

    Raises:
      UsageError: a share is outside (0, 1], or a number negative.
    """

    stretch: float = 0.9
    stretched_share: float = 0.5
    time_masks: int = 2
    time_width: int = 16
    frequency_masks: int = 1
    frequency_width: int = 16

    def __post_init__(self) -> None:
        if not 0.0 < self.stretch <= 1.0:
            raise UsageError(f"stretch must be above 0 and at most 1, not {self.stretch:g}.")
        if not 0.0 <= self.stretched_share <= 1.0:
            raise UsageError(f"stretched_share must be from 0 to 1, not {self.stretched_share:g}.")
        for name in ("time_masks", "time_width", "frequency_masks", "frequency_width"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, but is {getattr(self, name)}.")

    def __call__(
        self, keys: Key[Array, " batch"], images: Float[Array, "batch rows columns channels"]
    ) -> Float[Array, "batch rows columns channels"]:
        """Augmented images.

        Args:
          keys: one per image, such as ``fold_in`` of the step and the utterance.
          images: colours (3 channels) or levels (1), from 0 to 1; columns are time.

        Raises:
          InputError: another number of channels, or images smaller than a mask may be.
        """
        rows, columns, channels = images.shape[1:]
        if channels not in (1, 3):
            raise InputError(f"an image has 1 or 3 channels, not {channels}; give levels or jet.")
        if self.time_width > columns or self.frequency_width > rows:
            raise InputError(
                f"masks of up to {self.frequency_width} rows and {self.time_width} columns do not "
                f"fit images of {rows} x {columns}; give smaller widths."
            )
        fill = np.zeros(1) if channels == 1 else jet_table()[0]
        silence = jnp.asarray(fill, images.dtype)[None, None]
        width = max(1, round(self.stretch * columns))
        faster = jnp.asarray(resize_matrix(columns, width), images.dtype)
        pad = jnp.broadcast_to(silence, (rows, columns - width, channels))

        def of_one(key: Key[Array, ""], image: Array) -> Array:
            of_stretch, of_time, of_frequency = jax.random.split(key, 3)
            squeezed = jnp.einsum("oc,rcn->ron", faster, image)
            stretched = jax.random.uniform(of_stretch) < self.stretched_share
            image = jnp.where(stretched, jnp.concatenate([squeezed, pad], axis=1), image)
            masked = (
                _masked(of_time, columns, self.time_masks, self.time_width)[None, :]
                | _masked(of_frequency, rows, self.frequency_masks, self.frequency_width)[:, None]
            )
            return jnp.where(masked[:, :, None], silence, image)

        return jax.vmap(of_one)(keys, images)


def _masked(key: Key[Array, ""], size: int, masks: int, widest: int) -> Bool[Array, " size"]:
    """Which of ``size`` lines lie under one of ``masks`` masks, none of which leaves the image."""
    of_widths, of_places = jax.random.split(key)
    widths = jax.random.randint(of_widths, (masks,), 0, widest + 1)
    starts = jax.random.randint(of_places, (masks,), 0, size - widths + 1)
    lines = jnp.arange(size)[:, None]
    return ((lines >= starts[None]) & (lines < (starts + widths)[None])).any(axis=1)
