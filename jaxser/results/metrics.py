"""Accuracy, UAR and macro F1 from a confusion matrix, and means of what is defined.

    matrix = confusion_matrix(y_true, y_pred, num_classes)
    uar(matrix), recalls(matrix)

Predictions that are missing are a column more than there are rows: always wrong, and no class, so
that they lower no mean over classes by being one. Everything is host-side NumPy. Matrices may carry
leading axes, so that the draws of a bootstrap (:mod:`jaxser.results.intervals`) are one call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

__all__ = [
    "METRICS",
    "Matrix",
    "Metric",
    "accuracy",
    "confusion_matrix",
    "macro_f1",
    "mean_of_defined",
    "median_of_defined",
    "one_answer",
    "ratio",
    "recalls",
    "told_apart",
    "uar",
]

Matrix = Float[np.ndarray, "... classes predicted"] | Int[np.ndarray, "... classes predicted"]
Metric = Callable[[Matrix], Float[np.ndarray, "..."]]


def confusion_matrix(
    y_true: Int[np.ndarray, " rows"], y_pred: Int[np.ndarray, " rows"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts with the true class along rows and the predicted class along columns.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import confusion_matrix
      >>> print(confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2))
      [[1 1]
       [0 1]]
    """
    # One integer per cell, counted at once: a row costs no Python.
    cells = np.asarray(y_true, np.int64) * num_classes + np.asarray(y_pred, np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Share of rows on the diagonal (weighted average recall); NaN without rows.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import accuracy
      >>> print(accuracy(np.array([[90, 0], [9, 1]])))
      0.91
    """
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def recalls(matrix: Matrix) -> Float[np.ndarray, "... classes"]:
    """Recall per class; NaN for a class without rows.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import recalls
      >>> print(recalls(np.array([[90, 0], [9, 1]])))
      [1.  0.1]
    """
    return ratio(_diagonal(matrix), matrix.sum(-1))


def uar(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Unweighted average recall, over the classes that have rows; NaN without rows.

    Examples:
      What is right of the rare class counts as much as what is right of the frequent one.

      >>> import numpy as np
      >>> from jaxser.results.metrics import uar
      >>> print(uar(np.array([[90, 0], [9, 1]])))
      0.55
    """
    return _mean_over(recalls(matrix), matrix.sum(-1) > 0)


def macro_f1(matrix: Matrix) -> Float[np.ndarray, "..."]:
    """Mean F1 over the classes that occur as truth or as prediction; NaN without rows.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import macro_f1
      >>> print(macro_f1(np.array([[90, 0], [9, 1]])).round(3))
      0.567
    """
    support = matrix.sum(-1) + matrix.sum(-2)[..., : matrix.shape[-2]]
    return _mean_over(ratio(2 * _diagonal(matrix), support), support > 0)


# Classes of rows that all have the same answer.
_TOO_MANY_FOR_CHANCE = 3

# By the names that tables and reports give them.
METRICS: Mapping[str, Metric] = {"accuracy": accuracy, "UAR": uar, "macro F1": macro_f1}


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the defined values; NaN where there is none.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import mean_of_defined
      >>> mean_of_defined(np.array([1.0, np.nan, 3.0]))
      2.0
    """
    defined = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(defined.mean()) if len(defined) else float("nan")


def median_of_defined(values: np.ndarray) -> float:
    """Median of the defined values; NaN where there is none.

    Examples:
      >>> import numpy as np
      >>> from jaxser.results.metrics import median_of_defined
      >>> median_of_defined(np.array([1.0, np.nan, 3.0, 8.0]))
      3.0
    """
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if len(defined) else float("nan")


def one_answer(labels: Sequence[Any], answers: Sequence[Any]) -> Any | None:
    """The one answer to all rows, though these are of three classes or more; None if there is none.

    Of two classes and few rows, one answer to all can be chance.

    Examples:
      >>> from jaxser.results.metrics import one_answer
      >>> one_answer(["anger", "joy", "fear"], ["joy", "joy", "joy"])
      'joy'
      >>> one_answer(["anger", "joy", "fear"], ["joy", "joy", "fear"]) is None
      True
    """
    given = set(answers)
    return given.pop() if len(given) == 1 and len(set(labels)) >= _TOO_MANY_FOR_CHANCE else None


def told_apart(victim: str, answer: str, rows: int) -> str:
    """What to say of a victim with :func:`one_answer`.

    Examples:
      >>> from jaxser.results.metrics import told_apart
      >>> told_apart("emo18", "joy", 100)
      'emo18 answers joy to all 100 clean inputs: it does not tell them apart, ...'
    """
    return (
        f"{victim} answers {answer} to all {rows:,} clean inputs: it does not tell them apart, so "
        "that its answers stay is no robustness"
    )


def _diagonal(matrix: Matrix) -> Shaped[np.ndarray, "... classes"]:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def ratio(
    numerator: np.ndarray | np.number | float, denominator: np.ndarray | np.number | float
) -> Float[np.ndarray, "..."]:
    """numerator / denominator, NaN where the denominator is 0.

    Examples:
      >>> from jaxser.results.metrics import ratio
      >>> print(ratio(1.0, 4.0), ratio(0.0, 0.0))
      0.25 nan
    """
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean_over(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean of the ``present`` values along the last axis."""
    return ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))
