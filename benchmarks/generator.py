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

import dataclasses
import functools
import statistics
from typing import TYPE_CHECKING

from benchmarks.command import add_threads_and_out, add_turns, command_parser, write_report
from benchmarks.generator_attacks import SAMPLE_RATE, attack_sides
from benchmarks.generator_sides import Side, sides_of
from benchmarks.machine import on_equal_terms
from benchmarks.turns import best_batch, ratios, rows_per_second, seconds_of, spread, take_turns
from jaxser.runtime.errors import report_errors

if TYPE_CHECKING:
    import numpy as np

TASKS = ("forward", "train", "attack")
SIZES = {"cpu": [1, 2, 4], "gpu": [1, 8, 32]}
TRAIN_SIZES = {"cpu": [1, 2, 4], "gpu": [8, 32]}
TURN_SECONDS = 1.0  # at least, as a short call's time is a matter of luck


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
            f"{rate * self.gflop_per_row:9.1f}  {spread(self.ratios, width=5)}  {self.first_s:6.1f}"
        )


HEADER = (
    f"{'task':8} {'side':22} {'batch':5} {'rows/s':>8} {'GFLOP/s':>9}  side ÷ peer (min–max)  "
    "first call, s"
)


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
    rates = take_turns(
        {
            name: functools.partial(
                rows_per_second, side.runs[task], placed[name][: batch[name]], TURN_SECONDS
            )
            for name, side in sides.items()
        },
        pairs,
    )
    peers = [rates[name] for name, side in sides.items() if side.peer]
    fastest = [max(turn) for turn in zip(*peers, strict=True)]
    return [
        Measured(
            task=task,
            side=name,
            batch=batch[name],
            rows_per_s=rates[name],
            ratios=ratios(rates[name], fastest),
            gflop_per_row=side.gflop[task],
            first_s=first[name],
        )
        for name, side in sides.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("generator", __doc__)
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
    add_turns(parser, 5)
    add_threads_and_out(parser)
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
