"""Few-pixel attack: several samples take other values, or all of them move by at most ε.

    attack = FewPixel(count=10, optimizer="cma_es")
    attack = FewPixel(variant="threshold", cells=64)             # every sample may move by ε
    result = jaxser.run_attack(victim, waveforms, labels, attack, epsilons=[0.05])

Source: Vargas & Kotyan, arXiv 1906.06026: several pixels, CMA-ES and the threshold variant, which
is the one that moves all. The search itself is in ``pixel_search``.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Array, Float

from jaxser.attacks.hyperparameters import check_choice, check_positive
from jaxser.attacks.one_pixel import OnePixel
from jaxser.attacks.projections import clip_to_bounds
from jaxser.runtime.errors import UsageError

__all__ = ["FewPixel"]


@dataclasses.dataclass(frozen=True)
class FewPixel(OnePixel):
    """``count`` positions move, or, as the threshold variant, all of them by at most ε.

    Attributes:
      count: positions; genes that meet at one position count once.
      variant: "pixels", or "threshold" for an L∞ attack over all positions.
      cells: variables of the threshold variant: the input, flattened, is cut into so many equal
        runs whose samples move together. None: each sample is its own variable, which is what
        ART's ThresholdAttack does and what only small inputs allow.

    Examples:
      >>> import numpy as np
      >>> import jaxser
      >>> x = np.float32([[0.3, -0.1, -0.3]])  # two samples have to move by 0.2 each
      >>> attack = jaxser.attacks.FewPixel(count=2, population=20, generations=5)
      >>> result = jaxser.run_attack(lambda x: x, x, [0], attack, [0.1, 0.4])
      >>> result.success[:, 0].tolist(), result.gradients[1, 0].item()
      ([False, True], 0)
    """

    name: ClassVar[str] = "fewpixel"

    count: int = 10
    variant: Literal["pixels", "threshold"] = "pixels"
    cells: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.name, count=self.count, cells=self.cells)
        check_choice(self.name, "variant", self.variant, ("pixels", "threshold"))
        if self.variant == "threshold" and self.compat is not None:
            raise UsageError(
                f"{self.name}: compat={self.compat!r} is about single pixels; leave it out with "
                "variant='threshold'."
            )

    @property
    def positions(self) -> int:
        """Positions that move."""
        return self.count

    @property
    def moved_positions(self) -> int | None:
        return super().moved_positions if self.variant == "pixels" else None

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Those of :class:`OnePixel` per position, or one per cell."""
        if self.variant == "pixels":
            return super().dimensions(shape)
        size = math.prod(shape)
        return size if self.cells is None else min(self.cells, size)

    def candidate(
        self,
        x: Float[Array, "..."],
        epsilon: Float[Array, ""],
        points: Float[Array, "candidates dimensions"],
    ) -> Float[Array, "candidates ..."]:
        """Copies with the positions and values, or the offsets of all cells."""
        if self.variant == "pixels":
            return super().candidate(x, epsilon, points)
        cell = np.arange(x.size) * points.shape[1] // x.size
        offsets = epsilon * (2 * points - 1)[:, cell].reshape(points.shape[0], *x.shape)
        return clip_to_bounds(x[None] + offsets, x[None], self.bounds)
