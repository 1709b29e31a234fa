"""Reference outputs of CvT and LeViT, computed by PyTorch in double precision.

    python -m scripts.golden_cvt_levit      # writes tests/golden/models_cvt_levit.npz

Small networks of transformers and timm. Weights and images come from seeds alone
(:func:`seeded_state`, :func:`seeded_images`), so that the tests make them again and only results
are stored. Needs torch, transformers, timm and torchvision; of the last, one that is built for
another torch will do.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxser import models
from jaxser.models.levit import SHRINKING_MLP_RATIO, SHRINKING_VALUE_RATIO
from jaxser.victims.key_tables.cvt import hugging_face_cvt_table
from jaxser.victims.key_tables.entries import Entry, from_torch, to_torch
from jaxser.victims.key_tables.levit import (
    hugging_face_levit_table,
    timm_levit_conv_table,
    timm_levit_table,
)

__all__ = [
    "CASES",
    "CLASSES",
    "INPUT_STRIDE",
    "TABLES",
    "WEIGHT_STRIDE",
    "every_few",
    "full_twin",
    "module_of",
    "reference",
    "seeded_images",
    "seeded_state",
    "seeded_variables",
    "torch_twin",
]

CLASSES = 5
INPUT_STRIDE, WEIGHT_STRIDE = 16, 17  # of what is stored of gradients
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "models_cvt_levit.npz"

# Grids of 10, 5 and 3 places: a stride leaves a last row over in some, and in others it does not.
# transformers builds a stage only if it has more blocks than its number.
_CVT = {
    "widths": (8, 12, 18),
    "depths": (1, 2, 3),
    "heads": (1, 2, 3),
    "mlp_ratios": (2.0, 1.5, 2.0),
    "drop_path": (0.0, 0.0, 0.0),
    "image_size": 39,
    "imagenet_classes": 11,
}
# Grids of 5, 3 and 2 places.
_LEVIT = {
    "widths": (16, 24, 32),
    "depths": (2, 1, 2),
    "heads": (2, 3, 4),
    "key_size": 4,
    "image_size": 80,
    "imagenet_classes": 11,
}
# source -> (architecture, fields of a small one)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "hugging_face_cvt": ("cvt-13", _CVT),
    "hugging_face_levit": ("levit-256", _LEVIT),
    "timm_levit": ("levit-256", _LEVIT),
    "timm_levit_conv": ("levit-256", _LEVIT),
}
TABLES: dict[str, Callable[..., tuple[Entry, ...]]] = {
    "hugging_face_cvt": hugging_face_cvt_table,
    "hugging_face_levit": hugging_face_levit_table,
    "timm_levit": timm_levit_table,
    "timm_levit_conv": timm_levit_conv_table,
}


def module_of(source: str, **changed: Any) -> Any:
    """The small Linen module whose weights ``source`` has."""
    name, fields = CASES[source]
    return models.build(name, CLASSES, **{**fields, **changed})


def seeded_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """A state dict: scales of both signs, uneven statistics, and tokens that an epsilon moves.

    CvT's first tokens are about 3e-3, whose squares are near 1e-5: one epsilon is not another.
    """
    state = {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        low, high = _range(key, shape)
        state[key] = rng.uniform(low, high, shape).astype(np.float32)
    return state


def _range(key: str, shape: Sequence[int]) -> tuple[float, float]:
    if "stages.0.embedding.convolution_embeddings.projection" in key:
        return -3e-4, 3e-4
    if key.endswith("running_mean"):
        return -0.3, 0.3
    if key.endswith("running_var"):
        return 0.5, 1.5
    if key.endswith(("attention_biases", "cls_token")):
        return -1.0, 1.0
    if len(shape) == 1:
        return (-1.5, 1.5) if key.endswith("weight") else (-0.3, 0.3)
    bound = 2 * float(np.prod(shape[1:])) ** -0.5
    return -bound, bound


def seeded_variables(module: Any, source: str) -> dict[str, Any]:
    """Variables of a module, from :func:`seeded_state` of its source's keys."""
    size = module.image_size
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
    table = TABLES[source](module)
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    state = seeded_state({key: a.shape for key, a in to_torch(empty, table).items()})
    return from_torch(state, table, shapes=shapes)


