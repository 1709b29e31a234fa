"""Reference outputs of the CNN-LSTM, computed by PyTorch in double precision.

    python -m scripts.golden_cnn_lstm        # writes tests/golden/models_cnn_lstm.npz

Weights and inputs come from seeds alone, so that the tests make them again and only the results
are stored. Needs torch.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CLASSES", "INPUT_STRIDE", "reference", "seeded_batch", "seeded_state"]

CLASSES = 5
INPUT_STRIDE = 9  # of the stored input gradients, along frames
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "models_cnn_lstm.npz"

_LAYERS = {
    "conv0": (16, 1, 5, 5),
    "conv1": (32, 16, 3, 3),
    "conv2": (64, 32, 3, 3),
    "head": (CLASSES, 512),
}


def seeded_state() -> dict[str, np.ndarray]:
    """A PyTorch state dict with statistics that are uneven and scales of both signs."""
    state = {}

    def draw(key: str, low: float, high: float, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        state[key] = rng.uniform(low, high, shape).astype(np.float32)

    for name, shape in _LAYERS.items():
        bound = 2 * np.prod(shape[1:]) ** -0.5
        draw(f"{name}.weight", -bound, bound, shape)
        draw(f"{name}.bias", -0.1, 0.1, shape[:1])
    draw("norm.weight", -1.5, 1.5, (16,))
    draw("norm.bias", -0.5, 0.5, (16,))
    draw("norm.running_mean", -0.3, 0.3, (16,))
    draw("norm.running_var", 0.5, 2.0, (16,))
    for direction in ("l0", "l0_reverse"):
        draw(f"lstm.weight_ih_{direction}", -0.05, 0.05, (1024, 1664))
        draw(f"lstm.weight_hh_{direction}", -0.1, 0.1, (1024, 256))
        for bias in ("bias_ih", "bias_hh"):
            draw(f"lstm.{bias}_{direction}", -0.1, 0.1, (1024,))
    return state


def seeded_batch(rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Standardised log-mels ``[rows, 261, 128]`` and labels ``[rows]``."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 261, 128)) + np.sin(np.arange(261) / 20)[None, :, None]
    return x.astype(np.float32), np.arange(rows) % CLASSES


def reference(train: bool) -> dict[str, np.ndarray]:
    """Logits and gradients of the mean cross-entropy, by PyTorch."""
    import torch

    from benchmarks.torch_twins import TorchCnnLstm

    x, y = seeded_batch()
    twin = TorchCnnLstm(CLASSES)
    state = {key: torch.from_numpy(array) for key, array in seeded_state().items()}
    twin.load_state_dict(state, strict=False)
    twin.double().train(train)
    features = torch.from_numpy(x).double().requires_grad_()
    logits = twin(features)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
    results = {"logits": logits.detach().numpy(), "input": features.grad.numpy()}
    for key, parameter in twin.named_parameters():
        results[f"gradient/{key}"] = parameter.grad.numpy()
    return results


def main() -> None:
    """Write the golden file: logits, input gradient, and whatever of the rest is small."""
    stored: dict[str, Any] = {}
    for train in (False, True):
        for key, array in reference(train).items():
            if key == "input":
                array = array[:, ::INPUT_STRIDE]
            elif array.size > 3000:
                continue
            stored[f"{'train' if train else 'eval'}/{key}"] = array.astype(np.float32)
    np.savez_compressed(GOLDEN, **stored)


if __name__ == "__main__":
    main()
