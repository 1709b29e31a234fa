"""The image victims of Echim et al. beside the same ones in PyTorch.

    python -m benchmarks.images
    python -m benchmarks.images --victims alexnet levit-256 --tasks forward step --sizes 8
    python -m benchmarks.images --tasks pipeline
    python -m benchmarks.images --device gpu --dtype bfloat16 --compile

Same weights, same images, as many threads or the same GPU. "forward" and "gradient" (of the loss,
by the images: what a step of an attack needs) are in evaluation mode, "step" is a training step:
forward, gradients by all parameters, Adam with an L2 penalty, batch norm by the batch, dropout. It
has no batch of 1, over which some batch norms have no variance. "pipeline" goes from a second of
speech to logits, with the network's image of a spectrogram between: beside librosa, matplotlib and
PyTorch. Both sides have the same batch sizes and take turns within one run; a ratio is that of two
neighbouring turns. Compilation is not counted, and given apart as the first call. Before anything
is timed the logits are compared. FLOP are counted by PyTorch, of the network alone. Inputs are on
the device before a turn begins. On a busy machine ``--threads 1 --clock processor`` counts the
seconds that this process had a core for.
"""

import dataclasses
import functools
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.command import (
    add_clock,
    add_threads_and_out,
    add_turns,
    check_clock,
    command_parser,
    write_measured,
)
from benchmarks.image_pipeline import KINDS, pipeline_sides, waveforms
from benchmarks.image_sides import VICTIMS, Setting, draw, sides_of
from benchmarks.machine import on_equal_terms
from benchmarks.turns import CLOCKS, ratios, rows_per_second, spread, take_turns, timed
from jaxser.runtime.errors import UsageError, report_errors

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.generator_sides import Side

TASKS = ("forward", "gradient", "step", "pipeline")
SIZES = [1, 8, 32]
# At 32 a step of one of these takes minutes on a CPU.
LARGE = ("vgg16", "vit-b16", "cvt-21")
LARGE_SIZES = [1, 8]
PIPELINE_VICTIMS = ["alexnet", "levit-256"]
# Seconds by a clock that a turn goes on for at least, as a short call's time is a matter of luck.
AT_LEAST = {"wall": 1.0, "processor": 0.3}

# How far logits may be apart, relative to the largest. In a pipeline a level that is rounded two
# ways has a colour that is one of 256 further.
APART = {"float32": 1e-3, "bfloat16": 0.1}
PIPELINE_APART = 0.05


@dataclasses.dataclass(frozen=True)
class Measured:
    """One task of one victim on one side at one batch size; lists have one value per turn."""

    model: str
    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of jaxser to this side
    gflop_per_row: float
    first_s: float  # of the first call, which compiles
    apart: float | None  # largest difference from jaxser's result, relative to the largest value

    def line(self) -> str:
        rate = statistics.median(self.rows_per_s)
        apart = "" if self.apart is None else f"{self.apart:.1e}"
        return (
            f"{self.model:14} {self.task:16} {self.side:28} {self.batch:3} {rate:8.2f} "
            f"{rate * self.gflop_per_row:9.1f}  {spread(self.ratios, width=5):22} "
            f"{self.first_s:6.1f}  {apart}"
        )


HEADER = (
    f"{'victim':14} {'task':16} {'side':28} {'':3} {'rows/s':>8} {'GFLOP/s':>9}  "
    f"{'jaxser ÷ side':22} first call, s  apart"
)


