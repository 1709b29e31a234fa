"""The colour map "jet" as a differentiable function, and back from colours to levels.

    images = jet(levels)                         # [...] in [0, 1] -> [..., 3]
    levels, distances = nearest_level(images)    # of the nearest colours of the map

Its three channels are piecewise linear in the level. "continuous" is that; "table" is what
matplotlib shows: 256 colours, the k-th of which is the continuous form at k/255. Both have the
slopes of the continuous form as their gradient, as those of a table are zero.

Source: matplotlib's ``jet`` (after MATLAB's), used by Echim et al. for their victims' images.
OpenCV's map of that name is another one.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["COLOUR_MAPS", "ColourMap", "dead_share", "jet", "jet_table", "nearest_level"]

ColourMap = Literal["table", "continuous"]
COLOUR_MAPS: tuple[ColourMap, ...] = ("table", "continuous")

# Levels and values between which red, green and blue are linear.
_CORNERS = (
    ((0.0, 0.35, 0.66, 0.89, 1.0), (0.0, 0.0, 1.0, 1.0, 0.5)),
    ((0.0, 0.125, 0.375, 0.64, 0.91, 1.0), (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)),
    ((0.0, 0.11, 0.34, 0.65, 1.0), (0.5, 1.0, 1.0, 0.0, 0.0)),
)
_ENTRIES = 256


def jet_table() -> Float[np.ndarray, "256 3"]:
    """matplotlib's 256 colours, in float64.

    Examples:
      >>> from jaxser.speech.colours import jet_table
      >>> jet_table().shape, jet_table()[0].tolist()
      ((256, 3), [0.0, 0.0, 0.5])
    """
    return _jet(np.arange(_ENTRIES) / (_ENTRIES - 1))


def _jet(levels: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    return np.stack([np.interp(levels, *corners) for corners in _CORNERS], axis=1)


def jet(levels: Float[Array, "..."], colour_map: ColourMap = "table") -> Float[Array, "... 3"]:
    """Red, green and blue in [0, 1] of levels in [0, 1], with finite slopes everywhere.

    Levels below 0 have the first colour, (0, 0, 0.5), and above 1 the last, (0.5, 0, 0); their
    slopes are 0. At a corner the slope is that of the higher side, at 1 that of the lower one. What
    is not a number has no colour: it stays not a number.

    Args:
      levels: of any shape.
      colour_map: "table" or "continuous", see above.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.colours import jet
      >>> print(jet(jnp.array([0.0, 1.0])))  # dark blue, dark red
      [[0.  0.  0.5]
       [0.5 0.  0. ]]
    """
    return _table_colours(levels) if colour_map == "table" else _continuous_colours(levels)


@jax.custom_jvp
def _table_colours(levels: Float[Array, "..."]) -> Float[Array, "... 3"]:
    # As matplotlib does: the product with a power of 2 is exact, and 1 itself has the last colour.
    number = jnp.clip(jnp.floor(_ENTRIES * levels), 0, _ENTRIES - 1)
    table = jnp.asarray(jet_table(), levels.dtype)
    # A NaN has no place in the table, and must not become a colour like any other.
    index = jnp.where(jnp.isnan(number), 0, number).astype(jnp.int32)
    return jnp.where(jnp.isnan(levels)[..., None], levels[..., None], table[index])


@jax.custom_jvp
def _continuous_colours(levels: Float[Array, "..."]) -> Float[Array, "... 3"]:
    channels = []
    for corners, values in _CORNERS:
        # One ramp for each piece that is not flat; flat beyond both ends.
        channel = jnp.full_like(levels, values[0])
        for start, end, low, high in zip(
            corners[:-1], corners[1:], values[:-1], values[1:], strict=True
        ):
            if low != high:
                ramp = jnp.clip((levels - start) / (end - start), 0.0, 1.0)
                channel = channel + (high - low) * ramp
        channels.append(channel)
    return jnp.stack(channels, axis=-1)


def _slopes(levels: Float[Array, "..."]) -> Float[Array, "... 3"]:
    """Slopes of the continuous form; 0 where a level is outside [0, 1]."""
    channels = []
    for corners, values in _CORNERS:
        slope = jnp.zeros_like(levels)
        for start, end, low, high in zip(
            corners[:-1], corners[1:], values[:-1], values[1:], strict=True
        ):
            if low != high:
                below = levels <= end if end == 1.0 else levels < end
                inside = (levels >= start) & below
                slope = jnp.where(inside, (high - low) / (end - start), slope)
        channels.append(slope)
    return jnp.stack(channels, axis=-1)


@_table_colours.defjvp
def _table_tangent(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Float[Array, "... 3"], Float[Array, "... 3"]]:
    return _table_colours(primals[0]), _slopes(primals[0]) * tangents[0][..., None]


@_continuous_colours.defjvp
def _continuous_tangent(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Float[Array, "... 3"], Float[Array, "... 3"]]:
    return _continuous_colours(primals[0]), _slopes(primals[0]) * tangents[0][..., None]


def dead_share(levels: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Share of each row's cells through which no gradient passes: all three slopes are 0.

    That is so from 0.11 to 0.125, where the map is one blue, and outside [0, 1]. Levels that were
    clipped are inside: give them as they were before.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.colours import dead_share
      >>> print(dead_share(jnp.array([[-0.2, 0.12, 0.5, 0.9]])))  # below 0; one blue
      [0.5]
    """
    dead = ~_slopes(levels).any(axis=-1)
    return dead.reshape(len(levels), -1).mean(axis=1, dtype=levels.dtype)


