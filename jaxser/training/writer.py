"""What a run shows and records while it trains: progress, history, TensorBoard.

    with RunWriter("runs/demo", enabled=jax.process_index() == 0) as writer:
        writer.start(total=6_000, done=0, step=0)
        writer.epoch(figures, history, of=20)
        writer.scalars("test", {"uar": 0.7}, step=500)

On a terminal there is one bar over the whole run; otherwise one line an epoch. Only process 0
writes.
"""

import csv
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jaxser.runtime.files import atomic_file

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

__all__ = ["RunWriter"]

# Reading figures off the device makes the host wait for it, so not at every step.
_SECONDS_BETWEEN_READINGS = 1.0

# Shares on the bar and in the line of an epoch, by their names among the figures.
_SHOWN = {"uar": "UAR", "asr": "ASR", "mask_rate": "mask", "sparsity": "changed"}

_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {postfix}, {rate_fmt}, {elapsed} gone, {remaining} left"


class RunWriter:
    """Progress and records of one run.

    Args:
      folder: of the run.
      enabled: False makes every method do nothing (processes other than the first).
      learning_rate: step, and the figures of the epochs before -> that of the step.
    """

    def __init__(
        self,
        folder: Path | str,
        enabled: bool = True,
        learning_rate: Callable[[int, Sequence[Mapping[str, float]]], float] | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._enabled = enabled
        self._learning_rate = learning_rate
        self._resumed_at = 0
        self._bar: tqdm | None = None
        self._events: SummaryWriter | None = None
        self._read_at = 0.0
        self._validation = ""
        self._started, self._done_before, self._done, self._total = 0.0, 0, 0, 0

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if self._events is not None:
            self._events.close()
            self._events = None

    def start(self, total: int, done: int, step: int) -> None:
        """Open the bar at ``done`` of ``total`` samples, which ``step`` updates have seen."""
        if not self._enabled:
            return
        self._resumed_at = step
        self._started, self._done, self._total = time.monotonic(), done, total
        self._done_before = done
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="samples",
            bar_format=_BAR,
            desc="training",
            disable=not sys.stderr.isatty(),
            smoothing=0.1,
            dynamic_ncols=True,
        )
        self._bar.set_postfix_str("compiling")

    def advance(self, samples: int, figures: Callable[[], dict[str, float]]) -> None:
        """Count ``samples``; ``figures`` are read about once a second."""
        if self._bar is None:
            return
        self._done += samples
        now = time.monotonic()
        if not self._bar.disable and now - self._read_at > _SECONDS_BETWEEN_READINGS:
            self._read_at = now
            read = figures()
            self._bar.set_postfix_str(f"{_shown(read)}{self._validation}", refresh=False)
        self._bar.update(samples)

    def epoch(self, figures: dict[str, float], history: list[dict[str, float]], of: int) -> None:
        """Record the figures of a finished epoch."""
        if self._bar is None:
            return
        epoch = int(figures["epoch"])
        validation = {name: figures[f"val_{name}"] for name in _SHOWN if f"val_{name}" in figures}
        if validation:
            self._validation = f", val {_shares(validation)}"
        self._bar.set_description_str(f"epoch {epoch}/{of}", refresh=False)
        if self._bar.disable:
            self._print_epoch(figures, of)
        self._write_history(history)
        step = int(figures["step"])
        shown = {name: figures[name] for name in figures if name not in ("epoch", "step")}
        if self._learning_rate is not None:
            shown["learning_rate"] = self._learning_rate(step, history[:-1])
        for part in ("val", "train"):
            own = {
                name.removeprefix("val_"): value
                for name, value in shown.items()
                if name.startswith("val_") == (part == "val")
            }
            self.scalars(part, own, step)
        self._tensorboard().flush()

    def scalars(self, part: str, figures: Mapping[str, float], step: int) -> None:
        """Show figures of a part of the corpus in TensorBoard, as "test/macro_f1".

        Those that are not finite have no place on a curve.
        """
        if self._enabled:
            for name, value in figures.items():
                if math.isfinite(value):
                    self._tensorboard().add_scalar(f"{part}/{name}", value, step)

    def hyperparameters(self, config: Mapping[str, Any], figures: Sequence[str]) -> None:
        """Let TensorBoard compare runs: their config beside scalars, such as "test/uar"."""
        if not self._enabled:
            return
        from tensorboardX.summary import hparams

        # Into this run's own file: what add_hparams writes is a run more, beside it.
        for summary in hparams(dict(_flat(config)), dict.fromkeys(figures, 0.0)):
            self._tensorboard().file_writer.add_summary(summary)

    def figure(self, name: str, figure: Any, step: int) -> None:
        """Show a matplotlib figure in TensorBoard."""
        if self._enabled:
            self._tensorboard().add_figure(name, figure, step, close=False)

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        """Let people hear a waveform in TensorBoard."""
        if self._enabled:
            self._tensorboard().add_audio(name, samples, step, sample_rate)

    def finish(self) -> None:
        """Close the bar; figures of the finished run may still follow."""
        if self._bar is not None:
            self._bar.close()

    def _print_epoch(self, figures: dict[str, float], of: int) -> None:
        elapsed = time.monotonic() - self._started
        rate = (self._done - self._done_before) / elapsed
        left = (self._total - self._done) / rate
        print(
            f"epoch {int(figures['epoch'])}/{of}: {_shown(figures)}{self._validation}, "
            f"{rate:.3g} samples/s, "
            f"{left:.0f} s left",
            flush=True,
        )

    def _tensorboard(self) -> "SummaryWriter":
        if self._events is None:
            # Where torch is installed this imports it: a second that a user need not wait first.
            from tensorboardX import SummaryWriter

            folder = self._folder / "tensorboard"
            # A resumed run drops what a killed one wrote past its last checkpoint, and nothing of
            # the checkpoint's own step: the epoch that ended with it is not written again. One file
            # a start: names of the same second would be the same file, written from its beginning.
            self._events = SummaryWriter(
                str(folder),
                purge_step=self._resumed_at + 1,
                filename_suffix=f".{len(list(folder.glob('events*')))}",
            )
        return self._events

    def _write_history(self, history: list[dict[str, float]]) -> None:
        with (
            atomic_file(self._folder / "history.csv") as temporary,
            temporary.open("w", newline="") as file,
        ):
            rows = csv.DictWriter(file, fieldnames=list(history[0]))
            rows.writeheader()
            rows.writerows(history)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields as flags have them; None is left out, as TensorBoard has no column of it."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + name, value
        elif value is not None:
            yield prefix + name, str(value)


def _shown(figures: dict[str, float]) -> str:
    """The loss, and what else a person looks for."""
    return f"loss {figures['loss']:.3f}, {_shares(figures)}"


def _shares(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{title} {figures[name]:.1%}" for name, title in _SHOWN.items() if name in figures
    )
