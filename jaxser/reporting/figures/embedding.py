"""Points in a plane, clean and attacked, with a colour for each class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.figure import Figure

from jaxser.reporting.figures.canvas import in_legend, new_figure, shortened

__all__ = ["embedding_figure"]


def embedding_figure(
    clean: Float[np.ndarray, "rows 2"],
    attacked: Float[np.ndarray, "rows 2"],
    labels: Int[np.ndarray, " rows"],
    names: Sequence[str],
    title: str,
    attack: str,
) -> Figure:
    """Clean inputs on the left and attacked ones on the right, in the same plane.

    The other kind is grey in the background, so that one sees where points went.

    Args:
      clean, attacked: places of the same inputs.
      labels: true class of every input.
      names: of the classes.
      title: shown above.
      attack: what was done to the inputs on the right.
    """
    figure = new_figure((11, 5.2), dpi=110)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    # Of few inputs larger points, and of many none that hide each other.
    size = float(np.clip(2400 / len(labels), 12, 40)) if len(labels) else 12.0
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    for place, points, other, name in (
        (axes[0], clean, attacked, "clean"),
        (axes[1], attacked, clean, attack),
    ):
        grey = place.scatter(*other.T, s=size / 2, color="0.85", linewidths=0)
        for index, label in enumerate(names):
            own = points[labels == index]
            colour, shown = colours(index % colours.N), in_legend(label)
            place.scatter(*own.T, s=size, color=colour, label=shown, linewidths=0)
        place.set_title(shortened(name))
        place.set_xticks([])
        place.set_yticks([])
    figure.suptitle(shortened(title))
    handles, shown_names = axes[0].get_legend_handles_labels()
    figure.legend(
        [*handles, grey],
        [*shown_names, "the other side's"],
        loc="outside right center",
        title="true class",
    )
    return figure
