"""Passes under noise per second, as certificates take them, beside PyTorch.

    python -m benchmarks.smoothing
    python -m benchmarks.smoothing --models emo18 --sizes 16 64 --seconds 2
    python -m benchmarks.smoothing --threads 1 --clock processor

Same weights, same speech, same batch, as many threads. "passes" is what a certificate is made of:
draw Gaussian noise, add it to an utterance, take the victim's class, count the classes; of jaxser
with all that python -m jaxser.certify does around it. PyTorch's is the loop of Cohen et al.:
``randn``, the network, ``argmax``, ``bincount``. "noise" is the drawing and adding alone. The
logits of clean speech are compared before anything is timed. Sides take turns within one run; a
ratio is that of two neighbouring turns; compilation is in the first call, which is not counted. On
a busy machine ``--threads 1 --clock processor`` counts the seconds that this process had a core
for.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.command import (
    add_clock,
    add_threads_and_out,
    add_turns,
    check_clock,
    command_parser,
    write_measured,
)
from benchmarks.machine import hold_to_threads
from benchmarks.turns import CLOCKS, ratios, spread, take_turns, timed
from jaxser.runtime.errors import UsageError, report_errors

if TYPE_CHECKING:
    import numpy as np

CLASSES, SAMPLE_RATE, SIGMA = 7, 16_000, 0.01
MODELS = ("emo18", "zhao19")
TASKS = ("passes", "noise")

# How far logits may be apart, relative to the largest.
APART = 1e-3

# So many passes, in batches of so many: returns when all is counted.
Turn = Callable[[int, int], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One task of one model on one side at one batch size; lists have one value per turn."""

    model: str
    seconds: float
    task: str
    side: str
    batch: int
    rows_per_s: list[float]
    ratios: list[float]  # of jaxser to this side
    first_s: float  # of the first call, which compiles
    apart: float  # largest difference of clean logits, relative to the largest

    def line(self) -> str:
        rate = statistics.median(self.rows_per_s)
        return (
            f"{self.model:8} {self.seconds:4g} s {self.task:8} {self.side:8} {self.batch:4} "
            f"{rate:10.1f}  {spread(self.ratios, width=5):22} {self.first_s:6.1f}  {self.apart:.1e}"
        )


HEADER = (
    f"{'model':8} {'speech':>6} {'task':8} {'side':8} {'':4} {'passes/s':>10}  "
    f"{'jaxser ÷ side':22} first call, s  apart"
)


def sides_of(
    name: str, x: "np.ndarray"
) -> tuple[dict[str, dict[str, Turn]], dict[str, "np.ndarray"]]:
    """Each side's turns by task, and its logits of clean speech.

    Args:
      name: of the victim's architecture; its weights are drawn here.
      x: one utterance, ``[1, samples]``.
    """
    import jax
    import jax.numpy as jnp
    import torch

    from benchmarks.torch_twins import fresh_twin, table_of
    from jaxser import models
    from jaxser.driver.noise_counts import noise_votes
    from jaxser.victims.key_tables.entries import from_torch
    from jaxser.victims.smoothing import noisy
    from jaxser.victims.victim import Victim, evaluation_logits

    torch.manual_seed(0)
    twin = fresh_twin(name, CLASSES).eval()
    state = {
        key: tensor.numpy().copy()
        for key, tensor in twin.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    victim = Victim(
        apply=evaluation_logits(models.build(name, CLASSES)),
        variables=jax.tree.map(jnp.asarray, from_torch(state, table_of(name))),
        labels=tuple(map(str, range(CLASSES))),
        input_shape=x.shape[1:],
    )

    def votes(passes: int, batch: int) -> "np.ndarray":
        options: Any = {"sigma": SIGMA, "selection": 1, "samples": passes - 1, "batch_size": batch}
        (found,) = noise_votes(victim, x, **options)
        counts: np.ndarray = found.counts
        return counts

    @jax.jit
    def noise(key: Any, start: Any, batch: Any) -> Any:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, start + batch)
        return noisy(jnp.repeat(jnp.asarray(x), len(batch), axis=0), keys, SIGMA)

    def drawn(passes: int, batch: int) -> None:
        key, places = jax.random.key(0), jnp.arange(batch)
        for start in range(0, passes, batch):
            jax.block_until_ready(noise(key, start, places))

    speech = torch.from_numpy(x)

    def torch_noise(batch: int) -> Any:
        repeated = speech.repeat(batch, 1)
        return repeated + torch.randn_like(repeated) * SIGMA

    @torch.no_grad()
    def torch_votes(passes: int, batch: int) -> "np.ndarray":
        counts = torch.zeros(CLASSES, dtype=torch.int64)
        for _ in range(0, passes, batch):
            answers = twin(torch_noise(batch)).argmax(dim=1)
            counts += torch.bincount(answers, minlength=CLASSES)
        found: np.ndarray = counts.numpy()
        return found

    def torch_drawn(passes: int, batch: int) -> None:
        for _ in range(0, passes, batch):
            torch_noise(batch)

    with torch.no_grad():
        logits = {"torch": twin(speech).numpy()}
    logits["jaxser"] = jax.device_get(victim.logits(jnp.asarray(x)))
    turns = {
        "jaxser": {"passes": votes, "noise": drawn},
        "torch": {"passes": torch_votes, "noise": torch_drawn},
    }
    return turns, logits


