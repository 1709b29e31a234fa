"""The feature map that Grad-CAM++ looks at, and its place within a network.

    y = feature_map(self, y, rows, columns)      # in a network: y, as it was
    logits, found = model.apply({**variables, FEATURE_MAP: offsets}, x, train=False,
                                mutable=[FEATURE_MAP])

A network marks the map by a call that does nothing unless the collection ``FEATURE_MAP`` is
mutable: parameters, programs and speed of other passes are what they are without it. Then the map
is stored in the collection as "map", after "offset" from the same place there, if it is there, has
been added. The gradient by the offset is the gradient by the map.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

__all__ = ["FEATURE_MAP", "feature_map"]

FEATURE_MAP = "feature_map"


def feature_map(
    module: nn.Module, y: Float[Array, "..."], rows: int, columns: int, tokens_before: int = 0
) -> Float[Array, "..."]:
    """``y``, as it is; marked as the map of the network that ``module`` is, or is in.

    Args:
      module: bound; its variables get the map, once per network.
      y: ``[batch, ..., channels]``: maps, or tokens in the order of a map.
      rows, columns: of the map.
      tokens_before: class tokens, which come first and are in no map.
    """
    if module.is_initializing() or not module.is_mutable_collection(FEATURE_MAP):
        return y
    grid = y[:, tokens_before:].reshape(-1, rows, columns, y.shape[-1])
    if module.has_variable(FEATURE_MAP, "offset"):
        grid = grid + module.get_variable(FEATURE_MAP, "offset")
    module.put_variable(FEATURE_MAP, "map", grid)
    rest = grid.reshape(y.shape[0], -1, *y.shape[2:]) if tokens_before else grid.reshape(y.shape)
    return jnp.concatenate([y[:, :tokens_before], rest], axis=1) if tokens_before else rest
