"""The figures of every epoch of a training, as its run folder has them.

history = read_history(Path("runs/emo18/history.csv"))
history[-1]["robust_accuracy"]
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jaxser.runtime.errors import InputError

__all__ = ["history_text", "read_history"]


def history_text(history: Sequence[dict[str, float]]) -> str:
    """The epochs as CSV, with the columns of the first."""
    file = io.StringIO(newline="")
    rows = csv.DictWriter(file, fieldnames=list(history[0]))
    rows.writeheader()
    rows.writerows(history)
    return file.getvalue()


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a file of :func:`history_text`, in their order.

    Raises:
      InputError: it is none.
      OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            history = [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file, strict=True)
            ]
        whole = [each["epoch"] for each in history] == list(range(1, len(history) + 1))
    except (ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole or not history:
        raise InputError(
            f"{path} is not the history of a training; restore it from a copy, or delete it."
        )
    return history
