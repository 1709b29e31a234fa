"""Reference outputs of the image victims, computed by PyTorch in double precision.

    python -m scripts.golden_images          # writes tests/golden/images_*.npz

Weights and images come from seeds alone (:func:`seeded_state`, :func:`seeded_batch`), so that the
tests make them again; the keys' shapes and the results are stored. Needs torch, transformers,
torchvision and timm; of the last two, versions that are built for another torch will do.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jaxser import models

__all__ = [
    "INPUT_STRIDE",
    "SOURCES",
    "module_of",
    "reference",
    "seeded_batch",
    "seeded_state",
    "torch_victim",
]

CLASSES = 5
INPUT_STRIDE = 5  # of the stored input gradients, along rows
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"

# source -> (architecture, fields of a small one). Every pool drops a row and a column somewhere,
# and no feature map has as many channels as places.
_ALEXNET = {"channels": (4, 6, 5, 4, 6), "hidden": 10, "imagenet_classes": 12, "image_size": 98}
_VGG16 = {
    "blocks": ((4, 5), (6,), (5, 6)),
    "hidden": 10,
    "imagenet_classes": 12,
    "image_size": 18,
}
_VIT = {
    "width": 12,
    "depth": 2,
    "heads": 3,
    "mlp": 20,
    "patch": 4,
    "imagenet_classes": 11,
    "image_size": 12,
}
_CNN_LSTM = {"channels": (4, 5, 6, 7), "units": 6, "hidden": 9, "image_size": 60, "dropout": 0.0}
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "echim_cnn_lstm": ("echim_cnn_lstm", _CNN_LSTM),
    "torchvision_alexnet": ("alexnet", {**_ALEXNET, "dropout": 0.0}),
    "torchvision_vgg16": ("vgg16", {**_VGG16, "dropout": 0.0}),
    "timm_vgg16": ("vgg16", {**_VGG16, "dropout": 0.0}),
    "torchvision_vit": ("vit-b16", {**_VIT, "norm_eps": 1e-6}),
    "timm_vit": ("vit-b16", {**_VIT, "norm_eps": 1e-6}),
    "hugging_face_vit": (
        "vit-b16",
        {**_VIT, "norm_eps": 1e-12, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    ),
}


def module_of(source: str, **changed: Any) -> Any:
    """The small Linen module whose weights ``source`` has."""
    name, fields = SOURCES[source]
    return models.build(name, CLASSES, **{**fields, **changed})


def seeded_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A state dict: scales of both signs, uneven statistics, and tokens that an epsilon moves.

    Tokens of a ViT are about 1e-3, whose squares are near 1e-6: one epsilon is not another.
    """
    state = {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        low, high = _range(key, shape)
        state[key] = rng.uniform(low, high, shape).astype(np.float32)
    return state


def _range(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if any(part in key for part in ("class_token", "cls_token", "pos_embed", "position_embedd")):
        return -2e-3, 2e-3
    if any(part in key for part in ("conv_proj", "patch_embed")):
        return -2e-4, 2e-4
    if key.endswith("running_mean"):
        return -0.3, 0.3
    if key.endswith("running_var"):
        return 0.1, 0.5
    if len(shape) == 1:
        return (-1.5, 1.5) if key.endswith("weight") else (-0.3, 0.3)
    bound = 2 * float(np.prod(shape[1:])) ** -0.5
    return -bound, bound


def seeded_batch(size: int, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[rows, size, size, 3]`` in [0, 1], smooth and rough, and labels ``[rows]``."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.5, (rows, size, size, 3))
    wave = np.sin(np.linspace(0, 9, size))[:, None] * np.cos(np.linspace(1, 5, size))[None]
    x = x + 0.25 + 0.25 * wave[None, :, :, None] * np.array([1.0, -1.0, 0.5])
    return x.astype(np.float32), np.arange(rows) % CLASSES


def torch_victim(source: str, module: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The victim in PyTorch with seeded weights, in double precision, and its state dict.

    The state dict has the names that ``source`` publishes.
    """
    import torch

    from benchmarks.image_twins import Normalised, image_twin

    if source == "hugging_face_vit":
        network, state = _hugging_face_vit(module)
        victim = Normalised(network, module)
        head = seeded_state(_shapes({"emotion_head": victim.emotion_head}))
        victim.load_state_dict({key: torch.from_numpy(a) for key, a in head.items()}, strict=False)
        return victim.double(), {**state, **head}
    if source == "torchvision_vit":
        victim = Normalised(_torchvision_vit(module), module)
    elif source == "timm_vit":
        victim = Normalised(_timm_vit(module), module)
    else:
        victim = image_twin(source, module)
    state = seeded_state(_shapes({"": victim}))
    victim.load_state_dict({key: torch.from_numpy(a) for key, a in state.items()}, strict=False)
    return victim.double(), state


def _shapes(modules: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.{key}".removeprefix("."): tuple(tensor.shape)
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _hugging_face_vit(module: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """By way of a folder, as it is there that the published names are."""
    import transformers
    from safetensors.numpy import load_file, save_file

    config = transformers.ViTConfig(
        hidden_size=module.width,
        num_hidden_layers=module.depth,
        num_attention_heads=module.heads,
        intermediate_size=module.mlp,
        image_size=module.image_size,
        patch_size=module.patch,
        layer_norm_eps=module.norm_eps,
        num_labels=module.imagenet_classes,
    )
    with TemporaryDirectory() as folder:
        transformers.ViTForImageClassification(config).save_pretrained(folder)
        (weights,) = Path(folder).glob("*.safetensors")
        state = seeded_state({key: a.shape for key, a in load_file(weights).items()})
        save_file(state, weights, metadata={"format": "pt"})
        return transformers.ViTForImageClassification.from_pretrained(folder), state


def _torchvision_vit(module: Any) -> Any:
    return _torchvision().models.VisionTransformer(
        image_size=module.image_size,
        patch_size=module.patch,
        num_layers=module.depth,
        num_heads=module.heads,
        hidden_dim=module.width,
        mlp_dim=module.mlp,
        num_classes=module.imagenet_classes,
    )


def _timm_vit(module: Any) -> Any:
    _torchvision()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=module.image_size,
        patch_size=module.patch,
        embed_dim=module.width,
        depth=module.depth,
        num_heads=module.heads,
        mlp_ratio=module.mlp / module.width,
        num_classes=module.imagenet_classes,
    )


def _torchvision() -> Any:
    """torchvision, also beside a torch of another build, whose operators its import asks for."""
    try:
        import torchvision
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        pooled = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
        for name in ("nms", "qnms", *pooled, *(f"_{each}_backward" for each in pooled)):
            # None of them is computed with.
            library.define(f"{name}(Tensor x) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision
    return torchvision


# A library's operators go when it goes.
_LIBRARIES: list[Any] = []


def reference(source: str, train: bool, **changed: Any) -> dict[str, np.ndarray]:
    """Logits, gradients of the mean cross-entropy and running statistics, by PyTorch."""
    import torch

    module = module_of(source, **changed)
    victim, _ = torch_victim(source, module)
    victim.train(train)
    x, y = seeded_batch(module.image_size)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).double().requires_grad_()
    logits = victim(images)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
    results: dict[str, Any] = {"logits": logits, "input": images.grad.permute(0, 2, 3, 1)}
    # In memory the names of transformers are not the published ones.
    if source != "hugging_face_vit":
        for key, parameter in victim.named_parameters():
            results[f"gradient/{key}"] = parameter.grad
    for key, buffer in victim.named_buffers():
        if "running" in key:
            results[f"state/{key}"] = buffer
    return {key: tensor.detach().numpy() for key, tensor in results.items()}


def check_twins() -> None:
    """AlexNet and VGG16 are torchvision's and timm's: same keys, same logits, full size."""
    import torch

    from benchmarks.image_twins import image_twin

    torchvision = _torchvision()
    import timm

    theirs = {
        "torchvision_alexnet": ("alexnet", torchvision.models.alexnet),
        "torchvision_vgg16": ("vgg16", torchvision.models.vgg16),
        "timm_vgg16": ("vgg16", lambda: timm.create_model("vgg16")),
    }
    x = torch.rand(1, 3, 224, 224)
    for source, (name, make) in theirs.items():
        twin = image_twin(source, models.build(name, CLASSES)).eval()
        network = make().eval()
        state = {k: v for k, v in twin.state_dict().items() if not k.startswith("emotion_head")}
        network.load_state_dict(state)
        with torch.no_grad():
            mean = torch.tensor(models.build(name, CLASSES).mean)[:, None, None]
            std = torch.tensor(models.build(name, CLASSES).std)[:, None, None]
            expected = twin.emotion_head(network((x - mean) / std))
            torch.testing.assert_close(twin(x), expected, atol=1e-5, rtol=1e-5)


def _stored(source: str) -> dict[str, Any]:
    kinds: list[tuple[str, bool, dict[str, Any]]] = [("eval", False, {})]
    if source == "echim_cnn_lstm":
        kinds.append(("train", True, {}))
    if not source.endswith("vit"):
        # With everything dropped, what is left of the logits says where it is dropped.
        kinds.append(("dropped", True, {"dropout": 1.0}))
    _, state = torch_victim(source, module_of(source))
    stored: dict[str, Any] = {"shapes": json.dumps({key: a.shape for key, a in state.items()})}
    for kind, train, changed in kinds:
        results = reference(source, train, **changed)
        results["input"] = results["input"][:, ::INPUT_STRIDE]
        if kind == "dropped":
            results = {"logits": results["logits"]}
        stored |= {f"{kind}/{key}": a.astype(np.float32) for key, a in results.items()}
    return stored


def main() -> None:
    """Write the golden files: logits, input gradient, gradients of all weights, statistics."""
    check_twins()
    for source in SOURCES:
        np.savez_compressed(GOLDEN / f"images_{source}.npz", **_stored(source))


if __name__ == "__main__":
    main()
