"""Reference outputs of STAA-Net's generator, computed by PyTorch in double precision.

    python -m scripts.golden_generator       # writes tests/golden/models_wave_unet.npz

A small one. Weights and inputs come from seeds alone, so that the tests make them again and only
the results are stored. Needs torch.
"""

import zlib
from pathlib import Path

import numpy as np

from jaxser.models.wave_unet import WaveUNet
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.wave_unet import wave_unet_table
from jaxser.victims.staa_net_weights import generator_shapes

__all__ = ["GOLDEN", "SAMPLES", "reference", "seeded_batch", "seeded_state", "small_model"]

SAMPLES = 700
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "models_wave_unet.npz"


def small_model(
    widths: tuple[int, ...] = (8, 16, 24), group_size: int = 4, **settings: object
) -> WaveUNet:
    """Three levels of few channels."""
    return WaveUNet(SAMPLES, widths, group_size=group_size, **settings)  # type: ignore[arg-type]


def seeded_state(model: WaveUNet) -> dict[str, np.ndarray]:
    """The authors' state dict for ``model``, with norms and biases that matter."""
    import jax

    table = wave_unet_table(len(model.widths))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), generator_shapes(model))
    state = {}
    for key, array in to_torch(zeros, table).items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if key.endswith("norm.weight"):
            drawn = rng.uniform(0.5, 1.5, array.shape)
        else:
            drawn = rng.uniform(-1, 1, array.shape) * 2 * np.prod(array.shape[1:]) ** -0.5
        state[key] = drawn.astype(np.float32)
    return state


def seeded_batch(samples: int = SAMPLES, rows: int = 2) -> np.ndarray:
    """Waveforms ``[rows, samples]``."""
    rng = np.random.default_rng(0)
    x = 0.1 * rng.normal(size=(rows, samples)) + 0.2 * np.sin(np.arange(samples) / 9)[None]
    return x.astype(np.float32)


def reference(
    model: WaveUNet, state: dict[str, np.ndarray], x: np.ndarray
) -> dict[str, np.ndarray]:
    """Both outputs, and gradients of the sum of their squares, by PyTorch in double precision.

    Keys: "locations", "magnitudes", "input" and "gradient/KEY OF THE STATE DICT".
    """
    import torch

    from benchmarks.torch_twins import TorchWaveUNet

    twin = TorchWaveUNet(
        model.num_samples,
        model.input_samples,
        model.output_samples,
        model.widths,
        model.kernel_size,
        model.stride,
        model.group_size,
    )
    twin.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    twin.double()
    wave = torch.from_numpy(x).double().requires_grad_()
    locations, magnitudes = twin(wave)
    ((locations**2).sum() + (magnitudes**2).sum()).backward()
    results = {
        "locations": locations.detach().numpy(),
        "magnitudes": magnitudes.detach().numpy(),
        "input": wave.grad.numpy(),
    }
    for key, parameter in twin.named_parameters():
        results[f"gradient/{key}"] = parameter.grad.numpy()
    return results


def main() -> None:
    """Write the golden file: outputs, input gradients, and the gradients of the vectors."""
    model = small_model()
    results = reference(model, seeded_state(model), seeded_batch())
    stored = {
        key: array.astype(np.float32)
        for key, array in results.items()
        if array.ndim == 1 or not key.startswith("gradient/")
    }
    np.savez_compressed(GOLDEN, **stored)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
