"""What is taken for what: before attacks, after the strongest, and where an attack takes speech."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from jaxser.reporting.figures.canvas import COLUMN, column_figure, shortened
from jaxser.reporting.figures.confusion import draw_confusion
from jaxser.reporting.section import Picture, Section
from jaxser.reporting.settings import Setting, epsilon_text, speech
from jaxser.results.cells import number, percent
from jaxser.results.metrics import confusion_matrix

__all__ = ["confusion_picture", "confusions", "flows"]


def confusions(chosen: Sequence[Setting]) -> Iterator[Section]:
    """Before any attack, and after some of them."""
    for place, worst in enumerate(chosen, 1):
        after = f"{worst.label}, ε {epsilon_text(worst)}"
        kept = [
            f"{name} {row[i]} of {row.sum()}"
            for i, (name, row) in enumerate(zip(worst.classes, worst.after, strict=True))
            if row.sum()
        ]
        words = f"Confusion matrix of rows after {after}. Right after: {', '.join(kept)}."
        pictures = [
            confusion_picture(worst.before, worst.classes, ("true", "predicted before"),
                              "Confusion matrix of rows before attacks.",
                              f"confusion_before_{place}"),
            confusion_picture(worst.after, worst.classes, ("true", "predicted after"), words,
                              f"confusion_after_{place}"),
        ]  # fmt: skip
        yield Section(
            f"{worst.facts['victim']}, {speech(worst)}: before, and after {after}",
            "",
            pictures=pictures,
            group="Confusion matrices",
        )


def flows(chosen: Sequence[Setting]) -> Iterator[Section]:
    """Which class each class is taken to by some attacks."""
    for place, worst in enumerate(chosen, 1):
        matrix = _flow(worst)
        after = f"{worst.label}, ε {epsilon_text(worst)}"
        cells = [["predicted before", "taken for after", "share", "rows"]]
        moved = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix).tolist() if i != j]
        for count, i, j in sorted(moved, key=lambda each: (-each[0], each[1:])):
            share = percent(count / int(matrix[i].sum()))
            cells.append([worst.classes[i], worst.classes[j], share, number(count, "d")])
        told = "; ".join(f"{a} to {b} {rows}" for a, b, _, rows in cells[1:6]) or "no row changed"
        yield Section(
            f"{worst.facts['victim']}, {speech(worst)}: {after}",
            f"class_flow_{place}",
            cells if len(cells) > 1 else [],
            "From the class that was predicted before to the one after; share of what was "
            "predicted as the first before.",
            pictures=[
                confusion_picture(
                    matrix,
                    worst.classes,
                    ("predicted before", "predicted after"),
                    f"Class flow of rows under {after}: {told}.",
                    f"class_flow_{place}",
                ),
            ],
            group="Class flow",
        )


def _flow(setting: Setting) -> Int[np.ndarray, "classes classes"]:
    """Rows by prediction before and after."""
    outcomes = setting.outcomes
    return confusion_matrix(outcomes.clean, outcomes.found, len(setting.classes))


def confusion_picture(
    matrix: Int[np.ndarray, "classes classes"],
    classes: Sequence[str],
    axes_names: tuple[str, str],
    words: str,
    name: str,
    title: str = "",
) -> Picture:
    """A matrix of counts, small enough for a column of a paper where its classes are few.

    Args:
      matrix: counts.
      classes: names along both axes.
      axes_names: what the rows and the columns are.
      words: what it shows, for those who do not see it.
      name: of its files.
      title: shown above.
    """
    # Two columns wide where counts would not fit into the cells of one.
    width = min(2 * COLUMN, max(COLUMN, 1.0 + 0.42 * len(classes)))
    figure = column_figure(0.85 * width, width)
    axes = figure.subplots()
    draw_confusion(axes, matrix, classes, letters=6)
    axes.set_title(shortened(title), fontsize=8)
    axes.set_ylabel(axes_names[0])
    axes.set_xlabel(axes_names[1])
    return Picture(figure, words, name)
