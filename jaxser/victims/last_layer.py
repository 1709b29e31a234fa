"""What a victim's last linear layer reads: its last hidden layer.

    embed = embedding_of(model)
    embed(variables, x)                              # [batch, features]; None of unknown networks

Every architecture has it as its method ``embed(x, train)``, whose ``head`` makes the logits of it.
"""

import functools
from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

__all__ = ["embedding_of"]


def embedding_of(model: nn.Module) -> Callable[..., Float[Array, "batch features"]] | None:
    """``(variables, x) -> [batch, features]`` in evaluation mode, of all that a model reads.

    Args:
      model: a network, behind its front end if it has one.

    Returns:
      None of a network that does not tell.
    """
    network = getattr(model, "network", model)
    if not hasattr(network, "embed"):
        return None
    return functools.partial(model.apply, train=False, method="embed")  # type: ignore[return-value]
