"""Metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from jaxser.results.metrics import (
    accuracy,
    confusion_matrix,
    macro_f1,
    one_answer,
    recalls,
    uar,
)


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.choice(5, size=300, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    return truth, np.where(rng.random(300) < 0.6, truth, rng.integers(0, 5, 300))


def test_metrics_agree_with_scikit_learn(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = predictions
    matrix = confusion_matrix(truth, predicted, 5)
    np.testing.assert_array_equal(matrix, sklearn_confusion(truth, predicted))
    assert accuracy(matrix) == pytest.approx(accuracy_score(truth, predicted))
    assert uar(matrix) == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert macro_f1(matrix) == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_absent_classes_do_not_count_as_zero() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 4)
    assert uar(matrix) == pytest.approx(0.75)
    assert macro_f1(matrix) == pytest.approx(2 / 3)
    assert np.isnan(recalls(matrix)[2:]).all()


def test_no_rows_is_undefined_not_zero() -> None:
    empty = np.zeros((3, 3), int)
    assert np.isnan([accuracy(empty), uar(empty), macro_f1(empty)]).all()


def test_one_answer_to_three_classes_is_named_and_that_to_two_may_be_chance() -> None:
    assert one_answer(["anger", "fear", "joy"], ["fear"] * 3) == "fear"
    assert one_answer([0, 1, 2, 0], [0, 0, 0, 0]) == 0  # a class like any other
    assert one_answer(["anger", "fear", "joy"], ["fear", "fear", "joy"]) is None
    assert one_answer(["anger", "fear", "fear"], ["fear"] * 3) is None
    assert one_answer([], []) is None
