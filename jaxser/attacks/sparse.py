"""What attacks on few samples share: a bound on how far each of those samples may go.

    attack = SparseFool(amplitude=0.05)              # ε bounds the samples' number, this their size
    low, high = attack.box(x)                        # where every sample has to stay

The number of changed samples says nothing about how loud they are: without a second bound an attack
on few samples takes each to the end of the valid range. STAA-Net (arXiv 2402.01227, section 4.3)
bounds its sparse baselines by its own ε, and SparseFool (Modas et al., CVPR 2019, section 3.2)
solves its planes inside any box.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxser.attacks.base import BaseAttack
from jaxser.attacks.hyperparameters import check_positive
from jaxser.attacks.projections import Bounds, Box

__all__ = ["SparseAttack", "amplitude_box"]


@dataclasses.dataclass(frozen=True)
class SparseAttack(BaseAttack):
    """An attack whose ε may be a number of samples.

    Attributes:
      amplitude: largest change of a sample, in units of the input; None: as far as ``bounds`` go.
    """

    amplitude: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, amplitude=self.amplitude)

    def box(self, x: Float[Array, "..."]) -> Box:
        """Where the samples of inputs that are made of ``x`` have to stay."""
        return amplitude_box(x, self.bounds, self.amplitude)


def amplitude_box(x: Float[Array, "..."], bounds: Bounds, amplitude: float | None) -> Box:
    """The part of ``bounds`` within ``amplitude`` of the clean input; None is no bound.

    As in ``projections.clip_to_bounds``, a clean value outside the bounds may stay there.
    """
    if amplitude is None:
        return bounds
    low, high = x - amplitude, x + amplitude
    if bounds is None:
        return low, high
    return (
        jnp.maximum(low, jnp.minimum(x, bounds[0])),
        jnp.minimum(high, jnp.maximum(x, bounds[1])),
    )
