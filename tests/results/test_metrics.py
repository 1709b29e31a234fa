"""Metrics against scikit-learn, and the bootstrap against its own definition."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from jaxser.results.intervals import bootstrap_interval, matrix_intervals
from jaxser.results.metrics import accuracy, confusion_matrix, macro_f1, recalls, uar


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
    none = np.array([], int)
    assert np.isnan(bootstrap_interval(uar, none, none, 3)).all()


def test_interval_over_utterances_matches_plain_resampling(
    predictions: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, predicted = predictions
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(truth), (2000, len(truth)))
    plain = [balanced_accuracy_score(truth[d], predicted[d]) for d in drawn]
    low, high = bootstrap_interval(uar, truth, predicted, 5, num_resamples=2000)
    expected = np.percentile(plain, [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, atol=0.012)


def test_intervals_of_a_matrix_are_those_of_its_rows(
    predictions: tuple[np.ndarray, np.ndarray],
) -> None:
    metrics = [accuracy, uar, macro_f1]
    found = matrix_intervals(metrics, confusion_matrix(*predictions, 5))
    assert found == [bootstrap_interval(metric, *predictions, 5) for metric in metrics]


def test_interval_over_speakers_is_wider_where_speakers_differ() -> None:
    speakers = np.repeat([f"s{i}" for i in range(6)], 50)
    truth = np.tile(np.arange(5), 60)
    right = np.repeat([0.95, 0.9, 0.85, 0.4, 0.3, 0.2], 50) > np.tile(np.linspace(0, 1, 50), 6)
    predicted = np.where(right, truth, (truth + 1) % 5)
    by_utterance = bootstrap_interval(accuracy, truth, predicted, 5)
    by_speaker = bootstrap_interval(accuracy, truth, predicted, 5, groups=list(speakers))
    assert by_speaker[1] - by_speaker[0] > 2 * (by_utterance[1] - by_utterance[0])
    means = [right[speakers == s].mean() for s in np.unique(speakers)]
    rng = np.random.default_rng(1)
    plain = np.mean(rng.choice(means, (4000, 6)), axis=1)
    np.testing.assert_allclose(by_speaker, np.percentile(plain, [2.5, 97.5]), atol=0.03)


def test_interval_is_a_function_of_the_seed(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    first, again, other = (
        bootstrap_interval(uar, *predictions, 5, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
