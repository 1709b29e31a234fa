"""STAA-Net's generator beside the same one in PyTorch: perturbations and training steps per second.

    python -m benchmarks.generator
    python -m benchmarks.generator --seconds 6 --sizes 1 4 --pairs 5 --out generator.json
    python -m benchmarks.generator --device gpu --dtype bfloat16 --compile

Same weights, same waveforms, as many threads or the same GPU. "forward" makes both outputs, at the
best of the batch sizes (found first) and at batch 1; "train" is forward, gradients by all
parameters of a mean of both squashed outputs, and Adam, at the best of its batch sizes. The sides
take turns within one run, and a ratio is that of two neighbouring turns, to the fastest of
PyTorch's sides; compilation is not counted, and given apart. FLOP are counted from the
architecture. PyTorch has the published padding only, so "same" is compared with that. Waveforms
are on the device before a turn begins, and what is made stays there.

"attack" makes whole adversarial examples with jaxser alone: by STAA-Net, and by PGD with 20 steps
on each of the --threats, at the same batch sizes; the ratio is to the fastest PGD. Weights are
drawn, which changes no time. FLOP of PGD are XLA's count of its gradients, in which a recurrent
layer has one step.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import (
    best_batch,
    on_equal_terms,
    rows_per_second,
    seconds_of,
    write_report,
)
from jaxser.runtime.errors import UsageError, report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.models.wave_unet import WaveUNet

SAMPLE_RATE = 16_000
CLASSES = 7
LEARNING_RATE = 1e-4  # of the paper
EPSILON = 0.05  # of the paper
PGD_STEPS = 20  # of the paper
TASKS = ("forward", "train", "attack")
SIZES = {"cpu": [1, 2, 4], "gpu": [1, 8, 32]}
TRAIN_SIZES = {"cpu": [1, 2, 4], "gpu": [8, 32]}
TURN_SECONDS = 1.0  # at least, as a short call's time is a matter of luck

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


@dataclasses.dataclass(frozen=True)
class Measured:
    """One task of one side at one batch size; lists have one value per turn."""

    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of this side to the fastest of its peers
    gflop_per_row: float
    first_s: float  # of the first call, which compiles

    def line(self) -> str:
        rate = statistics.median(self.rows_per_s)
        return (
            f"{self.task:8} {self.side:22} {self.batch:5} {rate:8.3f} "
            f"{rate * self.gflop_per_row:9.1f}  {statistics.median(self.ratios):5.2f} "
            f"({min(self.ratios):.2f}–{max(self.ratios):.2f})  {self.first_s:6.1f}"
        )


HEADER = (
    f"{'task':8} {'side':22} {'batch':5} {'rows/s':>8} {'GFLOP/s':>9}  side ÷ peer (min–max)  "
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


def attack_sides(samples: int, dtype: str, threats: Sequence[str]) -> dict[str, Side]:
    """Whole attacks: STAA-Net's, and PGD on every threat model."""
    import jax
    import jax.numpy as jnp

    from jaxser import models
    from jaxser.attacks import StaaNet
    from jaxser.attacks.generator import Generator
    from jaxser.models.wave_unet import example_inputs, prepare
    from jaxser.victims.victim import evaluation_logits

    module: Any = models.build("waveunet", num_samples=samples, dtype=dtype, padding="same")
    variables = prepare(module, drawn(module, *example_inputs(module)))
    labels = tuple(f"class{i}" for i in range(CLASSES))
    limits = (EPSILON, EPSILON)
    generator = Generator(module.apply, variables, samples, SAMPLE_RATE, labels, limits)
    staa = StaaNet(generator=generator)

    def made(variables: Any, x: Any) -> Any:
        return attacked(staa.with_variables(variables), lambda x: jnp.zeros((len(x), CLASSES)), x)

    run = jax.jit(made)
    sides = {
        "jaxser STAA-Net": Side(
            jnp.asarray,
            {"attack": lambda x: jax.block_until_ready(run(variables, x))},
            gflop_of(module),
        )
    }
    x = jnp.zeros((1, samples))
    for threat in threats:
        victim = models.build(threat, CLASSES)
        weights = drawn(victim, x)
        sides[f"jaxser PGD-{PGD_STEPS} on {threat}"] = pgd_side(
            evaluation_logits(victim), weights, x
        )
    return sides


def on_cpu() -> Any:
    """A context in which JAX uses the CPU, whatever else there is."""
    import jax

    return jax.default_device(jax.local_devices(backend="cpu")[0])


def drawn(module: Any, *inputs: Any) -> Any:
    """A model's first variables; made on the CPU, for which they are compiled sooner."""
    import jax

    with on_cpu():
        variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    return jax.device_put(variables, jax.local_devices()[0])


