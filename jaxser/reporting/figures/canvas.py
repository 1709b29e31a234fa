"""An empty figure, room for names in it, and the file that it becomes."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from jaxser.runtime.files import atomic_file

__all__ = ["figure_png", "new_figure", "save_figure", "shortened"]

_LONGEST_NAME = 80


def new_figure(size: tuple[float, float], dpi: int = 100) -> Figure:
    """An empty figure that makes room for its labels.

    Args:
      size: width and height in inches.
      dpi: pixels per inch.
    """
    # Not pyplot's: that keeps every figure until it is closed and chooses a back end for windows,
    # and a report draws hundreds, on machines without a screen.
    return Figure(figsize=size, layout="compressed", dpi=dpi)


def shortened(name: str) -> str:
    """A name that leaves room for a picture beside it: its ends, where it is long."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)
