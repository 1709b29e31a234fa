"""What victims look at, before and after an attack, and how much of it stays the same."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import in_legend, new_figure, shortened
from jaxser.reporting.figures.confusion import draw_confusion
from jaxser.reporting.figures.images import name_bands
from jaxser.results.estimate import Estimate
from jaxser.results.metrics import uar
from jaxser.runtime.text import counted
from jaxser.speech.features import Spectrogram

__all__ = [
    "UNDEFINED",
    "Example",
    "agreement_figure",
    "confusions_figure",
    "spectrogram_maps_figure",
    "waveform_maps_figure",
]

# Of a map's magnitudes: brighter cells than this share are drawn alike, so that a few of them do
# not leave all else dark.
_BRIGHTEST = 99.5

# In place of a map that tells nothing, and of the agreement of such maps.
UNDEFINED = "undefined: the same all over"

# Letters of a path in a line below a bar.
_WIDEST = 18

# Pieces of a waveform for which one value of its map is drawn.
_PIECES = 300


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """An utterance before and after an attack.

    Attributes:
      name: above its pictures.
      inputs: clean and attacked: waveforms ``[samples]``, or pictures ``[rows, columns]`` or
        ``[rows, columns, 3]`` with the lowest band in the last row.
      maps: of their samples or cells.
      said: what the victim takes each for.
    """

    name: str
    inputs: tuple[np.ndarray, np.ndarray]
    maps: tuple[np.ndarray, np.ndarray]
    said: tuple[str, str]


def spectrogram_maps_figure(
    title: str,
    examples: Sequence[Example],
    spectrogram: Spectrogram,
    seconds: float,
    signed: bool = False,
) -> Figure:
    """A line for each utterance: its picture and map, clean, and the same attacked.

    Maps are dark where they are large, each by its own scale; of signed ones red speaks for the
    class and blue against it. A map that is the same all over, which tells nothing, is not drawn.

    Args:
      title: shown above.
      examples: with pictures.
      spectrogram: that the pictures are of, for the names of bands.
      seconds: length of the pictures.
      signed: whether the maps are.
    """
    figure = new_figure((11.5, 0.7 + 2.0 * len(examples)), dpi=110)
    grid = figure.subplots(len(examples), 4, sharex=True, sharey=True, squeeze=False)
    for line, example in zip(grid, examples, strict=True):
        for side in (0, 1):
            picture, found = example.inputs[side], example.maps[side]
            extent = (0.0, seconds, 0.0, float(len(picture)))
            shown: Any = {"extent": extent, "aspect": "auto", "interpolation": "nearest"}
            place = line[2 * side]
            colours = {"cmap": "gray_r"} if picture.ndim == 2 else {}
            place.imshow(picture, **shown, **colours)
            place.set_title(
                _above(example, side),
                fontsize=9,
            )
            if reason := _undefined(found):
                _write_in(line[2 * side + 1], reason)
                continue
            reach = _reach(found)
            scale = {"cmap": "RdBu_r", "vmin": -reach} if signed else {"cmap": "magma_r", "vmin": 0}
            line[2 * side + 1].imshow(found, **shown, **scale, vmax=reach)
        name_bands(line[0], spectrogram, len(example.inputs[0]))
        line[0].set_ylabel(f"{shortened(example.name)}\n{line[0].get_ylabel()}", fontsize=8)
    for side in (0, 1):
        words = "red for it, blue against it" if signed else "the darker, the more"
        grid[0, 2 * side + 1].set_title(words, fontsize=9)
    for place in grid[-1]:
        place.set_xlabel("s")
    figure.suptitle(title)
    return figure


def waveform_maps_figure(
    title: str, examples: Sequence[Example], sample_rate: int, signed: bool = False
) -> Figure:
    """A line for each utterance: its waveform above its map, clean, and the same attacked.

    Of a few milliseconds the map has its largest value, or the sum where it is signed. A map that
    is the same all over, which tells nothing, is not drawn.

    Args:
      title: shown above.
      examples: with waveforms.
      sample_rate: in Hz.
      signed: whether the maps are.
    """
    figure = new_figure((11.5, 0.7 + 1.9 * len(examples)), dpi=110)
    grid = figure.subplots(
        2 * len(examples),
        2,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [3, 2] * len(examples)},
    )
    for number, example in enumerate(examples):
        for side in (0, 1):
            _draw_waveform(
                grid[2 * number, side],
                grid[2 * number + 1, side],
                example,
                side,
                sample_rate,
                signed,
            )
        grid[2 * number, 0].set_ylabel(shortened(example.name), fontsize=8)
        words = "red: for\nblue: against" if signed else "magnitude"
        grid[2 * number + 1, 0].set_ylabel(words, fontsize=6)
    for place in grid[-1]:
        place.set_xlabel("s")
    figure.suptitle(title)
    return figure


def _draw_waveform(
    above: Axes, below: Axes, example: Example, side: int, sample_rate: int, signed: bool
) -> None:
    x, found = example.inputs[side], example.maps[side]
    above.plot(np.arange(len(x)) / sample_rate, x, linewidth=0.4, color="0.25")
    reach = max(float(np.abs(each).max()) for each in example.inputs) * 1.05 + 1e-9
    above.set_ylim(-reach, reach)
    above.set_title(_above(example, side), fontsize=9)
    below.set_yticks([])
    if reason := _undefined(found):
        _write_in(below, reason)
        return
    pieces = np.array_split(found, min(_PIECES, len(found)))
    ends = np.cumsum([0, *map(len, pieces)]) / sample_rate
    values = np.array([each.sum() if signed else each.max() for each in pieces])
    # Red speaks for the class; a magnitude does not say for what.
    above_zero = "tab:red" if signed else "0.35"
    below.stairs(np.maximum(values, 0), ends, fill=True, color=above_zero)
    below.stairs(np.minimum(values, 0), ends, fill=True, color="tab:blue")
    if signed:
        below.axhline(0, color="0.6", linewidth=0.5)


def _undefined(found: np.ndarray) -> str:
    """Why a map says of no cell that it matters more than another; "" where it does."""
    if not np.isfinite(found).all():
        return "undefined: not finite"
    return UNDEFINED if found.max() == found.min() else ""


def _write_in(place: Axes, words: str) -> None:
    """Say in the middle of a panel why it is empty."""
    place.text(
        *(0.5, 0.5, words.replace(": ", ":\n")),
        transform=place.transAxes,
        ha="center",
        va="center",
        fontsize=8,
        color="0.35",
    )


def _above(example: Example, side: int) -> str:
    return f"{('clean', 'attacked')[side]}, taken for {shortened(example.said[side])}"


def _reach(found: np.ndarray) -> float:
    return max(float(np.percentile(np.abs(found), _BRIGHTEST)), 1e-30)


def agreement_figure(
    title: str,
    measures: Mapping[str, str],
    figures: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Estimate]]]],
    groups: Sequence[str],
) -> Figure:
    """Bars with intervals: how much maps agree, of several victims, groups and explanations.

    Args:
      title: shown above.
      measures: key of a measure and what its axis says.
      figures: by explanation, victim, group and measure.
      groups: that have a bar each, in this order.
    """
    victims = list(dict.fromkeys(name for each in figures.values() for name in each))
    size = (max(8.0, 1.5 + 1.5 * len(victims) * len(measures)), 1.5 + 2.5 * len(figures))
    figure = new_figure(size, dpi=110)
    grid = figure.subplots(len(figures), len(measures), squeeze=False, sharey="col", sharex=True)
    width = 0.8 / len(groups)
    for line, (method, of_victims) in zip(grid, figures.items(), strict=True):
        for place, (measure, words) in zip(line, measures.items(), strict=True):
            for index, group in enumerate(groups):
                where = np.arange(len(victims)) + (index - (len(groups) - 1) / 2) * width
                found = [
                    of_victims[name][group][measure]
                    if name in of_victims
                    else Estimate(np.nan, np.nan, np.nan)
                    for name in victims
                ]
                values = np.array([each.value for each in found])
                ends = np.array([(each.low, each.high) for each in found]).T
                place.bar(
                    where,
                    np.nan_to_num(values),
                    width,
                    label=in_legend(group),
                    color=str(0.25 + 0.55 * index / max(1, len(groups) - 1)),
                    edgecolor="black",
                    linewidth=0.5,
                )
                place.errorbar(
                    where, values, np.abs(ends - values), fmt="none", ecolor="tab:red", capsize=2
                )
            if not any(
                np.isfinite(each[group][measure].value)
                for each in of_victims.values()
                for group in groups
            ):
                _write_in(place, UNDEFINED)
            place.axhline(0, color="black", linewidth=0.5)
            place.set_title(f"{method}: {words}", fontsize=10)
            place.set_xticks(range(len(victims)), [_on_lines(name) for name in victims], fontsize=7)
            place.grid(axis="y", alpha=0.3)
            place.set_axisbelow(True)
    figure.suptitle(title)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(groups),
        frameon=False,
    )
    return figure


def _on_lines(name: str) -> str:
    """Architecture and folder, of whose path the end tells most, in short lines."""
    first, _, rest = name.partition(" ")
    shown = rest if len(rest) <= 2 * _WIDEST else f"…{rest[1 - 2 * _WIDEST :]}"
    lines = [first, ""]
    # Between folders, where their names are short enough.
    for piece in re.findall(r"[^/]*/|[^/]+", shown):
        pieces = [piece[start : start + _WIDEST] for start in range(0, len(piece), _WIDEST)]
        if len(lines[-1]) + len(pieces[0]) > _WIDEST:
            lines.append("")
        lines[-1] += pieces[0]
        lines += pieces[1:]
    return "\n".join(line for line in lines if line)


def confusions_figure(
    title: str,
    lines: Sequence[Mapping[str, Int[np.ndarray, "classes classes"]]],
    labels: Sequence[Sequence[str]],
) -> Figure:
    """Confusion matrices side by side, a line for each victim.

    After figure 5 of Echim et al.

    Args:
      title: shown above.
      lines: of each victim: matrices by what is said above them, truth along their rows.
      labels: of each victim: names of the classes.
    """
    most = max(map(len, labels))
    columns = max(map(len, lines))
    side = 1.6 + 0.55 * most
    figure = new_figure((columns * side + 1.0, len(lines) * side + 0.4), dpi=110)
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for places, matrices, names in zip(grid, lines, labels, strict=True):
        for place, (words, matrix) in zip(places, matrices.items(), strict=True):
            drawn = draw_confusion(place, matrix, names)
            said = "\n".join(map(shortened, words.split("\n")))
            place.set_title(
                f"{said}\nUAR {float(uar(matrix)):.1%}, {counted(int(matrix.sum()), 'row')}",
                fontsize=10,
            )
        places[0].set_ylabel("true")
    figure.colorbar(drawn, ax=grid.ravel().tolist(), label="share of the true class", fraction=0.03)
    figure.suptitle(title)
    return figure
