"""Figures for people, made with matplotlib from numbers alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.mlab
import numpy as np
from jaxtyping import Float, Int

from jaxser.results.metrics import recalls, uar
from jaxser.runtime.files import atomic_file
from jaxser.speech.mel import mel_filters

__all__ = [
    "bars_figure",
    "confusion_figure",
    "draw_confusion",
    "log_bars_figure",
    "perturbation_figure",
    "save_figure",
    "shortened",
    "spectrograms_figure",
]

_MEL_BANDS = 64
_LONGEST_NAME = 80


def confusion_figure(
    matrix: Int[np.ndarray, "classes classes"], labels: tuple[str, ...], title: str
) -> matplotlib.figure.Figure:
    """A confusion matrix: colour is the share of the true class, text the count and the share.

    Args:
      matrix: counts, truth along rows.
      labels: class names.
      title: shown above, followed by the UAR.
    """
    size = 1.5 + 0.75 * len(labels)
    figure = matplotlib.figure.Figure(figsize=(size + 1.2, size), layout="compressed", dpi=120)
    axes = figure.subplots()
    image = draw_confusion(axes, matrix, labels)
    axes.set_yticks(
        range(len(labels)),
        [f"{name} ({value:.0%})" for name, value in zip(labels, recalls(matrix), strict=True)],
    )
    axes.set_ylabel("true (recall)")
    axes.set_title(f"{title}\nUAR {float(uar(matrix)):.1%}, {int(matrix.sum())} utterances")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def draw_confusion(
    axes: Any, matrix: Int[np.ndarray, "classes classes"], labels: Sequence[str]
) -> Any:
    """A confusion matrix into a place of a figure; returns the image, for a scale of colours.

    Cells of nothing are left empty.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix):
        axes.text(
            column,
            row,
            f"{matrix[row, column]}\n{share[row, column]:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share[row, column] > 0.55 else "black",
        )
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("predicted")
    return image


