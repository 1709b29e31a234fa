"""What a run shows and records while it trains: progress, history, TensorBoard or a service.

    with RunWriter("runs/demo", enabled=is_first()) as writer:
        writer.start(total=6_000, done=0, step=0)
        writer.epoch(figures, history, of=20)
        writer.scalars("test", {"uar": 0.7}, step=500)

On a terminal there is one bar over the whole run; otherwise a line when it begins, one an epoch,
and one a minute in long epochs. Only process 0 writes.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxser.config.training import LogTo
from jaxser.results.history import history_text
from jaxser.runtime.files import write_text
from jaxser.runtime.stages import stage
from jaxser.runtime.terminal import terminal_width, wrapped
from jaxser.training.trackers import Tracker, check_tracker, open_tracker

__all__ = ["RunWriter"]

# Reading figures off the device makes the host wait for it, so not at every step.
_SECONDS_BETWEEN_READINGS = 1.0

# Of an epoch in a file, so that whoever looks there sees that the run is alive.
_SECONDS_BETWEEN_LINES = 60.0

# Shares on the bar and in the line of an epoch, by their names among the figures.
_SHOWN = {
    "uar": "UAR",
    "robust_accuracy": "robust",
    "asr": "ASR",
    "mask_rate": "mask",
    "sparsity": "changed",
}

_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {postfix}, {rate_fmt}, {elapsed} gone, {remaining} left"


class RunWriter:
    """Progress and records of one run.

    Args:
      folder: of the run.
      enabled: False makes every method do nothing (processes other than the first).
      learning_rate: step, and the figures of the epochs before -> that of the step.
      log_to: what shows figures beside the folder.

    Raises:
      UsageError: the package of ``log_to`` is not installed.
    """

    def __init__(
        self,
        folder: Path | str,
        enabled: bool = True,
        learning_rate: Callable[[int, Sequence[Mapping[str, float]]], float] | None = None,
        log_to: LogTo = "tensorboard",
    ) -> None:
        check_tracker(log_to)
        self._log_to: LogTo = log_to
        self._folder = Path(folder)
        self._enabled = enabled
        self._learning_rate = learning_rate
        self._resumed_at = 0
        self._bar: tqdm | None = None
        self._tracker: Tracker | None = None
        self._read_at, self._said_at = 0.0, 0.0
        self._validation = ""
        self._started, self._done_before, self._done, self._total = 0.0, 0, 0, 0

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def start(self, total: int, done: int, step: int) -> None:
        """Open the bar at ``done`` of ``total`` samples, which ``step`` updates have seen."""
        if not self._enabled:
            return
        self._resumed_at = step
        stage("training", shown=False)
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

    def compiling(self) -> None:
        """Say, in a file, that the first update is to come: it takes the longest of all."""
        if self._bar is not None and self._bar.disable:
            self._say(f"training: {self._total - self._done:,} samples to go, compiling")

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
        if self._bar.disable and now - self._said_at > _SECONDS_BETWEEN_LINES:
            self._say(f"{self._done:,} of {self._total:,} samples, {self._pace()}")
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
        self._tracked().flush()

    def scalars(self, part: str, figures: Mapping[str, float], step: int) -> None:
        """Show figures of a part of the corpus, as "test/macro_f1".

        Those that are not finite have no place on a curve.
        """
        named = {f"{part}/{name}": value for name, value in figures.items() if math.isfinite(value)}
        if self._enabled and named:
            self._tracked().scalars(named, step)

    def hyperparameters(self, config: Mapping[str, Any], figures: Sequence[str]) -> None:
        """Let runs be compared: their config beside scalars, such as "test/uar"."""
        if self._enabled:
            self._tracked().hyperparameters(dict(_flat(config)), figures)

    def figure(self, name: str, figure: Any, step: int) -> None:
        """Show a matplotlib figure."""
        if self._enabled:
            self._tracked().figure(name, figure, step)

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        """Let people hear a waveform."""
        if self._enabled:
            self._tracked().audio(name, samples, sample_rate, step)

    def finish(self) -> None:
        """Close the bar; figures of the finished run may still follow."""
        if self._bar is not None:
            self._bar.close()

    def _print_epoch(self, figures: dict[str, float], of: int) -> None:
        self._say(
            f"epoch {int(figures['epoch'])}/{of}: {_shown(figures)}{self._validation}, "
            f"{self._pace()}"
        )

    def _pace(self) -> str:
        """Since the start, compilation and evaluation included."""
        rate = (self._done - self._done_before) / (time.monotonic() - self._started)
        return f"{rate:.3g}/s, {(self._total - self._done) / rate:.0f} s left"

    def _say(self, line: str) -> None:
        print(wrapped(line, terminal_width()), flush=True)
        self._said_at = time.monotonic()

    def _tracked(self) -> Tracker:
        if self._tracker is None:
            self._tracker = open_tracker(self._log_to, self._folder, self._resumed_at)
        return self._tracker

    def _write_history(self, history: list[dict[str, float]]) -> None:
        write_text(self._folder / "history.csv", history_text(history))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields as flags have them; None is left out, as there is no column of it."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + name, value
        elif value is not None:
            yield prefix + name, str(value)


def _shown(figures: dict[str, float]) -> str:
    """The loss, and what else a person looks for."""
    return f"loss {figures['loss']:.3f}, train {_shares(figures)}"


def _shares(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{title} {figures[name]:.1%}" for name, title in _SHOWN.items() if name in figures
    )
