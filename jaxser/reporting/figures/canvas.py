"""An empty figure, room for names in it, and the file that it becomes.

figure = new_figure(column_size(2.4))
axes.plot(x, y, **series_style(0))
figure_svg(figure)                  # for a page, with colours that a dark page turns around
figure_file(figure, "pdf")          # for a paper
"""

import functools
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
from cycler import cycler
from matplotlib import font_manager, ft2font
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, LogFormatter

from jaxser.runtime.files import atomic_file
from jaxser.runtime.text import code_point, visible

__all__ = [
    "BLUES",
    "COLUMN",
    "SERIES",
    "column_figure",
    "figure_file",
    "figure_svg",
    "in_legend",
    "new_figure",
    "save_figure",
    "series_style",
    "shortened",
]

_LONGEST_NAME = 80

# Width of one of a paper's two columns, in inches.
COLUMN = 3.5

# Colours that those who see few colours tell apart (Okabe and Ito, 2008), less the palest.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vPX<>*hd"
_DASHES = ("-", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))

# What figures are drawn with, small enough for a column and a telephone.
_STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7},
    **{"xtick.labelsize": 7, "ytick.labelsize": 7, "axes.linewidth": 0.6},
    **{"xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.width": 0.4},
    **{"lines.linewidth": 1.2, "lines.markersize": 3.5, "grid.linewidth": 0.5},
    **{"axes.spines.top": False, "axes.spines.right": False},
}

# Text stays text in an SVG file, whose parts have the same names in every run, and a PDF file has
# its fonts, which journals ask for.
_FILES: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxser",
    "pdf.fonttype": 42,
}

# A single hue from nothing on: seen through on a dark page as on a light one.
BLUES = matplotlib.colors.LinearSegmentedColormap.from_list(
    "blues", [(0.0, 0.45, 0.7, 0.0), (0.0, 0.45, 0.7, 0.8)]
)

# Colours in an SVG file, and the variables of a page that stand for them there.
_VARIABLES = {
    **{colour: f"var(--series-{place})" for place, colour in enumerate(SERIES)},
    **{"#000000": "var(--ink)", "#b0b0b0": "var(--line)", "#808080": "var(--grey)"},
}


def series_style(place: int, *, noise: bool = False) -> dict[str, Any]:
    """Colour, marker and dashes of the series at a place; noise is dashed and grey."""
    if noise:
        return {"color": "gray", "linestyle": "--", "marker": "."}
    return {
        "color": SERIES[place % len(SERIES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place // len(SERIES) % len(_DASHES)],
    }


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


def column_figure(height: float, width: float = COLUMN) -> Figure:
    """As :func:`new_figure`, for a column of a paper or a telephone: with small letters.

    Args:
      height: in inches.
      width: in inches; that of a column by default.
    """
    return _ColumnFigure(figsize=(width, height), layout="compressed", dpi=200)


def shortened(name: str) -> str:
    """A name that leaves room for a picture beside it: its ends, where it is long."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def in_legend(name: str) -> str:
    """A series' name, with a blank before the "_" by which matplotlib would leave it out."""
    return f" {name}" if name.startswith("_") else name


def figure_file(figure: Figure, form: str) -> bytes:
    """The figure as a file.

    Args:
      figure: of :func:`new_figure`.
      form: "png", "svg" or "pdf".
    """
    return _saved(figure, form)


def figure_svg(figure: Figure, words: str) -> str:
    """The figure as SVG within a page, whose variables give its colours.

    Args:
      figure: of :func:`new_figure`.
      words: what it shows; plain text.
    """
    text = _saved(figure, "svg", transparent=True).decode()
    text = text[text.index("<svg") :]
    # Names of parts are names within the page, where each may stand once; nothing refers to these.
    text = re.sub(r"<g id=\"[A-Za-z0-9]*_[0-9_]+\">", "<g>", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), text)
    said = html.escape(visible(words))
    broad = "class=broad" if figure.get_figwidth() > COLUMN + 1 else ""
    return re.sub(
        r"<svg [^>]*?(viewBox=\"0 0 ([0-9.]+) [^\"]*\")[^>]*>",
        lambda found: (
            f'<svg {found[1]} {broad} role=img aria-label="{said}" style="--width: {found[2]}">'
        ),
        text,
        count=1,
    )


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    # The same bytes for the same figure: no date.
    nameless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    dpi = 300 if form == "png" else 150
    with matplotlib.rc_context(_FILES):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=nameless, **options)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)


class _LiteralFigure(Figure):
    """Labels come from tables and paths: what they say is shown, whatever it is.

    All is done when the figure is drawn, so that no text of a figure can be forgotten.
    """

    def subplots(self, *arguments: Any, **options: Any) -> Any:
        with matplotlib.rc_context({"axes.prop_cycle": cycler(color=SERIES)}):
            return super().subplots(*arguments, **options)

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


class _ColumnFigure(_LiteralFigure):
    """What is in it looks as ``_STYLE`` says, which matplotlib takes from its settings when it
    makes a part."""

    def subplots(self, *arguments: Any, **options: Any) -> Any:
        with matplotlib.rc_context(_STYLE):
            return super().subplots(*arguments, **options)

    def legend(self, *arguments: Any, **options: Any) -> Any:
        with matplotlib.rc_context(_STYLE):
            return super().legend(*arguments, **{"frameon": False, **options})

    def colorbar(self, *arguments: Any, **options: Any) -> Any:
        with matplotlib.rc_context(_STYLE):
            return super().colorbar(*arguments, **options)


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
