"""Training steps against attacks, beside torch with torchattacks inside; and what they cost.

    python -m benchmarks.adversarial --threads 1 --clock processor
    python -m benchmarks.adversarial --victims emo18 --tasks clean pgd10 --batch 16

Same weights, same inputs, as many threads. A step attacks all rows of a batch in evaluation mode
and then updates by Adam with an L2 penalty: "fgsm", "pgd2" and "pgd10" (from the clean input, so
that both sides do the same), beside a "clean" step. Emo18 reads 2 s of speech, LeViT-256 images;
torchattacks gets speech as an image in [0, 1] of one row, as it knows no other. Both sides take
turns within one run, and a turn is a step after one that is not counted; a ratio is that of two
neighbouring turns, a cost that of a step over the clean step of its own side in the same round.
Before anything is timed the losses of two steps are compared. Compilation is not counted, and given
apart. On a busy machine ``--threads 1 --clock processor`` counts the seconds that this process had
a core for.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.command import (
    add_clock,
    add_threads_and_out,
    add_turns,
    check_clock,
    command_parser,
    write_measured,
)
from benchmarks.images import images
from benchmarks.machine import on_equal_terms
from benchmarks.turns import CLOCKS, ratios, spread, take_turns, timed
from jaxser.runtime.errors import UsageError, report_errors

if TYPE_CHECKING:
    import numpy as np

CLASSES, SAMPLES = 7, 32_000
LEARNING_RATE, L2 = 1e-4, 1e-3
VICTIMS = ("emo18", "levit-256")

# Task -> steps of the attack; FGSM is one of the whole budget.
TASKS = {"clean": 0, "fgsm": 1, "pgd2": 2, "pgd10": 10}

# Of waveforms in (-1, 1), and of images in [0, 1].
EPSILON = {"emo18": 0.002, "levit-256": 8 / 255}

# How far the losses of the first two steps may be apart, relative to them.
APART = 1e-2

Step = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Measured:
    """Steps of one victim on one side; lists have one value per round."""

    model: str
    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of jaxser to this side
    cost: list[float]  # seconds over those of the side's clean step in the same round
    first_s: float  # to compile; 0 where nothing is
    apart: float  # of the losses of two steps, relative

    def line(self) -> str:
        return (
            f"{self.model:10} {self.task:11} {self.side:20} {self.batch:3} "
            f"{statistics.median(self.rows_per_s):8.2f}  {spread(self.ratios):20} "
            f"{spread(self.cost):20} {self.first_s:6.1f}  {self.apart:.1e}"
        )


HEADER = (
    f"{'victim':10} {'task':11} {'side':20} {'':3} {'rows/s':>8}  {'jaxser ÷ side':20} "
    f"{'step ÷ clean step':20} compile, s  apart"
)
PEER = "torch, torchattacks"


@dataclasses.dataclass(frozen=True)
class Twins:
    """A victim on both sides, and a batch.

    Attributes:
      model, variables: ours.
      twin: torch's, of inputs as torchattacks takes them: ``[batch, ...]`` in [0, 1].
      x, y: the batch, ours.
      bounds: of our inputs.
      images: from our inputs to torch's.
      scale: of torch's inputs over ours, and so of ε.
    """

    model: Any
    variables: Any
    twin: Any
    x: "np.ndarray"
    y: "np.ndarray"
    bounds: tuple[float, float]
    images: Callable[["np.ndarray"], "np.ndarray"]
    scale: float


def twins_of(victim: str, batch: int) -> Twins:
    """The victim with weights that are drawn here."""
    import numpy as np

    y = (np.arange(batch) % CLASSES).astype(np.int32)
    if victim != "emo18":
        from benchmarks.image_sides import draw

        pair = draw(victim, "float32")
        x = images(batch, pair.module.image_size)
        channels_first = functools.partial(np.transpose, axes=(0, 3, 1, 2))
        return Twins(pair.module, pair.variables, pair.twin, x, y, (0.0, 1.0), channels_first, 1.0)
    import torch

    from benchmarks.torch_twins import fresh_twin, table_of
    from jaxser import models
    from jaxser.victims.key_tables.entries import from_torch

    class Speech(torch.nn.Module):
        """Of waveforms in (-1, 1) as an image of one row."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(2.0 * x[:, 0, 0] - 1.0)

    torch.manual_seed(0)
    network = fresh_twin(victim, CLASSES)
    for name, parameter in network.named_parameters():
        # Our LSTM has one bias.
        if "bias_hh" in name:
            parameter.data.zero_()
            parameter.requires_grad_(False)
    state = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}
    time = np.arange(SAMPLES)[None] / 16_000
    hum = np.sin(2 * np.pi * 100.0 * (1 + y[:, None]) * time)
    noise = np.random.default_rng(0).normal(size=hum.shape)
    return Twins(
        models.build(victim, CLASSES),
        from_torch(state, table_of(victim)),
        Speech(network),
        (0.1 * hum + 0.03 * noise).astype(np.float32),
        y,
        (-1.0, 1.0),
        lambda x: (x[:, None, None] + 1.0) / 2.0,
        0.5,
    )


