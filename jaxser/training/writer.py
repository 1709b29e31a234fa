"""What a run shows and records while it trains: progress, history, TensorBoard.

    writer = RunWriter("runs/demo", enabled=jax.process_index() == 0)

On a terminal there is one bar over the whole run; otherwise one line an epoch. Only process 0
writes.
"""

import csv
import math
import sys
import time
from collections.abc import Callable
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
    """

    def __init__(self, folder: Path | str, enabled: bool = True) -> None:
        self._folder = Path(folder)
        self._enabled = enabled
        self._bar: tqdm | None = None
        self._events: SummaryWriter | None = None
        self._read_at = 0.0
        self._validation = ""
        self._started, self._done_before, self._done, self._total = 0.0, 0, 0, 0

    def start(self, total: int, done: int) -> None:
        """Open the bar at ``done`` of ``total`` samples."""
        if not self._enabled:
            return
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
        events = self._tensorboard(int(figures["step"]))
        for name, value in figures.items():
            if name not in ("epoch", "step") and math.isfinite(value):
                part, _, metric = name.rpartition("_")
                events.add_scalar(f"{part or 'train'}/{metric}", value, int(figures["step"]))
        events.flush()

    def figure(self, name: str, figure: Any, step: int) -> None:
        """Show a matplotlib figure in TensorBoard."""
        if self._enabled:
            self._tensorboard(step).add_figure(name, figure, step, close=False)

    def audio(self, name: str, samples: Any, sample_rate: int, step: int) -> None:
        """Let people hear a waveform in TensorBoard."""
        if self._enabled:
            self._tensorboard(step).add_audio(name, samples, step, sample_rate)

    def finish(self) -> None:
        """Close the bar and the event file."""
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            self._events.close()
            self._events = None

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

    def _tensorboard(self, step: int) -> "SummaryWriter":
        if self._events is None:
            # Where torch is installed this imports it: a second that a user need not wait first.
            from tensorboardX import SummaryWriter

            # A resumed run drops what a killed one wrote past its last checkpoint.
            self._events = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)
        return self._events

    def _write_history(self, history: list[dict[str, float]]) -> None:
        with (
            atomic_file(self._folder / "history.csv") as temporary,
            temporary.open("w", newline="") as file,
        ):
            rows = csv.DictWriter(file, fieldnames=list(history[0]))
            rows.writeheader()
            rows.writerows(history)


def _shown(figures: dict[str, float]) -> str:
    """The loss, and what else a person looks for."""
    return f"loss {figures['loss']:.3f}, {_shares(figures)}"


def _shares(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{title} {figures[name]:.1%}" for name, title in _SHOWN.items() if name in figures
    )