def bars_figure(
    title: str,
    axis: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]],
    log: bool = False,
) -> matplotlib.figure.Figure:
    """Groups of bars, and a diamond where a paper printed a figure.

    Args:
      title: shown above.
      axis: what the height is.
      names: of the groups.
      series: a bar in every group; NaN: none.
      published: by the name of a series, a diamond in every group; NaN: none.
      log: logarithmic height.
    """
    width = 0.8 / max(1, len(series))
    size = (max(6.0, 1.5 + 0.35 * len(names) * max(2, len(series))), 4.5)
    figure = matplotlib.figure.Figure(figsize=size, layout="compressed", dpi=120)
    axes = figure.subplots()
    places = np.arange(len(names))
    for index, (name, heights) in enumerate(series.items()):
        where = places + (index - (len(series) - 1) / 2) * width
        axes.bar(where, heights, width, label=name)
        if name in published:
            axes.plot(
                where,
                published[name],
                "kD",
                markersize=4,
                label="paper" if name == next(iter(published)) else None,
            )
    if log:
        axes.set_yscale("log")
    axes.set_xticks(places, names, rotation=30, ha="right")
    axes.set_ylabel(axis)
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def log_bars_figure(
    axis: str,
    names: Sequence[str],
    values: Sequence[float],
    *,
    start: float,
    spreads: Sequence[tuple[float, float]] | None = None,
) -> matplotlib.figure.Figure:
    """Bars to the right on a logarithmic axis; those to the left of the start in another colour.

    Args:
      axis: what the length is.
      names: of the bars, from above.
      values: where they end; above 0.
      start: where they begin; above 0.
      spreads: smallest and largest of each, as a whisker.
    """
    ends, places = np.asarray(values, float), np.arange(len(names))
    size = (11, 1.2 + 0.26 * len(names))
    figure = matplotlib.figure.Figure(figsize=size, layout="compressed", dpi=100)
    axes = figure.subplots()
    colours = np.where(ends >= start, "tab:blue", "tab:orange")
    axes.barh(places, ends - start, left=start, color=colours)
    if spreads is not None:
        low, high = np.array(spreads, float).T
        whisker = [ends - low, high - ends]
        axes.errorbar(ends, places, xerr=whisker, fmt="none", ecolor="black")
    axes.set_xscale("log")
    axes.set_yticks(places, [shortened(name) for name in names], fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure


def shortened(name: str) -> str:
    """A name that leaves room for a picture beside it: its ends, where it is long."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def spectrograms_figure(
    title: str,
    original: Float[np.ndarray, "frames bins"],
    attacked: Mapping[str, Float[np.ndarray, "frames bins"]],
    seconds: float,
) -> matplotlib.figure.Figure:
    """Original, attacked and difference side by side, a row per attack.

    Args:
      title: shown above.
      original: spectrogram in dB.
      attacked: the same after each attack.
      seconds: length of the utterance.
    """
    rows = len(attacked)
    size = (11, 0.6 + 2.1 * rows)
    figure = matplotlib.figure.Figure(figsize=size, layout="compressed", dpi=100)
    grid = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
    low, high = float(original.min()), float(original.max())
    extent = (0.0, seconds, 0.0, float(original.shape[1]))
    for axes, (name, values) in zip(grid, attacked.items(), strict=True):
        change = values - original
        reach = max(float(np.abs(change).max()), 1e-6)
        shown = [(original, low, high, "magma"), (values, low, high, "magma")]
        shown.append((change, -reach, reach, "RdBu_r"))
        for place, (image, least, most, colours) in zip(axes, shown, strict=True):
            drawn = place.imshow(
                image.T,
                origin="lower",
                aspect="auto",
                extent=extent,
                vmin=least,
                vmax=most,
                cmap=colours,
                interpolation="nearest",
            )
            figure.colorbar(drawn, ax=place, fraction=0.046)
        axes[0].set_ylabel(f"{name}\nband")
    for place, heading in zip(
        grid[0], ("original (dB)", "attacked (dB)", "difference"), strict=True
    ):
        place.set_title(heading)
    for place in grid[-1]:
        place.set_xlabel("s")
    figure.suptitle(title)
    return figure


def perturbation_figure(
    title: str,
    x: Float[np.ndarray, " time"],
    x_adv: Float[np.ndarray, " time"],
    sample_rate: int,
) -> matplotlib.figure.Figure:
    """Original, adversarial speech and difference: waveforms above, log-mel spectrograms below.

    After STAA-Net's Figure 3. The waveform of the difference has a scale of its own, which its axis
    says; the colours mean the same in all spectrograms, 100 dB from the loudest.

    Args:
      title: shown above.
      x: speech.
      x_adv: the same after an attack.
      sample_rate: of both, in Hz.
    """
    figure = matplotlib.figure.Figure(figsize=(12, 5), layout="compressed", dpi=100)
    above, below = figure.subplots(2, 3, sharex=True)
    seconds = np.arange(len(x)) / sample_rate
    parts = {"original": x, "adversarial": x_adv, "difference": x_adv - x}
    filters = _mel_filters(sample_rate, _frame_length(len(x), sample_rate))
    loudness = {name: _log_mel(samples, filters) for name, samples in parts.items()}
    loudest = max(float(values.max()) for values in loudness.values())
    for axes, image, (name, samples) in zip(above, below, parts.items(), strict=True):
        axes.plot(seconds, samples, linewidth=0.5)
        axes.set_title(name)
        reach = float(np.abs(samples if name == "difference" else [x, x_adv]).max())
        axes.set_ylim(-1.05 * reach - 1e-9, 1.05 * reach + 1e-9)
        image.imshow(
            loudness[name],
            origin="lower",
            aspect="auto",
            extent=(0.0, float(seconds[-1]), -0.5, len(loudness[name]) - 0.5),
            vmin=loudest - 100,
            vmax=loudest,
            cmap="magma",
        )
        image.set_yticks(*_mel_ticks(filters, sample_rate))
        image.set_xlabel("s")
    above[0].set_ylabel("amplitude")
    below[0].set_ylabel("Hz (mel scale)")
    figure.colorbar(below[-1].images[0], ax=below, label="dB")
    figure.suptitle(title)
    return figure


def _frame_length(samples: int, sample_rate: int) -> int:
    """About 32 ms, and even."""
    return min(2 ** round(np.log2(0.032 * sample_rate)), samples // 2 * 2)


def _mel_filters(sample_rate: int, n_fft: int) -> Float[np.ndarray, "bins bands"]:
    return mel_filters(sample_rate, n_fft, _MEL_BANDS, 0.0, sample_rate / 2, htk=False, norm=False)


def _log_mel(
    samples: Float[np.ndarray, " time"], filters: Float[np.ndarray, "bins bands"]
) -> Float[np.ndarray, "bands frames"]:
    size = 2 * (len(filters) - 1)
    power = np.asarray(matplotlib.mlab.specgram(samples, size, noverlap=3 * size // 4)[0], float)
    # Silence, as most of a sparse difference is, must not be a logarithm of zero.
    return 10 * np.log10(filters.T @ power + 1e-16)


def _mel_ticks(
    filters: Float[np.ndarray, "bins bands"], sample_rate: int
) -> tuple[list[float], list[str]]:
    """Places of round frequencies among the bands."""
    centres = np.linspace(0, sample_rate / 2, len(filters))[filters.argmax(axis=0)]
    named = [hertz for hertz in (250, 500, 1000, 2000, 4000, 8000) if hertz <= centres[-1]]
    return [float(np.interp(hertz, centres, np.arange(len(centres)))) for hertz in named], [
        f"{hertz:,}" for hertz in named
    ]


def save_figure(figure: matplotlib.figure.Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)
