"""Reference outputs of the victims, computed by PyTorch in double precision.

    python -m scripts.golden_models          # writes tests/golden/models_*.npz

Weights and inputs come from seeds alone (:func:`seeded_state`, :func:`seeded_batch`), so that
the tests make them again and only the results are stored. Needs torch.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxser.models.emo18 import Emo18
from jaxser.models.zhao19 import Zhao19

__all__ = ["CLASSES", "INPUT_STRIDE", "reference", "seeded_batch", "seeded_state"]

CLASSES = 7
INPUT_STRIDE = 4  # of the stored input gradients
ARCHITECTURES = {"emo18": Emo18, "zhao19": Zhao19}
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


def seeded_state(name: str) -> dict[str, np.ndarray]:
    """A PyTorch state dict of ``name``: all scales of both signs, all statistics uneven."""
    shapes: dict[str, tuple[int, ...]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    channels = 1
    for block, (features, kernel_size, _, _) in enumerate(ARCHITECTURES[name].blocks):
        bound = (kernel_size * channels) ** -0.5
        conv, norm = f"features.{4 * block}", f"features.{4 * block + 1}"
        shapes[f"{conv}.weight"] = (features, channels, kernel_size)
        ranges[f"{conv}.weight"] = (-2 * bound, 2 * bound)
        for key, limits in (
            (f"{conv}.bias", (-bound, bound)),
            (f"{norm}.weight", (-1.5, 1.5)),
            (f"{norm}.bias", (-0.5, 0.5)),
            (f"{norm}.running_mean", (-0.3, 0.3)),
            (f"{norm}.running_var", (0.5, 2.0)),
        ):
            shapes[key], ranges[key] = (features,), limits
        channels = features
    hidden = ARCHITECTURES[name].hidden
    for layer, inputs in enumerate((channels, hidden)):
        for kind, shape in (
            ("weight_ih", (4 * hidden, inputs)),
            ("weight_hh", (4 * hidden, hidden)),
            ("bias_ih", (4 * hidden,)),
            ("bias_hh", (4 * hidden,)),
        ):
            shapes[f"lstm.{kind}_l{layer}"] = shape
            ranges[f"lstm.{kind}_l{layer}"] = (-0.1, 0.1)
    shapes["head.weight"], ranges["head.weight"] = (CLASSES, hidden), (-0.5, 0.5)
    shapes["head.bias"], ranges["head.bias"] = (CLASSES,), (-0.5, 0.5)
    return {
        key: np.random.default_rng(zlib.crc32(f"{name}.{key}".encode()))
        .uniform(*ranges[key], shape)
        .astype(np.float32)
        for key, shape in shapes.items()
    }


def seeded_batch(rows: int = 3, samples: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms ``[rows, samples]`` of differing loudness and offset, and labels ``[rows]``."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (rows, samples)).cumsum(axis=1)
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= np.abs(noise).max(axis=1, keepdims=True)
    tone = np.sin(2 * np.pi * np.linspace(3, 40, rows)[:, None] * np.arange(samples) / samples)
    rough = rng.uniform(-0.3, 0.3, (rows, samples))
    loudness = np.linspace(0.1, 0.9, rows)[:, None]
    x = loudness * (noise + tone + rough) / 2.5 + 0.01
    return x.astype(np.float32), np.arange(rows) % CLASSES


def reference(name: str, train: bool) -> dict[str, np.ndarray]:
    """Logits, gradients of the mean cross-entropy and running statistics, by PyTorch."""
    import torch

    from benchmarks.torch_twins import TorchVictim

    x, y = seeded_batch()
    twin = TorchVictim(name, CLASSES)
    state = {key: torch.from_numpy(array) for key, array in seeded_state(name).items()}
    twin.load_state_dict(state, strict=False)
    twin.double().train(train)
    waveforms = torch.from_numpy(x).double().requires_grad_()
    logits = twin(waveforms)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
    results: dict[str, Any] = {"logits": logits, "input": waveforms.grad}
    for key, parameter in twin.named_parameters():
        results[f"gradient/{key}"] = parameter.grad
    for key, buffer in twin.named_buffers():
        results[f"state/{key}"] = buffer
    return {key: tensor.detach().numpy() for key, tensor in results.items()}


def main() -> None:
    """Write the golden files: logits, input gradient, and whatever of the rest is small."""
    for name in ARCHITECTURES:
        stored: dict[str, Any] = {}
        for train in (False, True):
            for key, array in reference(name, train).items():
                if key == "input":
                    array = array[:, ::INPUT_STRIDE]
                elif array.size > 512:
                    continue
                stored[f"{'train' if train else 'eval'}/{key}"] = array.astype(np.float32)
        np.savez_compressed(GOLDEN / f"models_{name}.npz", **stored)


if __name__ == "__main__":
    main()
