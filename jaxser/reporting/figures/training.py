"""What a victim that is trained against an attack withstood, epoch by epoch."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxser.reporting.figures.canvas import new_figure

__all__ = ["robust_training_figure"]

# Column of the history -> name, colour and line.
_LINES = {
    "watched_accuracy": ("training, clean", "tab:blue", "--"),
    "attack_accuracy": ("training, under the attack trained with", "tab:blue", ":"),
    "robust_accuracy": ("training, under PGD", "tab:blue", "-"),
    "val_watched_accuracy": ("validation, clean", "tab:orange", "--"),
    "val_robust_accuracy": ("validation, under PGD", "tab:orange", "-"),
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
    epochs = [figures["epoch"] for figures in history]
    for column, (name, colour, line) in _LINES.items():
        if column in history[-1]:
            values = [figures[column] for figures in history]
            axes.plot(epochs, values, line, color=colour, marker=".", label=name)
    axes.axvline(best_epoch, color="grey", linewidth=0.8, label=f"best epoch ({best_epoch})")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy of the watched rows")
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title)
    axes.legend(fontsize=8)
    return figure
