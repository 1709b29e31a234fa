"""Residual branches that are left out at random while a network is trained."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float

__all__ = ["drop_path"]


def drop_path(
    module: nn.Module, branch: Float[Array, "batch ..."], rate: float, train: bool
) -> Float[Array, "batch ..."]:
    """A residual branch that is nothing in a share ``rate`` of the rows, in training only.

    What is kept is divided by the chance of it, so that the mean stays. The rows are drawn from the
    rng collection "dropout" of ``module``.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016; by rows, as in timm.
    """
    if not train or rate == 0:
        return branch
    rows = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, rows)
    return branch * (kept.astype(branch.dtype) / (1 - rate))
