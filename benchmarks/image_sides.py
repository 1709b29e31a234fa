"""The image victims in JAX and in PyTorch: forward passes, input gradients and training steps.

    pair = draw("alexnet", "float32")
    sides = sides_of(pair, "step", Setting())

PyTorch's are :mod:`benchmarks.image_twins` (CNN-LSTM, AlexNet, VGG16) and transformers' classes
(ViT, CvT, LeViT), behind the same normalisation and before the same linear layer of emotions.
"""

import copy
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.generator_sides import Run, Side

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = ["CLASSES", "VICTIMS", "Pair", "Setting", "draw", "sides_of", "twin_with"]

CLASSES = 7
LEARNING_RATE, L2 = 1e-4, 1e-3  # of the paper

# Victim -> the names that its weights have in PyTorch.
VICTIMS = {
    "echim_cnn_lstm": "echim_cnn_lstm",
    "alexnet": "torchvision_alexnet",
    "vgg16": "torchvision_vgg16",
    "cvt-21": "hugging_face_cvt",
    "vit-b16": "hugging_face_vit",
    "levit-256": "hugging_face_levit",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """How PyTorch's side runs.

    Attributes:
      device: "cpu" or "gpu".
      dtype: of products and convolutions on both sides; what is trained is float32.
      compile_: also a side with torch.compile.
      channels_last: also a side with that memory format, which is JAX's.
    """

    device: str = "cpu"
    dtype: str = "float32"
    compile_: bool = False
    channels_last: bool = False


@dataclasses.dataclass(frozen=True)
class Pair:
    """A victim with the same weights on both sides.

    Attributes:
      module, variables: jaxser's.
      twin: PyTorch's, from images ``[batch, 3, height, width]`` in [0, 1] to logits.
      gflop: of a row's forward pass.
    """

    module: Any
    variables: Any
    twin: "nn.Module"
    gflop: float


def draw(name: str, dtype: str, **fields: Any) -> Pair:
    """Victim ``name`` with weights that are drawn here, and its twin.

    Args:
      name: one of ``VICTIMS``.
      dtype: computed in by jaxser's.
      **fields: of the module, such as its sizes.
    """
    import jax
    import jax.numpy as jnp

    from jaxser import models

    module: Any = models.build(name, CLASSES, dtype=dtype, **fields)
    if name == "echim_cnn_lstm":
        # PyTorch's LSTM has two biases, whose sum is ours: drawn there, as there is no way back.
        variables, twin = _drawn_by_torch(module)
    else:
        image = jnp.zeros((1, module.image_size, module.image_size, 3))
        init = jax.jit(functools.partial(module.init, train=False))
        variables = init(jax.random.key(0), image)
        twin = twin_with(name, module, jax.device_get(variables))
    return Pair(module, variables, twin, _gflop(twin, module))


def _drawn_by_torch(module: Any) -> tuple[Any, "nn.Module"]:
    import jax
    import jax.numpy as jnp
    import torch

    from benchmarks.image_twins import image_twin
    from jaxser.victims.key_tables.entries import from_torch
    from jaxser.victims.key_tables.image_cnns import image_cnn_lstm_table

    torch.manual_seed(0)
    twin = image_twin("echim_cnn_lstm", module)
    state = {
        key: tensor.numpy().copy()
        for key, tensor in twin.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    return jax.tree.map(jnp.asarray, from_torch(state, image_cnn_lstm_table(module))), twin.eval()


def twin_with(name: str, module: Any, variables: Any) -> "nn.Module":
    """PyTorch's victim ``name`` with the weights of ``variables``, in evaluation mode.

    The CNN-LSTM's one bias goes to the first of PyTorch's two; the second is zero.
    """
    import numpy as np
    import torch

    from benchmarks.image_twins import Normalised, image_twin
    from jaxser.victims.key_tables import cvt, image_cnns, levit, vit
    from jaxser.victims.key_tables.entries import to_torch

    source = VICTIMS[name]

    def cnn_lstm_table(module: Any) -> Any:
        return [
            entry
            if entry.restore
            else dataclasses.replace(entry, restore=lambda bias: (bias, np.zeros_like(bias)))
            for entry in image_cnns.image_cnn_lstm_table(module)
        ]

    tables: dict[str, Callable[[Any], Any]] = {
        "echim_cnn_lstm": cnn_lstm_table,
        "torchvision_alexnet": image_cnns.torchvision_alexnet_table,
        "torchvision_vgg16": image_cnns.torchvision_vgg16_table,
        "hugging_face_cvt": cvt.hugging_face_cvt_table,
        "hugging_face_vit": vit.hugging_face_vit_table,
        "hugging_face_levit": levit.hugging_face_levit_table,
    }
    state = to_torch(variables, tables[source](module))
    if source.startswith("hugging_face"):
        twin: nn.Module = Normalised(_of_transformers(source, module, state), module)
        wanted = {"emotion_head.weight", "emotion_head.bias"}
    else:
        twin = image_twin(source, module)
        wanted = {key for key in twin.state_dict() if not key.endswith("num_batches_tracked")}
    twin.load_state_dict({key: torch.from_numpy(state[key].copy()) for key in wanted}, strict=False)
    return twin.eval()


def _of_transformers(source: str, module: Any, state: Mapping[str, "np.ndarray"]) -> "nn.Module":
    """The network up to ImageNet's logits, by way of a folder: in memory its keys are others.

    :mod:`jaxser.victims.image_checkpoints` writes such folders too, but needs more packages than
    the machines with GPUs may have.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from benchmarks.foundation import import_transformers

    transformers = import_transformers()
    stages = len(module.widths) if source != "hugging_face_vit" else 0
    configs: dict[str, Callable[[], Any]] = {
        "hugging_face_vit": lambda: transformers.ViTConfig(
            hidden_size=module.width,
            num_hidden_layers=module.depth,
            num_attention_heads=module.heads,
            intermediate_size=module.mlp,
            image_size=module.image_size,
            patch_size=module.patch,
            layer_norm_eps=module.norm_eps,
            hidden_dropout_prob=module.dropout,
            attention_probs_dropout_prob=module.attention_dropout,
        ),
        "hugging_face_cvt": lambda: transformers.CvtConfig(
            embed_dim=module.widths,
            depth=module.depths,
            num_heads=module.heads,
            mlp_ratio=module.mlp_ratios,
            drop_rate=(module.dropout,) * stages,
            attention_drop_rate=(module.attention_dropout,) * stages,
            drop_path_rate=module.drop_path,
        ),
        "hugging_face_levit": lambda: transformers.LevitConfig(
            image_size=module.image_size,
            hidden_sizes=module.widths,
            depths=module.depths,
            num_attention_heads=module.heads,
            key_dim=(module.key_size,) * stages,
            attention_ratio=(module.value_ratio,) * stages,
            mlp_ratio=(module.mlp_ratio,) * stages,
        ),
    }
    classes = {
        "hugging_face_vit": "ViTForImageClassification",
        "hugging_face_cvt": "CvtForImageClassification",
        "hugging_face_levit": "LevitForImageClassificationWithTeacher",
    }
    config = configs[source]()
    config.num_labels = module.imagenet_classes
    held = {key: a for key, a in state.items() if not key.startswith("emotion_head")}
    for key in [key for key in held if key.endswith(".running_mean")]:
        held[f"{key.removesuffix('running_mean')}num_batches_tracked"] = np.zeros((), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        contiguous = {key: np.array(a, order="C") for key, a in held.items()}
        save_file(contiguous, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        network: nn.Module = getattr(transformers, classes[source]).from_pretrained(folder)
    return network


def _gflop(twin: "nn.Module", module: Any) -> float:
    """Multiplications and additions of one row in products and convolutions, as PyTorch counts."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, 3, module.image_size, module.image_size)
    # Of attention it counts the plain form, and of an LSTM nothing.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        twin(image)
    flop = float(counter.get_total_flops())
    for layer in twin.modules():
        if isinstance(layer, torch.nn.LSTM):
            steps = module.channels[-1]
            flop += 8.0 * steps * layer.hidden_size * (layer.input_size + layer.hidden_size)
    return flop / 1e9


# What a row takes, in forward passes: gradients by inputs and by weights cost one each.
_PASSES = {"forward": 1, "gradient": 2, "step": 3}


def sides_of(pair: Pair, task: str, setting: Setting) -> dict[str, Side]:
    """The task on all sides.

    Args:
      pair: victim and twin.
      task: "forward" or "gradient" (of the summed cross-entropy, by the images), both in
        evaluation mode, or "step": a training step with Adam.
      setting: of PyTorch's side.
    """
    gflop = {task: pair.gflop * _PASSES[task]}
    sides = {"jaxser": _jax_side(pair, task, gflop)}
    formats = [False, *([True] if setting.channels_last else [])]
    for channels_last in formats:
        for compiled in [False, *([True] if setting.compile_ else [])]:
            words = ["torch", *["channels last"] * channels_last, *["compiled"] * compiled]
            sides[" ".join(words)] = _torch_side(
                pair, task, gflop, setting, channels_last, compiled
            )
    return sides


def _jax_side(pair: Pair, task: str, gflop: dict[str, float]) -> Side:
    """Ours; compiled once per shape."""
    import jax.numpy as jnp

    makers = {"forward": _jax_forward, "gradient": _jax_gradient, "step": _jax_step}
    return Side(jnp.asarray, {task: makers[task](pair)}, gflop)


def _losses(logits: Any) -> Any:
    """Cross-entropy of each row; rows' classes take turns."""
    import jax.numpy as jnp
    import optax

    labels = jnp.arange(len(logits)) % CLASSES
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _jax_forward(pair: Pair) -> Run:
    import jax

    logits = jax.jit(functools.partial(pair.module.apply, train=False))
    return lambda x: jax.block_until_ready(logits(pair.variables, x))


def _jax_gradient(pair: Pair) -> Run:
    import jax

    def loss(x: Any, variables: Any) -> Any:
        return _losses(pair.module.apply(variables, x, train=False)).sum()

    gradient = jax.jit(jax.grad(loss))
    return lambda x: jax.block_until_ready(gradient(x, pair.variables))


def _jax_step(pair: Pair) -> Run:
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.chain(optax.add_decayed_weights(L2), optax.adam(LEARNING_RATE))
    # A copy: training gives its memory back at every step.
    variables = jax.tree.map(jnp.copy, pair.variables)
    params = variables.pop("params")
    state = (params, variables, optimizer.init(params), jax.random.key(0))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any) -> Any:
        params, others, moments, key = state
        key, used = jax.random.split(key)

        def loss(params: Any) -> Any:
            logits, changed = pair.module.apply(
                {"params": params, **others},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": used},
            )
            return _losses(logits).mean(), {**others, **changed}

        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), others, moments, key), value

    def run(x: Any) -> float:
        nonlocal state
        state, value = step(state, x)
        jax.block_until_ready(state)
        return float(value)

    return run