@functools.partial(jax.jit, static_argnames="colour_map")
def nearest_level(
    image: Float[Array, "*cells 3"], colour_map: ColourMap = "table"
) -> tuple[Float[Array, "*cells"], Float[Array, "*cells"]]:
    """The level of the nearest colour of the map to each pixel, and the distance to it.

    An attack on an image leaves the map's curve in the cube of colours, and what is off the curve
    is no spectrogram. The distance is Euclidean, with each channel in [0, 1].

    Of the table's 256 colours the level is the middle of those that have it: at most 0.002 from any
    that the colour was made of, or 0.006 where the map is one blue. Of two colours that are equally
    near it is the lower one's.

    The curve is 11 straight lines along which the entries of the table are evenly spaced, so that
    of each line the nearest one stands beside the foot of the perpendicular: 11 colours to compare
    instead of 256.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxser.speech.colours import jet, nearest_level
      >>> levels, distances = nearest_level(jet(jnp.array([0.0, 0.2, 1.0])))
      >>> [f"{level:.2f}" for level in levels]
      ['0.00', '0.20', '1.00']
    """
    corners = np.unique([place for places, _ in _CORNERS for place in places])
    ends = _jet(corners)
    shape = image.shape[:-1]
    lines = list(zip(corners[:-1], corners[1:], ends[:-1], ends[1:], strict=True))
    # The one blue first: its neighbours end in the same colour, and its middle is to be told.
    lines.sort(key=lambda line: bool((line[2] != line[3]).any()))
    nearest = (jnp.zeros(shape, image.dtype), jnp.full(shape, jnp.inf, image.dtype))
    for start, end, low, high in lines:
        direction = (high - low) / (end - start)
        first, last = math.ceil((_ENTRIES - 1) * start), math.floor((_ENTRIES - 1) * end)
        if direction.any():
            along = sum((image[..., i] - low[i]) * direction[i] for i in range(3))
            level = start + along / float(direction @ direction)
            level = jnp.clip(level, start, end)
        else:
            level = jnp.full(shape, (start + end) / 2, image.dtype)
        shown = level
        if colour_map == "table":
            entry = jnp.clip(jnp.round((_ENTRIES - 1) * level), first, last)
            level, shown = (entry + 0.5) / _ENTRIES, entry / (_ENTRIES - 1)
        apart = jnp.sqrt(
            sum(
                jnp.square(image[..., i] - low[i] - direction[i] * (shown - start))
                for i in range(3)
            )
        )
        nearer = apart < nearest[1]
        nearest = (jnp.where(nearer, level, nearest[0]), jnp.where(nearer, apart, nearest[1]))
    return nearest
