"""Samples per second of training and attacking the victims, beside PyTorch.

    python -m benchmarks.train_throughput                       # prints a table
    python -m benchmarks.train_throughput --models emo18 --pairs 9
    python -m benchmarks.train_throughput --models cnn_lstm --settings 8x3 32x3
    python -m benchmarks.train_throughput --out benchmarks/results/train_throughput.json

Three tasks: ``train`` is the project's own training step (forward, backward, Adam), ``gradient``
the gradient of the loss by the input (what an attack step needs), ``forward`` logits alone, the
latter two in evaluation mode. Inputs are waveforms, or for the CNN-LSTM, without its dropouts, the
standardised log-mels of 3 s. Both sides have the same batches, the same initial weights and
as many threads, and take turns (A B A B) within one run; a ratio is that of two neighbouring
turns. Compilation and the first step are not counted. A second LSTM bias that PyTorch has is
held at its initial value, so that both train the same parameters.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.command import add_threads_and_out, add_turns, command_parser, write_report
from benchmarks.machine import hold_to_threads
from benchmarks.turns import ratios, spread, take_turns, timed
from jaxser.runtime.errors import UsageError, report_errors

CLASSES = 7
SAMPLE_RATE = 16_000
LOG_MEL = (261, 128)  # frames and bands of 3 s
LEARNING_RATE = 1e-3
TASKS = ("train", "gradient", "forward")

# One turn: the task a few times; returns when the results are there.
Turn = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """``batch`` utterances of ``seconds`` each."""

    batch: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """From "8x6": 8 utterances of 6 s."""
        try:
            batch, seconds = text.split("x")
            setting = cls(int(batch), float(seconds))
        except ValueError:
            raise UsageError(
                f"setting {text!r} is not BATCHxSECONDS; write it like 8x6 or 32x2."
            ) from None
        return setting

    def __str__(self) -> str:
        return f"{self.batch} × {self.seconds:g} s"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What one task at one setting took; lists have one value per pair of turns."""

    model: str
    batch: int
    seconds: float
    task: str
    jax_samples_per_s: list[float]
    torch_samples_per_s: list[float]
    ratios: list[float]
    jax_compile_s: float
    losses: dict[str, list[float]] | None

    def row(self) -> str:
        """The line of the printed table."""
        jax_rate, torch_rate = map(
            statistics.median, (self.jax_samples_per_s, self.torch_samples_per_s)
        )
        losses = ""
        if self.losses is not None:
            losses = f"   loss {self.losses['jax'][-1]:.4f} | {self.losses['torch'][-1]:.4f}"
        setting = Setting(self.batch, self.seconds)
        return (
            f"{self.model:8} {setting!s:10} {self.task:9} {jax_rate:9.1f} {torch_rate:9.1f} "
            f"{spread(self.ratios, width=6)}   compiled in {self.jax_compile_s:.1f} s{losses}"
        )


HEADER = f"{'model':8} {'batch':10} {'task':9} {'jax /s':>9} {'torch /s':>9}  ratio (min–max)"


