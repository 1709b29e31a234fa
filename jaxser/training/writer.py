"""What a run shows and records while it trains: progress, history, TensorBoard.

    with RunWriter("runs/demo", enabled=jax.process_index() == 0) as writer:
        writer.start(total=6_000, done=0, step=0)
        writer.epoch(figures, history, of=20)
        writer.scalars("test", {"uar": 0.7}, step=500)

On a terminal there is one bar over the whole run; otherwise a line when it begins, one an epoch,
and one a minute in long epochs. Only process 0 writes. What TensorBoard shows is of use, but no
result: where its file cannot be written, a warning says so and the run goes on.
"""

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jaxser.results.history import history_text
from jaxser.runtime.files import write_text

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

__all__ = ["RunWriter"]

_LOG = logging.getLogger(__name__)

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
        self._event_file = _EventFile()
        self._read_at, self._said_at = 0.0, 0.0
        self._validation = ""
        self._started, self._done_before, self._done, self._total = 0.0, 0, 0, 0

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if self._events is not None:
            self._events.close()
            self._events = None
            self._say_lost_events()

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
        self._tensorboard().flush()
        self._say_lost_events()

    def _say_lost_events(self) -> None:
        """Once, why TensorBoard lacks what came since."""
        file = self._event_file
        if file.error is not None and not file.told:
            file.told = True
            _LOG.warning(
                "TensorBoard's file in %s cannot be written (%s); the run goes on without it.",
                self._folder / "tensorboard",
                file.error.strerror or file.error,
            )

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
        self._say(
            f"epoch {int(figures['epoch'])}/{of}: {_shown(figures)}{self._validation}, "
            f"{self._pace()}"
        )

    def _pace(self) -> str:
        """Since the start, compilation and evaluation included."""
        rate = (self._done - self._done_before) / (time.monotonic() - self._started)
        return f"{rate:.3g} samples/s, {(self._total - self._done) / rate:.0f} s left"

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._said_at = time.monotonic()

    def _tensorboard(self) -> "SummaryWriter":
        if self._events is None:
            folder = self._folder / "tensorboard"
            # A resumed run drops what a killed one wrote past its last checkpoint, and nothing of
            # the checkpoint's own step: the epoch that ended with it is not written again. One file
            # a start: names of the same second would be the same file, written from its beginning.
            self._events = _summary_writer(
                folder,
                self._event_file,
                purge_step=self._resumed_at + 1,
                filename_suffix=f".{len(list(folder.glob('events*')))}",
            )
        return self._events

    def _write_history(self, history: list[dict[str, float]]) -> None:
        write_text(self._folder / "history.csv", history_text(history))


@dataclasses.dataclass
class _EventFile:
    """What became of TensorBoard's file.

    Attributes:
      error: the first one that kept an event from it.
      told: whether somebody has said so.
    """

    error: OSError | None = None
    told: bool = False


def _summary_writer(folder: Path, file: _EventFile, **settings: Any) -> "SummaryWriter":
    """tensorboardX's, with a file that takes and drops all after an error, which ``file`` gets.

    A thread writes. One that the error ended would leave a queue that nobody empties, and whoever
    puts more into it waits for ever.
    """
    # Where torch is installed this imports it: a second that a user need not wait first.
    from tensorboardX import SummaryWriter, event_file_writer

    plain = event_file_writer.EventsWriter

    def unless_lost(act: Callable[[], Any], again: bool = False) -> None:
        if again or file.error is None:
            try:
                act()
            except OSError as error:
                file.error = file.error or error

    class Kept(plain):  # type: ignore[misc]
        def write_event(self, event: Any) -> None:
            unless_lost(lambda: super(Kept, self).write_event(event))

        def flush(self) -> None:
            unless_lost(super().flush)

        def close(self) -> None:
            # Also after an error: the file must not be left to the garbage collector.
            unless_lost(super().close, again=True)

    # The thread begins to write as soon as there is a writer.
    event_file_writer.EventsWriter = Kept
    try:
        return SummaryWriter(str(folder), **settings)
    finally:
        event_file_writer.EventsWriter = plain


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
