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

    def shape(self, variables: Any, x: Any) -> tuple[int, int, int] | None:
        """Rows, columns and channels of the map; None where the network marks none.

        Args:
          variables: of the model.
          x: inputs, or their shape and type.
        """
        maps = jax.tree.leaves(self._found(variables, x))
        return maps[0].shape[1:] if maps else None

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."], offset: Array | float = 0.0
    ) -> tuple[Float[Array, "batch classes"], Float[Array, "batch rows columns channels"]]:
        """Logits and feature map of ``x``, with ``offset`` added to the map on the way."""
        # The place of the map among the modules is known only after a pass.
        where = jax.tree.map(
            lambda leaf: jnp.broadcast_to(offset, leaf.shape).astype(leaf.dtype),
            self._found(variables, x),
        )
        logits, found = self.model.apply(
            {**variables, FEATURE_MAP: _renamed(where)}, x, train=False, mutable=[FEATURE_MAP]
        )
        return logits, _only(found[FEATURE_MAP])

    def _found(self, variables: Any, x: Any) -> Any:
        """Shapes in the collection after a pass."""

        def look(variables: Any, x: Array) -> Any:
            return self.model.apply(variables, x, train=False, mutable=[FEATURE_MAP])[1]

        return jax.eval_shape(look, variables, x).get(FEATURE_MAP, {})


def _renamed(tree: Any) -> Any:
    return {
        "offset" if key == "map" else key: _renamed(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }


def _only(tree: Any) -> Any:
    """The one map in a collection, beside its offset."""
    for key, value in tree.items():
        if isinstance(value, dict):
            return _only(value)
        if key == "map":
            return value
    raise AssertionError("the network has marked no map")


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
