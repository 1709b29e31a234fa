"""What a victim that is trained against an attack withstood, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxser.reporting.figures.canvas import SERIES, new_figure, shortened

__all__ = ["robust_training_figure", "robust_trainings_figure"]

# Column of the history -> name, colour and line.
_LINES = {
    "watched_accuracy": ("training, clean", SERIES[0], "--"),
    "attack_accuracy": ("training, under the attack trained with", SERIES[0], ":"),
    "robust_accuracy": ("training, under PGD", SERIES[0], "-"),
    "val_watched_accuracy": ("validation, clean", SERIES[1], "--"),
    "val_robust_accuracy": ("validation, under PGD", SERIES[1], "-"),
}


def robust_training_figure(
    history: Sequence[Mapping[str, float]], best_epoch: int, title: str
) -> Figure:
    """Accuracy of the watched rows over the epochs, clean and attacked.

    Robust overfitting is the gap that opens between both solid lines; catastrophic overfitting is a
    fall of the solid blue one beside a dotted one that stays.

    Args:
      history: figures of every epoch, as in ``history.csv``.
      best_epoch: whose checkpoint was kept, marked.
      title: shown above.
    """
    figure = new_figure((6.4, 4.0), dpi=120)
    axes = figure.subplots()
    _draw(axes, history, title)
    axes.axvline(best_epoch, color="grey", linewidth=0.8, label=f"best epoch ({best_epoch})")
    axes.legend(fontsize=8)
    return figure


def robust_trainings_figure(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The curves of several runs beside each other, on the same scale.

    Args:
      histories: as of :func:`robust_training_figure`, by the name of a run.
    """
    figure = new_figure((0.6 + 5.0 * len(histories), 4.0))
    places = figure.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    for axes, (name, history) in zip(places, histories.items(), strict=True):
        _draw(axes, history, shortened(name))
        axes.legend(fontsize=8)
    return figure


def _draw(axes: Any, history: Sequence[Mapping[str, float]], title: str) -> None:
    epochs = [figures["epoch"] for figures in history]
    for column, (name, colour, line) in _LINES.items():
        if column in history[-1]:
            values = [figures[column] for figures in history]
            axes.plot(epochs, values, line, color=colour, marker=".", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy of the watched rows")
    axes.set_ylim(-0.02, 1.02)
    # Of a single epoch there is one whole number; asked for two ticks it takes fractions.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(title)
