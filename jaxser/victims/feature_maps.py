"""The feature map of a victim that reads spectrograms or images, and the gradient's way to it.

    logits, maps = victim.feature_map(victim.variables, x)              # [batch, rows, columns, ch]
    victim.feature_map(victim.variables, x, offset)                     # with offset added to it

Which map it is, is said in the networks: what they hand to
:func:`jaxser.models.layers.feature_map.feature_map`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.models.cnn_lstm import CnnLstm
from jaxser.models.front_end import WithFrontEnd
from jaxser.models.image_front_end import WithImage
from jaxser.models.layers.feature_map import FEATURE_MAP

__all__ = ["FeatureMap", "feature_map_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMap:
    """How to look into a network.

    Attributes:
      model: the network, behind its front end.
      picture: rows and columns of what the network reads: frames and bands of a spectrogram, or
        rows and columns of an image.
      covered: those of them, from the first on, that the map is made of.
    """

    model: nn.Module
    picture: tuple[int, int]
    covered: tuple[int, int]
    # By the shape of an input: tracing a network takes seconds.
    _places: "dict[tuple[int, ...], _Place | None]" = dataclasses.field(
        default_factory=dict, repr=False
    )

    def shape(self, variables: Any, x: Any) -> tuple[int, int, int] | None:
        """Rows, columns and channels of the map; None where the network marks none.

        Args:
          variables: of the model.
          x: inputs, or their shape and type.
        """
        place = self._place(variables, x)
        return None if place is None else place[1]

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."], offset: Array | float = 0.0
    ) -> tuple[Float[Array, "batch classes"], Float[Array, "batch rows columns channels"]]:
        """Logits and feature map of ``x``, with ``offset`` added to the map on the way."""
        place = self._place(variables, x)
        assert place is not None, "the network has marked no map"
        path, shape, dtype = place
        given: Any = {"offset": jnp.broadcast_to(offset, (len(x), *shape)).astype(dtype)}
        for key in reversed(path):
            given = {key: given}
        logits, found = self.model.apply(
            {**variables, FEATURE_MAP: given}, x, train=False, mutable=[FEATURE_MAP]
        )
        found = found[FEATURE_MAP]
        for key in path:
            found = found[key]
        return logits, found["map"]

    def _place(self, variables: Any, x: Any) -> "_Place | None":
        """Where the map is among the modules, which only a pass can tell."""
        kind = tuple(x.shape[1:])
        if kind not in self._places:

            def look(variables: Any, x: Array) -> Any:
                return self.model.apply(variables, x, train=False, mutable=[FEATURE_MAP])[1]

            found = jax.eval_shape(look, variables, x).get(FEATURE_MAP, {})
            maps = jax.tree_util.tree_flatten_with_path(found)[0]
            self._places[kind] = None
            if maps:
                ((keys, leaf),) = maps
                path = tuple(key.key for key in keys[:-1])
                self._places[kind] = (path, leaf.shape[1:], leaf.dtype)
        return self._places[kind]


# Names of the modules that it is in, its shape without the batch, and its type.
_Place = tuple[tuple[str, ...], tuple[int, int, int], Any]


def feature_map_of(model: nn.Module) -> FeatureMap | None:
    """Of a model that reads spectrograms or images; None of one that reads waveforms."""
    if isinstance(model, WithImage):
        size = model.front_end.size
        return FeatureMap(model, (size, size), (size, size))
    if isinstance(model, WithFrontEnd):
        frames, bins = model.frames, model.front_end.bins
        network = model.network
        read = network.frames_read(frames) if isinstance(network, CnnLstm) else frames
        return FeatureMap(model, (frames, bins), (read, bins))
    return None