def seeded_images(size: int, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[rows, size, size, 3]`` in [0, 1], smooth and rough, and labels ``[rows]``."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.5, (rows, size, size, 3))
    wave = np.sin(np.linspace(0, 9, size))[:, None] * np.cos(np.linspace(1, 5, size))[None]
    x = x + 0.25 + 0.25 * wave[None, :, :, None] * np.array([1.0, -1.0, 0.5])
    return x.astype(np.float32), np.arange(rows) % CLASSES


def torch_twin(source: str, module: Any) -> Any:
    """The same architecture in PyTorch, from a colour image to ImageNet's logits."""
    if source == "hugging_face_cvt":
        return _hugging_face_cvt(module)
    if source == "hugging_face_levit":
        return _hugging_face_levit(module)
    import_torchvision()
    from timm.models.levit import LevitDistilled

    return LevitDistilled(
        img_size=module.image_size,
        num_classes=module.imagenet_classes,
        embed_dim=module.widths,
        key_dim=module.key_size,
        depth=module.depths,
        num_heads=module.heads,
        use_conv=source == "timm_levit_conv",
    )


def _hugging_face_cvt(module: Any) -> Any:
    from benchmarks.foundation import import_transformers

    transformers = import_transformers()
    return transformers.CvtForImageClassification(
        transformers.CvtConfig(
            embed_dim=module.widths,
            depth=module.depths,
            num_heads=module.heads,
            mlp_ratio=module.mlp_ratios,
            drop_path_rate=(0.0,) * len(module.widths),
            num_labels=module.imagenet_classes,
        )
    )


def _hugging_face_levit(module: Any) -> Any:
    from benchmarks.foundation import import_transformers

    transformers = import_transformers()
    stages = len(module.widths)
    config = transformers.LevitConfig(
        image_size=module.image_size,
        hidden_sizes=module.widths,
        depths=module.depths,
        num_attention_heads=module.heads,
        key_dim=(module.key_size,) * stages,
        attention_ratio=(module.value_ratio,) * stages,
        mlp_ratio=(module.mlp_ratio,) * stages,
        num_labels=module.imagenet_classes,
    )
    assert {tuple(ops[3:5]) for ops in config.down_ops} == {
        (SHRINKING_VALUE_RATIO, SHRINKING_MLP_RATIO)
    }
    return transformers.LevitForImageClassificationWithTeacher(config)


def full_twin(source: str, module: Any, state: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    """(network, victim) of PyTorch with the weights of ``state``, in double precision.

    The victim takes images ``[batch, height, width, 3]`` in [0, 1] and gives the emotions' logits.
    """
    import torch

    network = torch_twin(source, module)
    tensors = {key: torch.from_numpy(np.array(array)) for key, array in state.items()}
    weight, bias = (tensors.pop(f"emotion_head.{part}").double() for part in ("weight", "bias"))
    absent, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in absent), absent
    network = network.double()
    mean, std = (torch.tensor(values).double() for values in (module.mean, module.std))

    def victim(x: Any) -> Any:
        out = network(((x - mean) / std).permute(0, 3, 1, 2))
        return getattr(out, "logits", out) @ weight.T + bias

    return network, victim


def reference(
    source: str, module: Any, state: Mapping[str, np.ndarray], train: bool, rows: int = 3
) -> dict[str, np.ndarray]:
    """Logits, gradients of the mean cross-entropy and running statistics, by PyTorch.

    Keys: "logits", "input", "gradient/KEY OF THE STATE DICT" and "state/KEY".
    """
    import torch

    network, victim = full_twin(source, module, state)
    network.train(train)
    # Those of LeViT keep a table of the biases in evaluation, through which one can go back once.
    network.requires_grad_(train)
    x, y = seeded_images(module.image_size, rows)
    images = torch.from_numpy(x).double().requires_grad_()
    logits = victim(images)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
    results: dict[str, Any] = {"logits": logits, "input": images.grad}
    if train:
        for key, parameter in network.named_parameters():
            results[f"gradient/{key}"] = parameter.grad
        for key, buffer in network.named_buffers():
            if "running" in key:
                results[f"state/{key}"] = buffer
    return {key: tensor.detach().numpy() for key, tensor in results.items()}


def every_few(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Some numbers of every array, end to end in the order of their keys."""
    return np.concatenate([np.ravel(arrays[key])[::WEIGHT_STRIDE] for key in sorted(arrays)])


def import_torchvision() -> Any:
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


def main() -> None:
    """Write the golden file: logits, parts of the gradients, and the updated statistics."""
    import_torchvision()  # first: where it fails, transformers is imported without it for good
    stored: dict[str, np.ndarray] = {}
    for source in CASES:
        module = module_of(source)
        state = to_torch(seeded_variables(module, source), TABLES[source](module))
        for train in (False, True):
            results = reference(source, module, state, train)
            chosen = {
                "logits": results["logits"],
                "input": results["input"][:, ::INPUT_STRIDE],
            }
            if train:
                for kind in ("gradient", "state"):
                    of_kind = {
                        key.removeprefix(f"{kind}/"): array
                        for key, array in results.items()
                        if key.startswith(f"{kind}/")
                    }
                    chosen[kind] = every_few(of_kind)
            for key, array in chosen.items():
                stored[f"{source}/{'train' if train else 'eval'}/{key}"] = array.astype(np.float32)
    np.savez_compressed(GOLDEN, **stored)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