def measure(
    name: str, x: "np.ndarray", tasks: list[str], batch: int, passes: int, pairs: int, clock: str
) -> list[Measured]:
    """Take turns at each task.

    Args:
      name: of the victim.
      x: one utterance, ``[1, samples]``.
      tasks: of ``TASKS``.
      batch: passes at a time.
      passes: of a turn, a multiple of ``batch``.
      pairs: turns of each side.
      clock: one of ``CLOCKS``.

    Raises:
      RuntimeError: logits are apart by more than rounding.
    """
    turns, logits = sides_of(name, x)
    own, peer = logits["jaxser"], logits["torch"]
    apart = float(abs(own - peer).max() / abs(peer).max())
    if not apart <= APART:
        raise RuntimeError(f"{name}: logits are {apart:.1e} apart; the two are not the same.")
    read, made = CLOCKS[clock], []
    for task in tasks:
        runs = {side: turns[side][task] for side in turns}
        first = {side: timed(functools.partial(run, batch, batch))[0] for side, run in runs.items()}
        rates = take_turns(
            {
                side: functools.partial(_rate, run, passes, batch, read)
                for side, run in runs.items()
            },
            pairs,
        )
        made += [
            Measured(
                model=name,
                seconds=x.shape[1] / SAMPLE_RATE,
                task=task,
                side=side,
                batch=batch,
                rows_per_s=rates[side],
                ratios=ratios(rates["jaxser"], rates[side]),
                first_s=first[side],
                apart=apart,
            )
            for side in runs
        ]
    return made


def _rate(run: Turn, passes: int, batch: int, read: Callable[[], float]) -> float:
    """Passes per second of one turn."""
    return passes / timed(functools.partial(run, passes, batch), read)[0]


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("smoothing", __doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16], help="batch sizes")
    parser.add_argument("--seconds", type=float, default=2.0, help="of speech")
    parser.add_argument("--passes", type=int, default=192, help="of a turn")
    add_clock(parser)
    add_turns(parser, 5)
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    check_clock(args.clock, args.threads)
    if any(size < 1 or args.passes % size for size in args.sizes):
        raise UsageError(f"--passes {args.passes} must be a multiple of every one of --sizes.")
    busy = hold_to_threads(args.threads)
    import numpy as np

    from jaxser.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    # A hum: of noise alone the victims would have the same logits with noise and without.
    time_axis = np.arange(int(args.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    x = (0.1 * np.sin(2 * np.pi * 200 * time_axis))[None].astype(np.float32)
    print(HEADER)
    everything: list[Measured] = []
    for name in args.models:
        for size in args.sizes:
            found = measure(name, x, args.tasks, size, args.passes, args.pairs, args.clock)
            for measured in found:
                print(measured.line(), flush=True)
            everything += found
            write_measured(args, busy, everything, passes=args.passes)
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