def jaxser_step(twins: Twins, task: str, epsilon: float) -> tuple[Step, float]:
    """A step that returns its loss, and the seconds to compile it."""
    import jax
    import jax.numpy as jnp

    from jaxser.attacks import FGSM, PGD
    from jaxser.config import TrainingConfig
    from jaxser.runtime.sharding import make_mesh
    from jaxser.training.adversarial import Defence, adversarial_parts
    from jaxser.training.adversarial_update import adversarial_update
    from jaxser.training.optimizer import make_optimizer
    from jaxser.training.victim import init_state, make_train_step

    settings = TrainingConfig(learning_rate=LEARNING_RATE, weight_decay=L2, schedule="constant")
    optimizer = make_optimizer(settings, steps_per_epoch=1)
    variables = jax.tree.map(jnp.array, dict(twins.variables))
    state = init_state(
        twins.model, optimizer, jax.random.key(0), twins.x.shape[1:], CLASSES, pretrained=variables
    )
    batch = {"x": jnp.asarray(twins.x), "y": jnp.asarray(twins.y)}
    arguments: tuple[Any, ...] = (state, batch)
    if task == "clean":
        step = make_train_step(twins.model, optimizer, jax.random.key(0))
        program: Any = jax.jit(step, donate_argnums=0)
    else:
        steps = TASKS[task]
        attack = (
            FGSM(bounds=twins.bounds)
            if task == "fgsm"
            else PGD(steps=steps, relative_step_size=0.25, random_start=False, bounds=twins.bounds)
        )
        defence = Defence(attack, lambda variables, x: x)
        parts = adversarial_parts(twins.model, optimizer, jax.random.key(0), defence)
        # As training does it, which on a CPU is several programs.
        program = adversarial_update(parts, make_mesh(jax.local_devices()[:1]))
        arguments = (state, batch, jnp.full(2, epsilon))

    def run() -> float:
        nonlocal arguments
        before = float(arguments[0].metrics.loss)
        arguments = (jax.block_until_ready(program(*arguments)), *arguments[1:])
        return float(arguments[0].metrics.loss) - before

    # On copies, as the buffers of a state are taken over: the steps that count begin afresh.
    after, *others = jax.tree.map(jnp.copy, arguments)
    seconds = []
    for _ in range(2):
        step_now = functools.partial(program, after, *others)
        spent, after = timed(lambda step=step_now: jax.block_until_ready(step()))  # type: ignore
        seconds.append(spent)
    return run, max(seconds[0] - seconds[1], 0.0)


def torch_step(twins: Twins, task: str, epsilon: float) -> Step:
    """The same in torch, with torchattacks' attack."""
    import copy

    import torch
    import torchattacks

    model = copy.deepcopy(twins.twin).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, LEARNING_RATE, weight_decay=L2)
    x = torch.from_numpy(twins.images(twins.x).copy())
    y = torch.from_numpy(twins.y).long()
    eps, steps = twins.scale * epsilon, TASKS[task]
    attack: Any = None
    if task == "fgsm":
        attack = torchattacks.FGSM(model, eps=eps)
    elif task != "clean":
        attack = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=steps, random_start=False)

    def run() -> float:
        inputs = x if attack is None else attack(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(inputs), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return run


def measure(
    victim: str, tasks: list[str], batch: int, pairs: int, clock: str
) -> Iterator[Measured]:
    """All tasks of a victim; each round has a step of the task and a clean one on both sides.

    Other tasks' programs are not in memory meanwhile, and every timed step follows one of its own
    program that is not: what a step finds in the caches is its own.

    Raises:
      RuntimeError: the losses of the first two steps are apart.
    """
    twins, read = twins_of(victim, batch), CLOCKS[clock]

    def turn(step: Step) -> float:
        step()
        return timed(step, read)[0]

    clean: dict[str, Step] = {}
    for task in tasks:
        sides, compiled, apart = _both(twins, victim, task)
        turns = {("task", side): functools.partial(turn, step) for side, step in sides.items()}
        turns |= {("clean", side): functools.partial(turn, step) for side, step in clean.items()}
        clean = clean or sides
        seconds = take_turns(turns, pairs)
        for side in sides:
            its = seconds["task", side]
            yield Measured(
                model=victim,
                task=f"step, {task}",
                side=side,
                batch=batch,
                rows_per_s=[batch / spent for spent in its],
                ratios=ratios(its, seconds["task", "jaxser"]),
                cost=ratios(its, seconds.get(("clean", side), its)),
                first_s=compiled if side == "jaxser" else 0.0,
                apart=apart,
            )


def _both(twins: Twins, victim: str, task: str) -> tuple[dict[str, Step], float, float]:
    """Steps of both sides, the seconds to compile ours, and how far their losses are apart."""
    own, compiled = jaxser_step(twins, task, EPSILON[victim])
    sides = {"jaxser": own, PEER: torch_step(twins, task, EPSILON[victim])}
    losses = [(own(), sides[PEER]()) for _ in range(2)]
    apart = max(abs(ours - its) / its for ours, its in losses)
    if not apart <= APART:
        raise RuntimeError(
            f"{victim}, {task}: losses of two steps are {losses}, further apart than "
            "rounding; the two do not compute the same."
        )
    return sides, compiled, apart


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("adversarial", __doc__)
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS), choices=VICTIMS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--batch", type=int, default=8)
    add_clock(parser)
    add_turns(parser, 5)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    check_clock(args.clock, args.threads)
    if args.tasks[0] != "clean":
        raise UsageError("costs are over a clean step; give clean as the first of --tasks.")
    busy = on_equal_terms("cpu", args.threads)
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(HEADER)
    everything: list[Measured] = []
    for victim in args.victims:
        for measured in measure(victim, args.tasks, args.batch, args.pairs, args.clock):
            print(measured.line(), flush=True)
            everything.append(measured)
            write_measured(args, busy, everything)
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
