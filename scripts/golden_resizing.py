"""Resized images, computed by PyTorch in double precision.

    python -m scripts.golden_resizing          # writes tests/golden/resizing.npz

Where torchvision is installed, its transform is asked, too, and has to say the same. Needs torch.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "resizing.npz"
SIZES = ((229, 224), (50, 20), (5, 8))


def resized(x: np.ndarray, after: int) -> np.ndarray:
    """``x [before, columns]`` with other rows, by PyTorch's bilinear, widened where it shrinks."""
    import torch

    image = torch.from_numpy(x)[None, None]
    size = (after, x.shape[1])
    found = torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True)
    if importlib.util.find_spec("torchvision"):
        same = _torchvision_resized(image, size)
        np.testing.assert_allclose(same, found.numpy(), atol=1e-12)
    return found[0, 0].numpy()


def _torchvision_resized(image: "torch.Tensor", size: tuple[int, int]) -> np.ndarray:
    import torch

    # A wheel of torchvision that was built for another torch lacks these operators and still says
    # what they are like; resizing needs neither.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from torchvision.transforms.functional import resize

    return resize(image, list(size)).numpy()


def main() -> None:
    """Write the golden file."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for before, after in SIZES:
        x = rng.normal(size=(before, 3))
        arrays[f"resize_{before}"] = x
        arrays[f"resize_{before}_{after}"] = resized(x, after)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