def _torch_side(
    pair: Pair,
    task: str,
    gflop: dict[str, float],
    setting: Setting,
    channels_last: bool,
    compiled: bool,
) -> Side:
    """PyTorch's: all of it in ``dtype``, trained with float32 parameters (autocast)."""
    import torch
    from torch.nn.functional import cross_entropy

    where = torch.device("cuda" if setting.device == "gpu" else "cpu")
    type_ = getattr(torch, setting.dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: Any = copy.deepcopy(pair.twin).to(where, memory_format=layout)
    model = model.train() if task == "step" else model.to(type_).eval().requires_grad_(False)
    optimizer = None
    if task == "step":
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=L2)
    logits_of = torch.compile(model, dynamic=False) if compiled else model

    def labels(x: Any) -> Any:
        return torch.arange(len(x), device=where) % CLASSES

    def finish(made: Any) -> Any:
        if where.type == "cuda":
            torch.cuda.synchronize()
        return made

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return finish(logits_of(x.to(type_)))

    def gradient(x: Any) -> Any:
        images = x.clone().requires_grad_()
        loss = cross_entropy(logits_of(images.to(type_)).float(), labels(x), reduction="sum")
        return finish(torch.autograd.grad(loss, images)[0])

    def step(x: Any) -> float:
        assert optimizer is not None
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where.type, type_, enabled=type_ != torch.float32):
            logits = logits_of(x)
        loss = cross_entropy(logits.float(), labels(x))
        loss.backward()
        optimizer.step()
        return finish(loss.item())

    def place(x: Any) -> Any:
        images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        return images.to(where, memory_format=layout)

    runs: dict[str, Run] = {"forward": forward, "gradient": gradient, "step": step}
    return Side(place, {task: runs[task]}, gflop, peer=True)
