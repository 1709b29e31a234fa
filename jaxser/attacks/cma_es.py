"""CMA-ES, covariance matrix adaptation, in the unit cube, for many rows at once.

    strategy = CovarianceAdaptation(population=10)
    search, trial = strategy.start(keys, dimensions=30)       # trial: [batch, population, 30]
    search, trial = strategy.advance(keys, search, trial, scores)     # scores: lower is better
    points = strategy.points(trial)                           # those of the cube

Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772), the (μ/μ_w, λ) form with
positive weights. The cube is continued by reflection, so the search itself is unbounded and
:func:`reflect` maps its points into the cube.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

__all__ = [
    "AdaptationState",
    "CovarianceAdaptation",
    "adaptation_start",
    "adaptation_update",
    "reflect",
]

# An eigenvalue below this share of the largest is rounding in float32.
_LEAST_EIGENVALUE = 1e-12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptationState:
    """The search distribution and its evolution paths.

    ``basis`` and ``scales`` are the eigenvectors and the square roots of the eigenvalues of
    ``covariance``; ``mean`` lives in the unbounded coordinates of :func:`reflect`.
    """

    mean: Float[Array, "batch dimensions"]
    sigma: Float[Array, " batch"]
    covariance: Float[Array, "batch dimensions dimensions"]
    basis: Float[Array, "batch dimensions dimensions"]
    scales: Float[Array, "batch dimensions"]
    step_path: Float[Array, "batch dimensions"]
    shape_path: Float[Array, "batch dimensions"]
    generation: Int[Array, " batch"]


def reflect(points: Float[Array, "..."]) -> Float[Array, "..."]:
    """Unbounded coordinates folded into [0, 1]: 1.2 is 0.8, -0.2 is 0.2."""
    return 1.0 - jnp.abs(1.0 - jnp.mod(points, 2.0))


def adaptation_start(mean: Float[Array, "batch dimensions"], sigma: float) -> AdaptationState:
    """A round distribution of standard deviation ``sigma``."""
    batch, dimensions = mean.shape
    eye = jnp.broadcast_to(jnp.eye(dimensions), (batch, dimensions, dimensions))
    return AdaptationState(
        mean=mean,
        sigma=jnp.full((batch,), sigma),
        covariance=eye,
        basis=eye,
        scales=jnp.ones_like(mean),
        step_path=jnp.zeros_like(mean),
        shape_path=jnp.zeros_like(mean),
        generation=jnp.zeros((batch,), jnp.int32),
    )


def _sample(
    state: AdaptationState, noise: Float[Array, "batch population dimensions"]
) -> Float[Array, "batch population dimensions"]:
    """Points of the distribution from standard normal ``noise`` (tutorial, Eqs. 38-40)."""
    # At "highest" here and below: by default, accelerators may multiply in fewer bits than float32
    # has, which a covariance and its inverse root do not forgive.
    stretched = noise * state.scales[:, None, :]
    turned = jnp.einsum("bpd,bed->bpe", stretched, state.basis, precision="highest")
    return state.mean[:, None, :] + state.sigma[:, None, None] * turned


def adaptation_update(
    state: AdaptationState,
    points: Float[Array, "batch population dimensions"],
    scores: Float[Array, "batch population"],
) -> AdaptationState:
    """The distribution after a generation (tutorial, Eqs. 41-47 with its default constants)."""
    # Shapes alone decide the constants: they are NumPy's, in double precision, made while tracing.
    population, n = points.shape[1:]
    parents = population // 2
    raw = np.log((population + 1) / 2) - np.log(np.arange(1, parents + 1))
    weights = raw / raw.sum()
    mass = 1 / np.square(weights).sum()
    step_rate = (mass + 2) / (n + mass + 5)
    damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (n + 1)) - 1) + step_rate
    path_rate = (4 + mass / n) / (n + 4 + 2 * mass / n)
    rank_one = 2 / ((n + 1.3) ** 2 + mass)
    rank_mu = min(1 - rank_one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
    # Expected length of a standard normal vector.
    length = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))

    ranked = jnp.argsort(scores, axis=1)[:, :parents]
    best = jnp.take_along_axis(points, ranked[..., None], axis=1)
    moves = (best - state.mean[:, None, :]) / state.sigma[:, None, None]
    share = jnp.asarray(weights, jnp.float32)
    move = jnp.einsum("bpd,p->bd", moves, share, precision="highest")

    # C^(-1/2) of the move: to the eigenvectors' axes, over the scales, and back.
    along = jnp.einsum("bed,be->bd", state.basis, move, precision="highest") / state.scales
    white = jnp.einsum("bed,bd->be", state.basis, along, precision="highest")
    keep = 1 - step_rate
    step_path = keep * state.step_path + np.sqrt(step_rate * (2 - step_rate) * mass) * white
    ratio = jnp.sqrt(jnp.square(step_path).sum(axis=1)) / length
    exponent = jnp.minimum(1.0, step_rate / damping * (ratio - 1))

    generation = state.generation + 1
    unbiased = jnp.sqrt(1 - keep ** (2.0 * (generation + 1).astype(jnp.float32)))
    # The path of the shape stands still while the step size grows fast.
    calm = (ratio / unbiased < 1.4 + 2 / (n + 1)).astype(jnp.float32)[:, None]
    shape_path = (1 - path_rate) * state.shape_path
    shape_path += calm * np.sqrt(path_rate * (2 - path_rate) * mass) * move
    lost = ((1 - calm) * path_rate * (2 - path_rate))[..., None]
    covariance = (
        (1 - rank_one - rank_mu + rank_one * lost) * state.covariance
        + rank_one * shape_path[:, :, None] * shape_path[:, None, :]
        + rank_mu * jnp.einsum("bpd,bpe,p->bde", moves, moves, share, precision="highest")
    )
    values, basis = jnp.linalg.eigh((covariance + covariance.swapaxes(1, 2)) / 2)
    values = jnp.maximum(values, _LEAST_EIGENVALUE * values[:, -1:])
    return AdaptationState(
        mean=state.mean + state.sigma[:, None] * move,
        sigma=state.sigma * jnp.exp(exponent),
        covariance=covariance,
        basis=basis,
        scales=jnp.sqrt(values),
        step_path=step_path,
        shape_path=shape_path,
        generation=generation,
    )


@dataclasses.dataclass(frozen=True)
class CovarianceAdaptation:
    """CMA-ES from the middle of the cube.

    Attributes:
      population: λ, points per generation.
      sigma: initial standard deviation, as a share of the cube's side.
    """

    population: int
    sigma: float = 0.3

    def start(self, keys: Key[Array, " batch"], dimensions: int) -> tuple[AdaptationState, Array]:
        """Points around the middle."""
        search = adaptation_start(jnp.full((keys.shape[0], dimensions), 0.5), self.sigma)
        return search, _sample(search, self._noise(keys, dimensions))

    def advance(
        self,
        keys: Key[Array, " batch"],
        search: AdaptationState,
        trial: Float[Array, "batch population dimensions"],
        scores: Float[Array, "batch population"],
    ) -> tuple[AdaptationState, Array]:
        """The adapted distribution and its points."""
        search = adaptation_update(search, trial, scores)
        return search, _sample(search, self._noise(keys, trial.shape[2]))

    def points(self, trial: Float[Array, "..."]) -> Float[Array, "..."]:
        """Trials are folded into the cube."""
        return reflect(trial)

    def _noise(self, keys: Key[Array, " batch"], dimensions: int) -> Array:
        shape = (self.population, dimensions)
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
