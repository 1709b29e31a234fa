"""One-pixel attack: one sample of the input takes another value, found by evolution.

    attack = OnePixel()                                          # differential evolution, ±ε
    attack = OnePixel(population=300, generations=20, compat="paper")
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.05])

Source: Su et al., IEEE Transactions on Evolutionary Computation 2019; on waveforms, STAA-Net
(arXiv 2402.01227, section IV). The search itself is in ``pixel_search``.
"""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxser.attacks.pixel_search import PixelSearch, with_values
from jaxser.attacks.projections import clip_to_bounds
from jaxser.attacks.score import uniform_index
from jaxser.attacks.sparse import amplitude_box

__all__ = ["OnePixel"]

# ART's pixels are 8-bit values.
_ART_LEVELS = 256


@dataclasses.dataclass(frozen=True)
class OnePixel(PixelSearch):
    """One position moves: a sample of a waveform, a bin of a spectrogram, a pixel of an image.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # one sample has to move by 0.4
      >>> attack = jaxser.attacks.OnePixel(population=20, generations=5)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.3, 0.6])
      >>> result.success[:, 0].tolist(), result.gradients[1, 0].item()
      ([False, True], 0)
    """

    name: ClassVar[str] = "onepixel"

    @property
    def positions(self) -> int:
        """Positions that move."""
        return 1

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Index along each position axis and value in each channel, per position."""
        axes = _position_axes(shape)
        return self.positions * (axes + math.prod(shape[axes:]))

    @property
    def moved_positions(self) -> int | None:
        return self.positions

    def moves(
        self,
        x: Float[Array, "..."],
        epsilon: Float[Array, ""],
        points: Float[Array, "candidates dimensions"],
    ) -> tuple[Int[Array, "candidates positions"], Float[Array, "candidates positions channels"]]:
        """The positions, flat, and the values that the points stand for.

        Where genes share a position the last one's value counts, and all of them have it.
        """
        axes = _position_axes(x.shape)
        lengths = x.shape[:axes]
        flat = x.reshape(math.prod(lengths), -1)
        genes = points.reshape(points.shape[0], self.positions, axes + flat.shape[1])
        index = jnp.zeros(genes.shape[:2], jnp.int32)
        for axis, length in enumerate(lengths):
            index = index * length + uniform_index(genes[..., axis], length)
        values = self._values(flat[index], epsilon, genes[..., axes:])
        same = index[:, :, None] == index[:, None, :]
        last = jnp.where(same, jnp.arange(self.positions)[None, None, :], -1).max(axis=2)
        return index, jnp.take_along_axis(values, last[..., None], axis=1)

    def _values(
        self, clean: Float[Array, "..."], epsilon: Float[Array, ""], genes: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Values for genes in [0, 1]."""
        if self.compat == "art":
            assert self.bounds is not None
            low, high = self.bounds
            level = jnp.floor(genes * (_ART_LEVELS - 1)) / (_ART_LEVELS - 1)
            values = low + (high - low) * level
            return clip_to_bounds(values, clean, amplitude_box(clean, None, self.amplitude))
        reach = epsilon * clean if self.compat == "paper" else epsilon
        return clip_to_bounds(clean + reach * (2 * genes - 1), clean, self.bounds)

    def candidate(
        self,
        x: Float[Array, "..."],
        epsilon: Float[Array, ""],
        points: Float[Array, "candidates dimensions"],
    ) -> Float[Array, "candidates ..."]:
        """Copies with the positions and values that the points stand for."""
        return with_values(x, *self.moves(x, epsilon, points))


def _position_axes(shape: tuple[int, ...]) -> int:
    """How many leading axes of an input are positions; those after the second are channels."""
    return min(len(shape), 2)
