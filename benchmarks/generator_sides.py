"""STAA-Net's generator in JAX and in PyTorch: forward passes and training steps of the same one."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxser.runtime.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from jaxser.models.wave_unet import WaveUNet

__all__ = ["Run", "Side", "forward_flop", "gflop_of", "jax_side", "sides_of", "torch_side"]

LEARNING_RATE = 1e-4  # of the paper

# Does the task once for a batch of waveforms that is on the side's device, to the end.
Run = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
      place: brings waveforms to the device.
      runs: task -> run.
      gflop: task -> what it takes for a row.
      peer: whether others are compared with it.
    """

    place: Callable[["np.ndarray"], Any]
    runs: dict[str, Run]
    gflop: dict[str, float]
    peer: bool = False


def forward_flop(module: "WaveUNet") -> float:
    """Multiplications and additions of one row's forward pass, in convolutions alone."""
    size, stride, widths = module.kernel_size, module.stride, module.widths
    lost = 0 if module.padding == "same" else size - 1
    pairs = 0.0  # multiplications, over the kernel's size
    steps, inputs = module.input_samples, 1
    for width, wider in itertools.pairwise(widths):
        pairs += (steps - lost) * inputs * width + (steps - 2 * lost) * width * wider
        steps = (steps - 3 * lost - 1) // stride + 1 if lost else steps // stride
        pairs += steps * wider**2
        inputs = wider
    steps -= lost
    decoder = float(steps * widths[-1] ** 2)
    for width, wider in zip(widths[-2::-1], widths[:0:-1], strict=True):
        decoder += steps * wider**2
        steps = (steps - 1) * stride + 1 - lost if lost else steps * stride
        decoder += (steps - lost) * wider * width + (steps - 2 * lost) * 2 * width * width
        steps -= 2 * lost
    return 2.0 * (size * (pairs + 2 * decoder) + 2 * steps * widths[0])


def gflop_of(module: "WaveUNet") -> dict[str, float]:
    """Task -> what it takes for a row: gradients by kernels and by inputs cost a pass each."""
    forward = forward_flop(module) / 1e9
    return {"forward": forward, "train": 3 * forward, "attack": forward}


def jax_side(module: "WaveUNet", variables: Any) -> Side:
    """Ours; compiled once per shape."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxser.models.wave_unet import prepare

    made = jax.jit(module.apply)
    prepared = prepare(module, variables)  # as :func:`jaxser.load_generator` does
    optimizer = optax.adam(LEARNING_RATE)
    # A copy: training gives its memory back at every step.
    state = (jax.tree.map(jnp.copy, variables), optimizer.init(variables))

    def loss(variables: Any, x: Any) -> Any:
        outputs: Any = module.apply(variables, x)
        return sum(jnp.tanh(each).mean() for each in outputs)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any) -> Any:
        variables, moments = state
        value, gradients = jax.value_and_grad(loss)(variables, x)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(variables, updates), moments), value

    def train(x: Any) -> float:
        nonlocal state
        state, value = step(state, x)
        jax.block_until_ready(state)
        return float(value)

    def forward(x: Any) -> Any:
        return jax.block_until_ready(made(prepared, x))

    return Side(jnp.asarray, {"forward": forward, "train": train}, gflop_of(module))


def torch_side(twin: Any, device: str, dtype: str, compile_: bool, gflop: dict[str, float]) -> Side:
    """PyTorch's: all of it in ``dtype``, trained with float32 parameters (autocast)."""
    import copy

    import torch

    where, type_ = torch.device("cuda" if device == "gpu" else "cpu"), getattr(torch, dtype)
    trained = copy.deepcopy(twin).to(where)
    used = copy.deepcopy(twin).to(where, type_).eval()
    optimizer = torch.optim.Adam(trained.parameters(), LEARNING_RATE)
    of_training, of_use = (
        torch.compile(each, dynamic=False) if compile_ else each for each in (trained, used)
    )

    def finish(made: Any) -> Any:
        if where.type == "cuda":
            torch.cuda.synchronize()
        return made

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return finish(of_use(x.to(type_)))

    def train(x: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where.type, type_, enabled=type_ != torch.float32):
            outputs = of_training(x)
        value = sum(torch.tanh(each.float()).mean() for each in outputs)
        value.backward()
        optimizer.step()
        return finish(value.item())

    def place(x: "np.ndarray") -> Any:
        return torch.from_numpy(x).to(where)

    return Side(place, {"forward": forward, "train": train}, gflop, peer=True)


def sides_of(samples: int, device: str, dtype: str, compile_: bool) -> dict[str, Side]:
    """The generator on all sides, with the same weights."""
    import jax
    import jax.numpy as jnp
    import torch

    from benchmarks.torch_twins import TorchWaveUNet
    from jaxser import models
    from jaxser.victims.key_tables.entries import from_torch
    from jaxser.victims.key_tables.wave_unet import wave_unet_table

    module: Any = models.build("waveunet", num_samples=samples, dtype=dtype)
    torch.manual_seed(0)
    twin = TorchWaveUNet(samples, module.input_samples, module.output_samples)
    if twin.right >= samples:
        raise UsageError(
            f"waveforms of {samples} samples are too short for PyTorch, which is to reflect "
            f"{twin.right} of them at the end; give more --seconds, such as 1."
        )
    state = {key: tensor.numpy().copy() for key, tensor in twin.state_dict().items()}
    variables = jax.tree.map(jnp.asarray, from_torch(state, wave_unet_table()))
    sides = {"torch": torch_side(twin, device, dtype, False, gflop_of(module))}
    if compile_:
        sides["torch compiled"] = torch_side(twin, device, dtype, True, gflop_of(module))
    for padding in ("valid", "same"):
        sides[f"jaxser {padding}"] = jax_side(module.clone(padding=padding), variables)
    return sides