def measure(
    model: str,
    task: str,
    sides: "dict[str, Side]",
    x: "np.ndarray",
    *,
    pairs: int,
    limit: float,
    clock: str = "wall",
) -> list[Measured]:
    """Take turns at ``task`` with all rows of ``x``.

    Args:
      model, task: names.
      sides: that do it.
      x: inputs.
      pairs: turns of each side.
      limit: how far logits may be apart, relative to the largest.
      clock: one of ``CLOCKS``.

    Raises:
      RuntimeError: logits are apart by more than ``limit``.
    """
    placed = {name: side.place(x) for name, side in sides.items()}
    read, at_least = CLOCKS[clock], AT_LEAST[clock]
    first = {
        name: timed(functools.partial(side.runs[task], placed[name]), read)
        for name, side in sides.items()
    }
    apart: dict[str, float | None] = dict.fromkeys(sides)
    if task != "step":  # which draws other dropouts
        own = _array(first["jaxser"][1], sides["jaxser"])
        for name, side in sides.items():
            its = _array(first[name][1], side)
            far = float(abs(own - its).max() / abs(its).max())
            apart[name] = far
            # NaN is no rounding either.
            if task != "gradient" and not far <= limit:
                raise RuntimeError(
                    f"{model}, {task}: logits of {name} are {far:.1e} apart from jaxser's, "
                    f"{limit:g} at most is rounding; the two do not compute the same."
                )
    rates = take_turns(
        {
            name: functools.partial(rows_per_second, side.runs[task], placed[name], at_least, read)
            for name, side in sides.items()
        },
        pairs,
    )
    return [
        Measured(
            model=model,
            task=task,
            side=name,
            batch=len(x),
            rows_per_s=rates[name],
            ratios=ratios(rates["jaxser"], rates[name]),
            gflop_per_row=side.gflop[task],
            first_s=first[name][0],
            apart=apart[name],
        )
        for name, side in sides.items()
    ]


def _array(found: Any, side: "Side") -> "np.ndarray":
    """Logits, or gradients with channels last."""
    import numpy as np

    if side.peer:
        found = found.float().cpu().numpy()
        found = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
    return np.asarray(found, np.float64)


def images(rows: int, size: int) -> "np.ndarray":
    """Smooth and rough ones in [0, 1]; ``[rows, size, size, 3]``."""
    import numpy as np

    wave = np.sin(np.linspace(0, 9, size))[:, None] * np.cos(np.linspace(1, 5, size))[None]
    rough = np.random.default_rng(0).uniform(0, 0.5, (rows, size, size, 3))
    smooth = 0.25 + 0.25 * wave[None, :, :, None] * np.array([1.0, -1.0, 0.5])
    return (rough + smooth).astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("images", __doc__)
    parser.add_argument(
        "--victims",
        nargs="+",
        choices=list(VICTIMS),
        metavar="NAME",
        help=f"default: all, of a pipeline {' and '.join(PIPELINE_VICTIMS)}",
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS[:3]), choices=TASKS)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        help=f"batch sizes (default: 1 8 32; on a CPU 1 8 for {', '.join(LARGE)})",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=list(APART),
        help="of products and convolutions on both sides",
    )
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument(
        "--channels_last", action="store_true", help="also PyTorch with that memory format"
    )
    add_clock(parser)
    add_turns(parser, 5)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    check_clock(args.clock, args.threads, args.device)
    busy = on_equal_terms(args.device, args.threads)
    _run(args, busy)
    return 0


def _run(args: Any, busy: float) -> None:
    """Measure, print and write what was asked for."""
    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    setting = Setting(args.device, args.dtype, args.compile, args.channels_last)
    if "pipeline" in args.tasks and args.dtype != "float32":
        raise UsageError("a pipeline is compared in float32; leave out --dtype.")
    options = {"pairs": args.pairs, "clock": args.clock}
    print(HEADER)
    everything: list[Measured] = []

    def add(found: list[Measured]) -> None:
        for measured in found:
            print(measured.line(), flush=True)
            everything.append(measured)
        # After every size, as the next one can run out of memory or of time.
        write_measured(args, busy, everything, dtype=args.dtype)

    for name in args.victims or list(VICTIMS):
        piped = "pipeline" in args.tasks and name in (args.victims or PIPELINE_VICTIMS)
        tasks = [task for task in args.tasks if task != "pipeline" or piped]
        if not tasks:
            continue
        pair = draw(name, args.dtype)
        sizes = args.sizes or (LARGE_SIZES if name in LARGE and args.device == "cpu" else SIZES)
        x = images(max(sizes), pair.module.image_size)
        for task in tasks:
            if task == "pipeline":
                speech = waveforms(max(sizes))
                for kind in KINDS:
                    sides = pipeline_sides(pair, kind, setting, speech)
                    for size in sizes:
                        told = f"pipeline, {kind}"
                        part = speech[:size]
                        limit = PIPELINE_APART
                        add(measure(name, told, sides, part, limit=limit, **options))
                continue
            sides = sides_of(pair, task, setting)
            for size in sizes:
                if task != "step" or size > 1:
                    limit = APART[args.dtype]
                    add(measure(name, task, sides, x[:size], limit=limit, **options))
            del sides  # and the memory of what was trained


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
