"""Reference explanations of small image victims, by grad-cam and captum in double precision.

    PYTHONPATH=. python scripts/golden_explanations.py     # writes tests/golden/explanations.npz

Made with grad-cam 1.5.7, captum 0.9.0 and opencv-python-headless 5.0.0 on torch 2.13. The networks
are those of :mod:`scripts.golden_images` and :mod:`scripts.golden_cvt_levit`, whose weights and
images come from seeds alone, so that the tests make them again; every image is explained for its
label. grad-cam imports torchvision, of which a build for another torch will do.
"""

from pathlib import Path
from typing import Any

import golden_cvt_levit
import golden_images
import numpy as np

__all__ = ["CASES", "PATH_STEPS", "STRIDE", "baseline_of", "module_and_images"]

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "explanations.npz"
CASES = (
    *("torchvision_alexnet", "torchvision_vgg16", "echim_cnn_lstm", "hugging_face_vit"),
    *("hugging_face_cvt", "hugging_face_levit"),
)
# Of those whose integrated gradients are stored: one with ReLU alone, one that is smooth.
PATHS = ("torchvision_alexnet", "hugging_face_vit")
PATH_STEPS = 6
STRIDE = 3  # of what is stored, along rows of an image


def module_and_images(source: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The small Linen module of a case, images ``[rows, size, size, 3]``, and their labels."""
    if source in golden_images.SOURCES:
        module = golden_images.module_of(source)
        return module, *golden_images.seeded_batch(module.image_size)
    module = golden_cvt_levit.module_of(source)
    return module, *golden_cvt_levit.seeded_images(module.image_size)


def baseline_of(x: np.ndarray) -> np.ndarray:
    """Where integrated gradients begin: the blue of silence in every pixel."""
    return np.broadcast_to(np.array([0.0, 0.0, 0.5], np.float32), x.shape)


def _torch_side(source: str, module: Any) -> tuple[Any, Any, Any]:
    """(victim of images ``[rows, 3, size, size]``, layer with the feature map, its reshaping)."""
    import torch

    if source in golden_images.SOURCES:
        victim, _ = golden_images.torch_victim(source, module)
        if source == "hugging_face_vit":
            return victim, victim.vit.layers[-1].layernorm_before, _tokens(before=1)
        return victim, victim.f if source == "echim_cnn_lstm" else victim.features, None
    tables = golden_cvt_levit.TABLES
    variables = golden_cvt_levit.seeded_variables(module, source)
    state = golden_cvt_levit.to_torch(variables, tables[source](module))
    network, images_last = golden_cvt_levit.full_twin(source, module, state)
    network.eval()
    # LeViT keeps a table of biases in evaluation, through which one can go back once.
    network.requires_grad_(False)

    class Victim(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            return images_last(x.permute(0, 2, 3, 1))

    if source == "hugging_face_cvt":
        layer = network.cvt.encoder.stages[-1].layers[-1].layernorm_before
        return Victim(), layer, _tokens(before=1)
    return Victim(), network.levit.encoder.stages[-1].layers[-1], _tokens(before=0)


def _tokens(before: int) -> Any:
    def reshape(y: Any) -> Any:
        y = y[:, before:]
        side = round(y.shape[1] ** 0.5)
        return y.transpose(1, 2).reshape(len(y), -1, side, side)

    return reshape


def grad_cam_plus_plus(source: str) -> np.ndarray:
    """Maps ``[rows, size, size]`` of every image for its label."""
    import torch
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module, x, y = module_and_images(source)
    victim, layer, reshape = _torch_side(source, module)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).double().requires_grad_()
    with GradCAMPlusPlus(victim.eval(), [layer], reshape) as look:
        maps: np.ndarray = look(images, [ClassifierOutputTarget(int(label)) for label in y])
    return maps


def integrated_gradients(source: str) -> np.ndarray:
    """Attributions ``[rows, size, size, 3]`` of every image for its label."""
    import torch
    from captum.attr import IntegratedGradients

    module, x, y = module_and_images(source)
    victim, *_ = _torch_side(source, module)
    images, baseline = (
        torch.from_numpy(each.transpose(0, 3, 1, 2).copy()).double() for each in (x, baseline_of(x))
    )
    found = IntegratedGradients(victim.eval()).attribute(
        images, baseline, torch.from_numpy(y), n_steps=PATH_STEPS, method="gausslegendre"
    )
    return np.asarray(found.detach().permute(0, 2, 3, 1))


def main() -> None:
    """Write the golden file."""
    golden_cvt_levit.import_torchvision()
    stored = {f"grad_cam/{source}": grad_cam_plus_plus(source)[:, ::STRIDE] for source in CASES}
    for source in PATHS:
        stored[f"integrated/{source}"] = integrated_gradients(source)[:, ::STRIDE]
    arrays: dict[str, Any] = {key: array.astype(np.float32) for key, array in stored.items()}
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
