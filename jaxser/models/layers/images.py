"""What a network does with a batch of images first: check it, and normalise every channel.

    y = normalised_images("AlexNet", x, 224, IMAGENET_MEAN, IMAGENET_STD, jnp.bfloat16)

The normalisation is a part of the network, so that an image's numbers are those that are seen, in
[0, 1], and a perturbation of them is what an attack says it is.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxser.models.layers.precision import at_least_float32
from jaxser.runtime.errors import InputError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "check_images",
    "normalise_channels",
    "normalised_images",
]

# Of the colours of ImageNet's training images in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_images(name: str, x: Float[Array, "..."], size: int) -> None:
    """Refuse what is no batch of colour images of ``size`` by ``size``.

    Raises:
      InputError: it says so of the model ``name``.
    """
    if x.ndim != 4 or x.shape[1:] != (size, size, 3):
        raise InputError(
            f"{name} takes images of shape [batch, {size}, {size}, 3], but got an array of shape "
            f"{tuple(x.shape)}; make images of that size, with a batch axis in front."
        )


def normalise_channels(
    x: Float[Array, "batch height width channels"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[Array, "batch height width channels"]:
    """Less ``mean``, over ``std``, each of them one number per channel."""
    shift, scale = (np.asarray(values, x.dtype)[None, None, None] for values in (mean, std))
    return (x - jnp.asarray(shift)) / jnp.asarray(scale)


def normalised_images(
    name: str,
    x: Float[Array, "..."],
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: Any,
) -> Float[Array, "batch size size 3"]:
    """What a network begins with: images, checked and normalised, in the type it computes in.

    Args:
      name: what an error calls the model.
      x: images ``[batch, size, size, 3]`` in [0, 1].
      size: their height and width.
      mean, std: of the colours.
      dtype: that the network computes in; the normalisation itself is in float32 at least.

    Raises:
      InputError: ``x`` is no batch of images of this size.
    """
    check_images(name, x, size)
    wide = x.astype(at_least_float32(dtype))
    return normalise_channels(wide, mean, std).astype(dtype)
