"""Forward passes and input gradients of wav2vec 2.0 and WavLM, beside transformers in PyTorch.

    python -m benchmarks.foundation
    python -m benchmarks.foundation --models wav2vec2-base --seconds 6 --sizes 1 2 --pairs 5

Both sides have the same weights (drawn here, written by jaxser.export's writer and loaded by
transformers), the same waveforms and as many threads. transformers runs with its eager attention
and with SDPA; ``--compile`` adds torch.compile. Each side runs at the best of the batch sizes for
the task, which is found first; they take turns within one run, and a ratio is that of two
neighbouring turns. Compilation is not counted. FLOP are counted from the architecture.
"""

import dataclasses
import functools
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.command import add_threads_and_out, add_turns, command_parser, write_report
from benchmarks.machine import hold_to_threads
from benchmarks.turns import best_batch, ratios, rows_per_second, spread, take_turns
from jaxser.runtime.errors import report_errors

if TYPE_CHECKING:
    import numpy as np

    from jaxser.models.speech_transformer import SpeechTransformer
    from jaxser.models.transformer.configuration import SpeechConfig

CLASSES = 7
TASKS = ("forward", "gradient")

# From a batch of waveforms to what the task asks for, on the host or the device, finished.
Run = Callable[["np.ndarray"], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One task of one model at one length on one side; lists have one value per turn."""

    model: str
    seconds: float
    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of jaxser to this side
    gflop_per_row: float
    apart: float  # largest difference of the result from jaxser's, relative to the largest value

    def line(self) -> str:
        rate = statistics.median(self.rows_per_s)
        return (
            f"{self.model:14} {self.seconds:4.1f} s {self.task:9} {self.side:14} {self.batch:3} "
            f"{rate:8.3f} {rate * self.gflop_per_row:9.1f}  {spread(self.ratios, width=5)}  "
            f"{self.apart:.1e}"
        )


HEADER = (
    f"{'model':14} {'':6} {'task':9} {'side':14} {'batch':3} {'rows/s':>6} {'GFLOP/s':>9}  "
    "jaxser ÷ side (min–max)  apart"
)


def import_transformers() -> ModuleType:
    """transformers, also beside a torchvision that was built for another torch."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    import transformers

    return transformers


def forward_flop(config: "SpeechConfig", samples: int) -> float:
    """Multiplications and additions of one row's forward pass, in matrix products alone."""
    total, frames, inputs = 0.0, samples, 1
    for features, size, stride in zip(
        config.conv_dim, config.conv_kernel, config.conv_stride, strict=True
    ):
        frames = (frames - size) // stride + 1
        total += 2.0 * frames * size * inputs * features
        inputs = features
    width, inner = config.hidden_size, config.intermediate_size
    total += 2.0 * frames * inputs * width
    group = width // config.num_conv_pos_embedding_groups
    total += 2.0 * frames * config.num_conv_pos_embeddings * group * width
    block = 8.0 * frames * width**2 + 4.0 * frames**2 * width + 4.0 * frames * width * inner
    return total + config.num_hidden_layers * block


def jax_runs(module: "SpeechTransformer", variables: Any) -> dict[str, Run]:
    """Our side; compiled once per shape."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def logits(x: Any) -> jax.Array:
        return jnp.asarray(module.apply(variables, x))

    forward = jax.jit(logits)
    gradient = jax.jit(jax.grad(lambda x: logits(x)[:, 0].sum()))
    return {
        "forward": lambda x: np.asarray(forward(x)),
        "gradient": lambda x: np.asarray(gradient(x)),
    }


def torch_runs(folder: Path, attention: str, normalise: bool, compiled: bool) -> dict[str, Run]:
    """transformers' side."""
    import torch

    transformers = import_transformers()
    model = transformers.AutoModelForAudioClassification.from_pretrained(
        folder, attn_implementation=attention
    ).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    logits_of = torch.compile(model) if compiled else model

    def logits(x: Any) -> Any:
        if normalise:
            x = x - x.mean(dim=1, keepdim=True)
            x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-7)
        return logits_of(x).logits

    def forward(x: "np.ndarray") -> Any:
        with torch.no_grad():
            return logits(torch.from_numpy(x)).numpy()

    def gradient(x: "np.ndarray") -> Any:
        tensor = torch.from_numpy(x).requires_grad_()
        (found,) = torch.autograd.grad(logits(tensor)[:, 0].sum(), tensor)
        return found.numpy()

    return {"forward": forward, "gradient": gradient}


def sides_of(name: str, attentions: list[str], compiled: bool) -> tuple[dict[str, Any], Any]:
    """Side → task → run, with the same weights; and the architecture."""
    import jax
    import jax.numpy as jnp

    from jaxser import models
    from jaxser.victims.hugging_face.writing import write_pretrained

    module: Any = models.build(name, CLASSES)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16_000)))
    sides = {"jaxser": jax_runs(module, variables)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        labels = [f"class{i}" for i in range(CLASSES)]
        write_pretrained(module, jax.device_get(variables), labels, out)
        for attention in attentions:
            if attention == "sdpa" and module.config.model_type == "wavlm":
                continue  # transformers has none for it
            sides[f"torch {attention}"] = torch_runs(
                out, attention, module.config.do_normalize, compiled=False
            )
        if compiled:
            sides["torch compiled"] = torch_runs(
                out, "eager", module.config.do_normalize, compiled=True
            )
    return sides, module.config


def compare(
    name: str, seconds: float, sides: dict[str, Any], config: Any, sizes: list[int], pairs: int
) -> list[Measured]:
    """Take turns at every task."""
    import numpy as np

    samples = round(seconds * config.sampling_rate)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (max(sizes), samples)).astype(np.float32)
    measured = []
    for task in TASKS:
        batch = {side: best_batch(runs[task], x, sizes) for side, runs in sides.items()}
        reference = sides["jaxser"][task](x[:1])
        rates = take_turns(
            {
                side: functools.partial(rows_per_second, runs[task], x[: batch[side]])
                for side, runs in sides.items()
            },
            pairs,
        )
        # An input gradient costs a forward pass and the products by the inputs: as much again.
        flop = forward_flop(config, samples) * (1 if task == "forward" else 2)
        for side, runs in sides.items():
            apart = np.abs(runs[task](x[:1]) - reference).max() / np.abs(reference).max()
            measured.append(
                Measured(
                    model=name,
                    seconds=seconds,
                    task=task,
                    side=side,
                    batch=batch[side],
                    rows_per_s=rates[side],
                    ratios=ratios(rates["jaxser"], rates[side]),
                    gflop_per_row=flop / 1e9,
                    apart=float(apart),
                )
            )
    return measured


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("foundation", __doc__)
    parser.add_argument(
        "--models", nargs="+", default=["wav2vec2-base", "wavlm-base"], metavar="NAME"
    )
    parser.add_argument("--seconds", nargs="+", type=float, default=[6.0, 8.7])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4], help="batch sizes")
    parser.add_argument("--attentions", nargs="+", default=["eager", "sdpa"], metavar="NAME")
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    add_turns(parser, 3)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    busy = hold_to_threads(args.threads)

    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    print(HEADER)
    everything = []
    for name in args.models:
        sides, config = sides_of(name, args.attentions, args.compile)
        for seconds in args.seconds:
            for measured in compare(name, seconds, sides, config, args.sizes, args.pairs):
                print(measured.line(), flush=True)
                everything.append(measured)
    write_report(
        args.out,
        busy,
        args.threads,
        pairs=args.pairs,
        measured=[dataclasses.asdict(each) for each in everything],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