def batches(name: str, setting: Setting, count: int) -> list[tuple[Any, Any]]:
    """``count`` batches (inputs, labels): noise with a hum whose pitch tells the class."""
    import numpy as np

    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        y = rng.integers(0, CLASSES, setting.batch)
        if name == "cnn_lstm":
            x = rng.normal(size=(setting.batch, *LOG_MEL))
            x += 2.0 * (np.arange(LOG_MEL[1])[None] // 16 == y[:, None])[:, None]
        else:
            samples = int(setting.seconds * SAMPLE_RATE)
            pitch = 100.0 * (1 + y[:, None])
            hum = np.sin(2 * np.pi * pitch * np.arange(samples)[None] / SAMPLE_RATE)
            x = 0.1 * hum + 0.1 * rng.normal(size=(setting.batch, samples))
        made.append((x.astype(np.float32), y.astype(np.int32)))
    return made


def jax_turns(
    name: str, state: dict[str, Any], data: list[tuple[Any, Any]], tasks: list[str]
) -> dict[str, tuple[Turn, float]]:
    """Task → (turn, seconds to compile) on the JAX side; a turn of training returns losses."""
    import jax
    import jax.numpy as jnp
    import optax

    from benchmarks.torch_twins import table_of
    from jaxser import models
    from jaxser.config import TrainingConfig
    from jaxser.training.optimizer import make_optimizer
    from jaxser.training.victim import init_state, make_train_step
    from jaxser.victims.key_tables.entries import from_torch

    without = {"dropout": 0.0, "lstm_dropout": 0.0} if name == "cnn_lstm" else {}
    model = models.build(name, CLASSES, **without)
    variables = jax.tree.map(jnp.asarray, from_torch(state, table_of(name)))
    data = [(jnp.asarray(x), jnp.asarray(y)) for x, y in data]
    settings = TrainingConfig(learning_rate=LEARNING_RATE, schedule="constant", warmup_steps=0)
    optimizer = make_optimizer(settings, steps_per_epoch=1)
    shape = LOG_MEL if name == "cnn_lstm" else (2000,)
    fresh = jax.jit(
        functools.partial(init_state, model, optimizer, input_shape=shape, num_classes=CLASSES)
    )
    train_state = fresh(jax.random.key(0)).replace(**jax.tree.map(jnp.copy, variables))
    step = make_train_step(model, optimizer, jax.random.key(0))

    def logits_of(x: Any, variables: Any) -> Any:
        return model.apply(variables, x, train=False)

    def loss_of(x: Any, variables: Any, y: Any) -> Any:
        logits = logits_of(x, variables)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()

    def compiled(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
        seconds, program = timed(lambda: jax.jit(function, **options).lower(*args).compile())
        return program, seconds

    def train() -> tuple[Turn, float]:
        x, y = data[0]
        program, seconds = compiled(step, train_state, {"x": x, "y": y}, donate_argnums=0)

        def turn() -> list[float]:
            nonlocal train_state
            losses = []
            for x, y in data:
                before = float(train_state.metrics.loss)
                train_state = program(train_state, {"x": x, "y": y})
                losses.append(float(train_state.metrics.loss) - before)
            return losses

        return turn, seconds

    def gradient() -> tuple[Turn, float]:
        program, seconds = compiled(jax.grad(loss_of), data[0][0], variables, data[0][1])

        def turn() -> None:
            for x, y in data:
                program(x, variables, y).block_until_ready()

        return turn, seconds

    def forward() -> tuple[Turn, float]:
        program, seconds = compiled(logits_of, data[0][0], variables)

        def turn() -> None:
            for x, _ in data:
                program(x, variables).block_until_ready()

        return turn, seconds

    makers = {"train": train, "gradient": gradient, "forward": forward}
    return {task: makers[task]() for task in tasks}


def torch_turns(name: str, state: dict[str, Any], data: list[tuple[Any, Any]]) -> dict[str, Turn]:
    """Task → turn on PyTorch's side."""
    import torch

    from benchmarks.torch_twins import fresh_twin

    def twin(train: bool) -> torch.nn.Module:
        model = fresh_twin(name, CLASSES)
        model.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(train and "bias_hh" not in key)
        return model.train(train)

    tensors = [(torch.from_numpy(x), torch.from_numpy(y).long()) for x, y in data]
    trained, fixed = twin(train=True), twin(train=False)
    trainable = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=LEARNING_RATE)

    def train() -> list[float]:
        losses = []
        for x, y in tensors:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(trained(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def gradient() -> None:
        for x, y in tensors:
            x = x.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(fixed(x), y, reduction="sum")
            torch.autograd.grad(loss, x)

    def forward() -> None:
        with torch.no_grad():
            for x, _ in tensors:
                fixed(x)

    return {"train": train, "gradient": gradient, "forward": forward}


def compare(
    name: str, setting: Setting, tasks: list[str], pairs: int, steps: int
) -> list[Comparison]:
    """Take turns at every task, each after one that is not counted.

    In that one memory is mapped anew that was given back while the other side had its turn, which
    a training, whose steps follow each other, pays for once.
    """
    import torch

    from benchmarks.torch_twins import fresh_twin

    torch.manual_seed(0)
    initial = fresh_twin(name, CLASSES).state_dict()
    state = {key: tensor.numpy().copy() for key, tensor in initial.items()}
    data = batches(name, setting, steps)
    ours, theirs = jax_turns(name, state, data, tasks), torch_turns(name, state, data)

    def rated(turn: Turn) -> tuple[float, tuple[Any, Any]]:
        uncounted = turn()
        seconds, counted = timed(turn)
        return setting.batch * steps / seconds, (uncounted, counted)

    comparisons = []
    for task in tasks:
        turn, compile_s = ours[task]
        sides = {
            "jax": functools.partial(rated, turn),
            "torch": functools.partial(rated, theirs[task]),
        }
        done = take_turns(sides, pairs)
        losses = None
        if task == "train":
            losses = {
                side: [loss for _, turns in its for turn in turns for loss in turn]
                for side, its in done.items()
            }
        rates = {side: [rate for rate, _ in its] for side, its in done.items()}
        comparisons.append(
            Comparison(
                model=name,
                batch=setting.batch,
                seconds=setting.seconds,
                task=task,
                jax_samples_per_s=rates["jax"],
                torch_samples_per_s=rates["torch"],
                ratios=ratios(rates["jax"], rates["torch"]),
                jax_compile_s=compile_s,
                losses=losses,
            )
        )
    return comparisons


def main(argv: list[str] | None = None) -> int:
    parser = command_parser("train_throughput", __doc__)
    parser.add_argument("--models", nargs="+", default=["emo18", "zhao19"], metavar="NAME")
    parser.add_argument("--settings", nargs="+", default=["8x6", "32x2"], metavar="BATCHxSECONDS")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    add_turns(parser, 7)
    parser.add_argument("--steps", type=int, default=2, help="batches in a turn")
    add_threads_and_out(parser)
    args = parser.parse_args(argv)
    settings = [Setting.parse(text) for text in args.settings]

    busy = hold_to_threads(args.threads)
    print(HEADER)
    comparisons = []
    for name in args.models:
        for setting in settings:
            for comparison in compare(name, setting, args.tasks, args.pairs, args.steps):
                print(comparison.row(), flush=True)
                comparisons.append(comparison)
    write_report(
        args.out,
        busy,
        args.threads,
        pairs=args.pairs,
        steps_per_turn=args.steps,
        comparisons=[dataclasses.asdict(comparison) for comparison in comparisons],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(report_errors(main))
