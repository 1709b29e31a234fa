"""STAA-Net's generator beside the same one in PyTorch: perturbations and training steps per second.

    python -m benchmarks.generator
    python -m benchmarks.generator --seconds 6 --sizes 1 4 --pairs 5 --out generator.json

Same weights, same waveforms, as many threads. "forward" makes both outputs, at the best of the
batch sizes (found first) and at batch 1; "train" is forward, gradients by all parameters of a mean
of both squashed outputs, and Adam, at the best of its batch sizes. The sides take turns within one
run, and a ratio is that of two neighbouring turns; compilation is not counted, and given apart.
FLOP are counted from the architecture. PyTorch has the published padding only, so "same" is
compared with that.
"""

import argparse
import dataclasses
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import (
    best_batch,
    hold_to_threads,
    rows_per_second,
    seconds_of,
    write_report,
)
from jaxser.errors import report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.models.wave_unet import WaveUNet

SAMPLE_RATE = 16_000
LEARNING_RATE = 1e-4  # of the paper
TASKS = ("forward", "train")

# Does the task once for a batch of waveforms, to the end.
Run = Callable[["np.ndarray"], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One task of one side at one batch size; lists have one value per turn."""

    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of this side to PyTorch
    gflop_per_row: float
    first_s: float  # of the first call, which compiles

    def line(self) -> str:
        rate = statistics.median(self.rows_per_s)
        return (
            f"{self.task:8} {self.side:13} {self.batch:5} {rate:8.3f} "
            f"{rate * self.gflop_per_row:9.1f}  {statistics.median(self.ratios):5.2f} "
            f"({min(self.ratios):.2f}–{max(self.ratios):.2f})  {self.first_s:6.1f}"
        )


HEADER = (
    f"{'task':8} {'side':13} {'batch':5} {'rows/s':>8} {'GFLOP/s':>9}  side ÷ torch (min–max)  "
    "first call, s"
)


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


def jax_runs(module: "WaveUNet", variables: Any) -> dict[str, Run]:
    """Our side; compiled once per shape."""
    import functools

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jaxser.models.wave_unet import prepare

    forward: Any = jax.jit(module.apply)
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

    def train(x: "np.ndarray") -> float:
        nonlocal state
        state, value = step(state, x)
        jax.block_until_ready(state)
        return float(value)

    return {
        "forward": lambda x: [np.asarray(each) for each in forward(prepared, x)],
        "train": train,
    }


def torch_runs(twin: Any) -> dict[str, Run]:
    """PyTorch's side."""
    import torch

    optimizer = torch.optim.Adam(twin.parameters(), LEARNING_RATE)

    def forward(x: "np.ndarray") -> Any:
        with torch.no_grad():
            return [each.numpy() for each in twin(torch.from_numpy(x))]

    def train(x: "np.ndarray") -> float:
        optimizer.zero_grad(set_to_none=True)
        value = sum(torch.tanh(each).mean() for each in twin(torch.from_numpy(x)))
        value.backward()
        optimizer.step()
        return value.item()

    return {"forward": forward, "train": train}


def sides_of(samples: int, dtype: str) -> tuple[dict[str, dict[str, Run]], dict[str, float]]:
    """Side → task → run on the same weights, and side → GFLOP of a row's forward pass."""
    import jax
    import jax.numpy as jnp
    import torch

    from benchmarks.torch_twins import TorchWaveUNet
    from jaxser import models, params

    module: Any = models.build("waveunet", num_samples=samples, dtype=dtype)
    torch.manual_seed(0)
    twin = TorchWaveUNet(samples, module.input_samples, module.output_samples)
    state = {key: tensor.numpy().copy() for key, tensor in twin.state_dict().items()}
    variables = jax.tree.map(jnp.asarray, params.from_torch(state, params.wave_unet_table()))
    sides, gflop = {"torch": torch_runs(twin)}, {"torch": forward_flop(module) / 1e9}
    for padding in ("valid", "same"):
        ours = module.clone(padding=padding)
        sides[f"jaxser {padding}"] = jax_runs(ours, variables)
        gflop[f"jaxser {padding}"] = forward_flop(ours) / 1e9
    return sides, gflop


def measure(
    task: str,
    sides: dict[str, dict[str, Run]],
    x: "np.ndarray",
    gflop: dict[str, float],
    sizes: list[int],
    pairs: int,
) -> list[Measured]:
    """Take turns at ``task``, every side at the best of the batch sizes for it."""
    first = {side: seconds_of(runs[task], x[: sizes[0]]) for side, runs in sides.items()}
    batch = {side: best_batch(runs[task], x, sizes) for side, runs in sides.items()}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(pairs):
        for side, runs in sides.items():
            rates[side].append(rows_per_second(runs[task], x[: batch[side]]))
    return [
        Measured(
            task=task,
            side=side,
            batch=batch[side],
            rows_per_s=rates[side],
            ratios=[a / b for a, b in zip(rates[side], rates["torch"], strict=True)],
            # Gradients by kernels and by inputs cost a forward pass each.
            gflop_per_row=gflop[side] * (1 if task == "forward" else 3),
            first_s=first[side],
        )
        for side in sides
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4], help="batch sizes")
    parser.add_argument(
        "--train_sizes", nargs="+", type=int, default=[1, 2, 4], help="of a training step"
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--dtype", default="float32", help="of jaxser's convolutions")
    parser.add_argument("--pairs", type=int, default=5, help="counted turns of each side")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    busy = hold_to_threads(args.threads)

    import numpy as np

    from jaxser.compilation import enable_compilation_cache

    enable_compilation_cache()
    sides, gflop = sides_of(round(args.seconds * SAMPLE_RATE), args.dtype)
    rows = max(*args.sizes, *args.train_sizes)
    x = np.random.default_rng(0).normal(0, 0.1, (rows, round(args.seconds * SAMPLE_RATE)))
    x = x.astype(np.float32)
    print(HEADER)
    everything = []

    def take_turns(task: str, sizes: list[int]) -> None:
        for measured in measure(task, sides, x, gflop, sizes, args.pairs):
            print(measured.line(), flush=True)
            everything.append(measured)

    if "forward" in args.tasks:
        # Batch 1 last: its calls are short, and the first ones of a process are not at their best.
        if args.sizes != [1]:
            take_turns("forward", args.sizes)
        take_turns("forward", [1])
    if "train" in args.tasks:
        take_turns("train", args.train_sizes)
    if args.out is not None:
        write_report(
            args.out,
            busy,
            args.threads,
            seconds=args.seconds,
            dtype=args.dtype,
            measured=[dataclasses.asdict(each) for each in everything],
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
