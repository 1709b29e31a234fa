"""What becomes of an utterance before a network reads it, and what a network is made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from jaxser.reporting.figures.canvas import in_legend, new_figure, shortened

__all__ = ["classes_figure", "layers_figure", "preparation_figure"]


def preparation_figure(
    title: str, stages: Sequence[tuple[str, Float[np.ndarray, "_ bands"], float]]
) -> Figure:
    """Spectrograms below each other on one time axis (Facchinetti et al., figure 2).

    Args:
      title: shown above.
      stages: what each is, its spectrogram in dB, and its length in seconds.
    """
    figure = new_figure((9, 0.8 + 1.5 * len(stages)))
    grid = figure.subplots(len(stages), 1, sharex=True, squeeze=False)[:, 0]
    low = min(float(values.min()) for _, values, _ in stages)
    high = max(float(values.max()) for _, values, _ in stages)
    for axes, (name, values, seconds) in zip(grid, stages, strict=True):
        drawn = axes.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds, 0.0, float(values.shape[1])),
            vmin=low,
            vmax=high,
            cmap="magma",
            interpolation="nearest",
        )
        axes.set_title(f"{name}, {seconds:.2f} s", fontsize=9, loc="left")
        axes.set_ylabel("band")
    grid[-1].set_xlim(0, max(seconds for *_, seconds in stages))
    grid[-1].set_xlabel("s")
    figure.colorbar(drawn, ax=list(grid), label="dB", fraction=0.03)
    figure.suptitle(shortened(title))
    return figure


def layers_figure(title: str, layers: Sequence[tuple[str, str, str]]) -> Figure:
    """Layers as boxes from above (Facchinetti et al., figure 3).

    Args:
      title: shown above.
      layers: what each does, the shape that it gives, and its parameters.
    """
    figure = new_figure((7, 0.8 + 0.55 * len(layers)))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(-len(layers), 0.3)
    for place, (name, shape, parameters) in enumerate(layers):
        style = "round,pad=0.02,rounding_size=0.15"
        box = FancyBboxPatch((0.1, -place - 0.8), 5.6, 0.62, boxstyle=style, fc="0.93", ec="0.4")
        axes.add_patch(box)
        axes.text(2.9, -place - 0.49, name, ha="center", va="center", fontsize=9)
        axes.text(6.1, -place - 0.49, shape, ha="left", va="center", fontsize=9)
        axes.text(9.9, -place - 0.49, parameters, ha="right", va="center", fontsize=9)
        if place:
            arrow = {"arrowstyle": "-|>", "color": "0.4", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (2.9, -place - 0.17), (2.9, -place + 0.21), arrowprops=arrow)
    axes.text(6.1, 0.1, "output", fontsize=8, color="0.4")
    axes.text(9.9, 0.1, "parameters", fontsize=8, color="0.4", ha="right")
    figure.suptitle(shortened(title))
    return figure


def classes_figure(
    title: str,
    maps: Mapping[str, Float[np.ndarray, "points 2"]],
    labels: Int[np.ndarray, " points"],
    names: Sequence[str],
) -> Figure:
    """The same points in planes beside each other, a colour for each class.

    Args:
      title: shown above.
      maps: what each plane is, and the places in it.
      labels: class of every point.
      names: of the classes.
    """
    figure = new_figure((5.2 * len(maps) + 1, 5.2), dpi=110)
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    size = float(np.clip(2400 / max(1, len(labels)), 8, 40))
    for axes, (kind, points) in zip(grid, maps.items(), strict=True):
        for index, label in enumerate(names):
            own = points[labels == index]
            colour = colours(index % colours.N)
            axes.scatter(*own.T, s=size, color=colour, label=in_legend(label), linewidths=0)
        axes.set_title(kind)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, shown = grid[0].get_legend_handles_labels()
    figure.legend(handles, shown, loc="outside right center", title="class")
    figure.suptitle(shortened(title))
    return figure