def pgd_side(logits: Callable[[Any, Any], Any], weights: Any, x: Any) -> Side:
    """PGD on one threat model; ``x`` is a waveform of the length."""
    import jax
    import jax.numpy as jnp

    from jaxser.attacks import PGD

    pgd = PGD(steps=PGD_STEPS)
    run = jax.jit(lambda weights, x: attacked(pgd, functools.partial(logits, weights), x))
    gradient = jax.jit(jax.grad(lambda x, weights: logits(weights, x)[:, 0].sum()))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (x, weights))
    with on_cpu():  # the only compiler that counts what it has not compiled
        counted: Any = gradient.lower(*shapes).cost_analysis()
    runs = {"attack": lambda x: jax.block_until_ready(run(weights, x))}
    return Side(jnp.asarray, runs, {"attack": PGD_STEPS * counted["flops"] / 1e9}, peer=True)


def attacked(attack: Any, logits: Callable[[Any], Any], x: Any) -> Any:
    """What ``attack`` makes of waveforms ``x``, all its steps in one program."""
    import jax
    import jax.numpy as jnp

    from jaxser.attacks.base import row_keys

    rows = jnp.arange(len(x), dtype=jnp.uint32)
    epsilon = jnp.full(len(x), EPSILON)
    keys = row_keys(jax.random.key(0), rows)
    state = attack.init(logits, keys, x, jnp.zeros(len(x), jnp.int32), epsilon)
    steps = attack.max_steps
    return jax.lax.fori_loop(0, steps, lambda _, state: attack.step(logits, state), state).x_adv


def measure(
    task: str, sides: dict[str, Side], x: "np.ndarray", sizes: list[int], pairs: int
) -> list[Measured]:
    """Take turns at ``task``, every side at the best of the batch sizes for it."""
    placed = {name: side.place(x) for name, side in sides.items()}
    first, batch = {}, {}
    for name, side in sides.items():
        run = side.runs[task]
        first[name] = seconds_of(run, placed[name][: sizes[0]])
        batch[name] = best_batch(run, placed[name], sizes, TURN_SECONDS)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, side in sides.items():
            rows = placed[name][: batch[name]]
            rates[name].append(rows_per_second(side.runs[task], rows, TURN_SECONDS))
    peers = [rates[name] for name, side in sides.items() if side.peer]
    fastest = [max(turn) for turn in zip(*peers, strict=True)]
    return [
        Measured(
            task=task,
            side=name,
            batch=batch[name],
            rows_per_s=rates[name],
            ratios=[mine / its for mine, its in zip(rates[name], fastest, strict=True)],
            gflop_per_row=side.gflop[task],
            first_s=first[name],
        )
        for name, side in sides.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--device", default="cpu", choices=list(SIZES))
    parser.add_argument(
        "--sizes", nargs="+", type=int, help="batch sizes (default: 1 2 4, on a GPU 1 8 32)"
    )
    parser.add_argument(
        "--train_sizes",
        nargs="+",
        type=int,
        help="of a training step (default: 1 2 4, on a GPU 8 32)",
    )
    parser.add_argument("--tasks", nargs="+", default=["forward", "train"], choices=TASKS)
    parser.add_argument(
        "--threats",
        nargs="+",
        default=["emo18"],
        metavar="NAME",
        help="models that PGD attacks, for --tasks attack",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16"],
        help="of the convolutions on both sides",
    )
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--pairs", type=int, default=5, help="counted turns of each side")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    busy = on_equal_terms(args.device, args.threads)

    import numpy as np

    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    samples = round(args.seconds * SAMPLE_RATE)
    sizes = args.sizes or SIZES[args.device]
    train_sizes = args.train_sizes or TRAIN_SIZES[args.device]
    x = np.random.default_rng(0).normal(0, 0.1, (max(*sizes, *train_sizes), samples))
    x = x.astype(np.float32)
    print(HEADER)
    everything: list[Measured] = []

    def take_turns(task: str, sides: dict[str, Side], sizes: list[int]) -> None:
        for measured in measure(task, sides, x, sizes, args.pairs):
            print(measured.line(), flush=True)
            everything.append(measured)
        # After every task, as the next one can run out of memory or of time.
        if args.out is not None:
            write_report(
                args.out,
                busy,
                args.threads,
                seconds=args.seconds,
                dtype=args.dtype,
                measured=[dataclasses.asdict(each) for each in everything],
            )

    if "forward" in args.tasks or "train" in args.tasks:
        sides = sides_of(samples, args.device, args.dtype, args.compile)
        if "forward" in args.tasks:
            # Batch 1 last: its calls are short, and the first ones of a process are not at their
            # best.
            if sizes != [1]:
                take_turns("forward", sides, sizes)
            take_turns("forward", sides, [1])
        if "train" in args.tasks:
            take_turns("train", sides, train_sizes)
        del sides  # and the memory of its weights
    if "attack" in args.tasks:
        sides = attack_sides(samples, args.dtype, args.threats)
        for size in sizes:
            take_turns("attack", sides, [size])
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
