"""The small victims of the tests in torch, for the golden files of attacks.

The victims themselves are in tests/support/small_victims.py; both sides read the same weights.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS / "support"))

import small_victims  # type: ignore[import-not-found]  # noqa: E402

__all__ = [
    "TESTS",
    "TWINS",
    "SpectrogramTwin",
    "UnitRange",
    "predictions",
    "small_victims",
    "twin",
    "unit_image",
    "write_golden",
]


class LinearTwin(torch.nn.Module):
    """The linear victim in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.tensor(weights["kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(weights["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.kernel + self.bias


class ConvTwin(torch.nn.Module):
    """The convolutional victim in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        # [kernel, in, out] -> [out, in, kernel]
        self.filters = torch.nn.Parameter(torch.tensor(weights["filters"].transpose(2, 1, 0)))
        self.shift = torch.nn.Parameter(torch.tensor(weights["shift"]))
        self.kernel = torch.nn.Parameter(torch.tensor(weights["kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(weights["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.conv1d(x[:, None, :], self.filters, self.shift)
        pooled = torch.tanh(hidden).square().mean(dim=2)
        return pooled @ self.kernel + self.bias


class SpectrogramTwin(torch.nn.Module):
    """The CNN on spectrograms in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        # [height, width, in, out] -> [out, in, height, width]
        self.filters = torch.nn.Parameter(torch.tensor(weights["filters"].transpose(3, 2, 0, 1)))
        self.shift = torch.nn.Parameter(torch.tensor(weights["shift"]))
        self.kernel = torch.nn.Parameter(torch.tensor(weights["kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(weights["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.conv2d(x[:, None], self.filters, self.shift)
        pooled = torch.tanh(hidden).square().mean(dim=(2, 3))
        return pooled @ self.kernel + self.bias


class FrontEndTwin(SpectrogramTwin):
    """The log-mel spectrogram and the CNN behind it in torch."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__(weights)
        centres = np.geomspace(1.0, small_victims.FRAME / 2, small_victims.MELS + 2)
        bins = np.arange(small_victims.FRAME // 2 + 1)[:, None]
        rising = (bins - centres[:-2]) / (centres[1:-1] - centres[:-2])
        falling = (centres[2:] - bins) / (centres[2:] - centres[1:-1])
        triangles = np.maximum(0.0, np.minimum(rising, falling))
        self.register_buffer("triangles", torch.tensor(triangles.astype(np.float32)))
        self.register_buffer("window", torch.tensor(np.hanning(small_victims.FRAME)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.unfold(1, small_victims.FRAME, small_victims.HOP) * self.window
        power = torch.fft.rfft(frames).abs().square()
        logs = torch.log(power @ self.triangles + 1e-4)
        return super().forward((logs - 0.5) / 2.0)


TWINS: dict[str, Any] = {
    "linear": LinearTwin,
    "conv": ConvTwin,
    "spectrogram": SpectrogramTwin,
    "front_end": FrontEndTwin,
}


class UnitRange(torch.nn.Module):
    """A victim over (-1, 1) seen through images in (0, 1), all that torchattacks knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.model(2 * z.flatten(1) - 1)


def unit_image(x: np.ndarray) -> torch.Tensor:
    """Waveforms over (-1, 1) as double images [batch, 1, 1, samples] over (0, 1)."""
    return (torch.tensor(x.astype(np.float64))[:, None, None, :] + 1) / 2


def twin(kind: str, weights: dict[str, np.ndarray]) -> Any:
    """The torch victim in evaluation mode and double precision.

    In single precision the peers' cross-entropy loses digits wherever the victim is sure; the
    oracle should not.
    """
    return TWINS[kind](weights).double().eval()


def predictions(model: Any, x: np.ndarray) -> np.ndarray:
    """Classes that a twin in double precision predicts."""
    with torch.no_grad():
        return model(torch.tensor(x.astype(np.float64))).numpy().argmax(axis=1)


def write_golden(name: str, make: Callable[[], dict[str, Any]]) -> None:
    """Write what ``make`` returns to a file in tests/golden/, computed on one thread."""
    torch.set_num_threads(1)
    path = TESTS / "golden" / name
    np.savez_compressed(path, **make())
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")
