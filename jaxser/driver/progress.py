"""What a user sees of a long attack.

with AttackBar("pgd", rows=200) as bar:
    for block in attack_rows(..., watch=watch):       # bar.watch(progress), then whether to go on
        bar.add(block, labels[block.utterance], clean[block.utterance])
"""

import math
import sys
import threading

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from jaxser.driver.meter import Progress
from jaxser.driver.row_block import RowBlock

__all__ = ["AttackBar"]

_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} rows, {elapsed} gone{postfix}"

# A terminal sees that the run is alive; a file gets a line now and then.
_SECONDS_BETWEEN_BARS = 1.0
_SECONDS_BETWEEN_LINES = 30.0


class AttackBar:
    """Rows, rates and time left, drawn by a thread of its own: it moves in long steps, too.

    Args:
      attack: its name.
      rows: in all.
      shown: or not, where another process has the terminal.
    """

    def __init__(self, attack: str, rows: int, *, shown: bool = True) -> None:
        self._rows = rows
        self._rate, self._right, self._fooled, self._queries = math.nan, 0, 0, ""
        self._progress: Progress | None = None
        self._bar = tqdm(
            total=rows,
            desc=attack,
            bar_format=_BAR,
            mininterval=math.inf,  # the thread alone draws
            dynamic_ncols=True,
            disable=not shown,
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> "AttackBar":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._bar.set_postfix_str(self._figures(), refresh=False)
        self._bar.close()

    def add(
        self, block: RowBlock, labels: Int[np.ndarray, " rows"], clean: Int[np.ndarray, " rows"]
    ) -> None:
        """Count finished rows.

        Args:
          block: of the rows.
          labels: true classes.
          clean: predictions before the attack; -1 where the logits are not finite.
        """
        self._rate = block.throughput.rows_per_second
        # As the tables count: a row that was wrong before the attack is no success of it.
        self._right += int((block.prediction == labels).sum())
        self._fooled += int((block.prediction != clean).sum())
        self._bar.n += len(block)

    def watch(self, progress: Progress) -> None:
        """Note what the rows at work have cost so far."""
        rate = progress.queries / progress.seconds
        self._queries = f"{progress.queries:,} queries ({rate:.1f}/s)"
        self._progress = progress
        if progress.rows:
            # Not the last block's: rows of a later stage may be a long time at work.
            self._rate = progress.rows / progress.seconds

    def _draw(self) -> None:
        seconds = _SECONDS_BETWEEN_BARS if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
        while not self._closed.wait(seconds):
            self._bar.set_postfix_str(self._figures())

    def _figures(self) -> str:
        done, progress = int(self._bar.n), self._progress
        # Rows that some members of a sequence have tried in vain count, though others follow.
        withstood = progress.withstood if progress and done < self._rows else 0
        tried = done + withstood
        figures = [progress.stage] if progress and done < self._rows else []
        if not tried:
            return ", ".join(filter(None, [*figures, self._queries])) or "compiling"
        if done:
            figures += [f"{self._rate:.1f} rows/s"]
        right, fooled = (self._right + withstood) / tried, self._fooled / tried
        figures += [self._queries, f"robust accuracy {right:.1%}, fooled {fooled:.1%}"]
        left = self._seconds_left(done)
        if left is not None:
            figures += [f"{tqdm.format_interval(left)} left"]
        return ", ".join(filter(None, figures))

    def _seconds_left(self, done: int) -> float | None:
        if done == self._rows:
            return 0.0
        if self._progress is not None and self._progress.stage:
            return self._progress.seconds_left
        return (self._rows - done) / self._rate if self._rate > 0 else None
