"""An empty figure, room for names in it, and the file that it becomes."""

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager, ft2font
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, LogFormatter

from jaxser.runtime.files import atomic_file
from jaxser.runtime.text import code_point, visible

__all__ = ["figure_png", "in_legend", "new_figure", "save_figure", "shortened"]

_LONGEST_NAME = 80


def new_figure(size: tuple[float, float], dpi: int = 100) -> Figure:
    """An empty figure that makes room for its labels, and takes any text for what it says.

    Dollars are no mathematics there, and letters that matplotlib's own font lacks are drawn with a
    font of the machine that has them, or else named as code points, U+4E2D for instance.

    Args:
      size: width and height in inches.
      dpi: pixels per inch.
    """
    # Not pyplot's: that keeps every figure until it is closed and chooses a back end for windows,
    # and a report draws hundreds, on machines without a screen.
    return _LiteralFigure(figsize=size, layout="compressed", dpi=dpi)


def shortened(name: str) -> str:
    """A name that leaves room for a picture beside it: its ends, where it is long."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def in_legend(name: str) -> str:
    """A series' name, with a blank before the "_" by which matplotlib would leave it out."""
    return f" {name}" if name.startswith("_") else name


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)


class _LiteralFigure(Figure):
    """Labels come from tables and paths: what they say is shown, whatever it is.

    All is done when the figure is drawn, so that no text of a figure can be forgotten.
    """

    def draw(self, renderer: Any) -> None:
        axes = [axis for each in self.axes for axis in (each.xaxis, each.yaxis)]
        for axis in axes:
            _write_out(axis)
        texts = [text for text in self.findobj(Text) if isinstance(text, Text)]
        said = [*(text.get_text() for text in texts), *(t for axis in axes for t in _ticks(axis))]
        families = _families(frozenset(visible("".join(said))))
        for text in texts:
            text.set_parse_math(False)
            text.set_fontfamily(families)
            text.set_text(_drawable(text.get_text()))
        # Of ticks that are made only now.
        with matplotlib.rc_context({"text.parse_math": False, "font.family": families}):
            super().draw(renderer)


class _Literal(Formatter):
    """What another formatter writes at the ticks, without mathematics and missing letters."""

    def __init__(self, inner: Formatter) -> None:
        self._inner = inner

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._literal(self._inner(x, pos), x)

    def format_ticks(self, values: list[float]) -> list[str]:
        texts = self._inner.format_ticks(values)
        return [self._literal(text, x) for text, x in zip(texts, values, strict=True)]

    def get_offset(self) -> str:
        return _drawable(self._inner.get_offset())

    def set_locs(self, locs: list[float]) -> None:
        self._inner.set_locs(locs)

    def _literal(self, text: str, x: float) -> str:
        # Powers of ten are the one text that matplotlib itself writes as mathematics.
        if isinstance(self._inner, LogFormatter):
            return f"{x:g}" if text else ""
        return _drawable(text)


def _write_out(axis: Axis) -> None:
    for formatter, change in (
        (axis.get_major_formatter(), axis.set_major_formatter),
        (axis.get_minor_formatter(), axis.set_minor_formatter),
    ):
        if not isinstance(formatter, _Literal):
            change(_Literal(formatter))


def _ticks(axis: Axis) -> Iterator[str]:
    """What the formatters have written, before letters are replaced."""
    for formatter, places in (
        (axis.get_major_formatter(), axis.get_majorticklocs()),
        (axis.get_minor_formatter(), axis.get_minorticklocs()),
    ):
        if isinstance(formatter, _Literal):
            yield from formatter._inner.format_ticks(list(places))


def _drawable(text: str) -> str:
    """``text`` with code points in the place of letters that no font has."""
    text = visible(text)
    if text.isascii():
        return text
    return "".join(
        each if each in "\n\t" or _font_with(each) is not None else f"[{code_point(each)}]"
        for each in text
    )


def _families(letters: frozenset[str]) -> list[str]:
    """matplotlib's own fonts, and whatever else has letters that they lack."""
    own = list(matplotlib.rcParams["font.family"])
    found = {_font_with(letter) for letter in sorted(letters) if not letter.isascii()}
    return [*own, *sorted(name for name in found if name and name not in own)]


@functools.cache
def _font_with(letter: str) -> str | None:
    """The family of a font that has a letter: of matplotlib's own ones, or of the machine."""
    own = Path(font_manager.findfont(font_manager.FontProperties()))
    if ord(letter) in _letters(str(own)):
        return str(matplotlib.rcParams["font.family"][0])
    for font in _fonts():
        if ord(letter) in _letters(font.fname):
            return str(font.name)
    return None


def _fonts() -> list[font_manager.FontEntry]:
    """Upright ones of normal weight, which a family's name alone asks for, before others."""
    # matplotlib's last resort has every letter: as a box.
    return sorted(
        (font for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name),
        key=lambda font: (font.style != "normal", str(font.weight) not in ("400", "normal")),
    )


@functools.cache
def _letters(file: str) -> frozenset[int]:
    """Code points of a font; none of a font that cannot be read, such as one of bitmaps."""
    try:
        return frozenset(ft2font.FT2Font(file).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()
