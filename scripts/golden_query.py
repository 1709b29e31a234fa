"""Make tests/golden/query.npz: what torchattacks' Square and Pixle and evosax' CMA-ES compute.

    pip install --no-deps evosax==0.3.2
    python scripts/golden_query.py

It needs the extra ``peers`` and evosax. Random numbers are stored with what was made of them, so
that the tests that read the file need none of the three. The torchattacks oracles are also used
live by tests/peers/test_query_peers.py.
"""

from typing import Any
from unittest import mock

import numpy as np
import torch
import torchattacks
from golden_victims import SpectrogramTwin, small_victims, write_golden

WINDOWS = (3, 5, 8, 13)
SCHEDULES = ((200, True), (5000, True), (5000, False), (10_000, True))
SHARE = 0.8
PIXLE_SHAPES = ((6, 6, 1), (7, 7, 3))
# Corner (x, y) and sides (x, y) of the patch.
PATCH = ((1, 2), (3, 2))
CMA_CASES = ((2, 12), (6, 20))
CMA_GENERATIONS = 6
CMA_SIGMA = 0.3


class ImageTwin(SpectrogramTwin):
    """The small CNN in torch, on images [batch, 1, frames, mels] in (0, 1)."""

    def __init__(self, weights: dict[str, np.ndarray], bounds: tuple[float, float]) -> None:
        super().__init__(weights)
        self.bounds = bounds

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward((self.bounds[0] + (self.bounds[1] - self.bounds[0]) * z)[:, 0])


def spectrogram_twin() -> tuple[Any, tuple[float, float]]:
    """The twin of the small spectrogram victim, and the victim's bounds."""
    bounds = small_victims.SPECTROGRAM_BOUNDS
    return ImageTwin(small_victims.WEIGHTS["spectrogram"](), bounds).eval(), bounds


def as_image(x: np.ndarray, bounds: tuple[float, float]) -> torch.Tensor:
    """Spectrograms [batch, height, width] as images [batch, 1, height, width] in (0, 1)."""
    return torch.tensor((x - bounds[0]) / (bounds[1] - bounds[0]))[:, None]


def from_image(z: torch.Tensor, bounds: tuple[float, float]) -> np.ndarray:
    """The inverse of :func:`as_image`."""
    return (bounds[0] + (bounds[1] - bounds[0]) * z[:, 0]).detach().numpy()


def square_golden() -> dict[str, Any]:
    """The L2 attack's pattern for several window sizes, and the schedules of window shares."""
    held: dict[str, Any] = {}
    for size in WINDOWS:
        attack = torchattacks.Square(torch.nn.Identity())
        # A draw of 0 does not transpose the pattern.
        with mock.patch("torch.rand", return_value=torch.zeros(1)):
            held[f"square/eta/{size}"] = attack.eta(size).numpy()
    for queries, rescale in SCHEDULES:
        attack = torchattacks.Square(
            torch.nn.Identity(), n_queries=queries, p_init=SHARE, resc_schedule=rescale
        )
        shares = [attack.p_selection(query) for query in range(queries)]
        held[f"square/halvings/{queries}/{rescale}"] = np.round(
            np.log2(SHARE / np.array(shares))
        ).astype(np.int8)
    return held


def pixle_golden() -> dict[str, Any]:
    """Destinations by the deterministic mappings, and what copying the patch makes."""
    held: dict[str, Any] = {}
    (left, top), (wide, high) = PATCH
    for height, width, channels in PIXLE_SHAPES:
        rng = np.random.default_rng(channels)
        source, base = rng.uniform(0, 1, (2, channels, height, width)).astype(np.float32)
        # A few equal pixels, which "similarity" passes over.
        base[:, 0, :3] = source[:, top, left][:, None]
        name = f"pixle/{height}x{width}x{channels}"
        held |= {f"{name}/source": source, f"{name}/base": base}
        for mapping in ("similarity", "distance"):
            attack = torchattacks.Pixle(torch.nn.Identity(), pixel_mapping=mapping)
            first, second = torch.tensor(source)[None], torch.tensor(base)[None]
            to = attack.get_pixel_mapping(first, left, wide, top, high, destination_image=second)
            made = attack._perturb(
                source=first, destination=second, solution=[left, top, wide, high, *to]
            )
            held[f"{name}/{mapping}/to"] = np.array(to)  # (x, y) of each pixel
            held[f"{name}/{mapping}/made"] = made[0].numpy()
    return held


def cma_golden() -> dict[str, Any]:
    """Runs of evosax' CMA-ES with positive weights on an ill-conditioned quadratic."""
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import CMA_ES  # type: ignore[import-not-found]

    held: dict[str, Any] = {}
    for dimensions, population in CMA_CASES:
        strategy = CMA_ES(population_size=population, solution=jnp.zeros(dimensions))
        strategy.use_negative_weights = False
        params = strategy.default_params.replace(std_init=jnp.asarray(CMA_SIGMA))
        key = jax.random.key(dimensions)
        state = strategy.init(key, jnp.full(dimensions, 0.5), params)
        scale = 10.0 ** jnp.linspace(0, 2, dimensions)
        record: dict[str, list[Any]] = {n: [] for n in ("points", "scores", "mean", "std", "C")}
        for generation in range(CMA_GENERATIONS):
            points, state = strategy.ask(jax.random.fold_in(key, generation), state, params)
            scores = (scale * jnp.square(points - 0.2)).sum(axis=1)
            state, _ = strategy.tell(key, points, scores, state, params)
            for name, value in (("points", points), ("scores", scores)):
                record[name].append(np.asarray(value))
            for name in ("mean", "std", "C"):
                record[name].append(np.asarray(getattr(state, name)))
        held |= {f"cma/{dimensions}/{name}": np.stack(values) for name, values in record.items()}
    return held


def main() -> None:
    """Write the file."""
    write_golden("query.npz", lambda: square_golden() | pixle_golden() | cma_golden())


if __name__ == "__main__":
    main()
