"""Intervals against SciPy, against plain resampling, and against what seeds must not do."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from jaxser.results.estimate import Estimate
from jaxser.results.intervals import (
    difference,
    estimates,
    paired_difference,
    policy,
    share,
    wilson,
)
from jaxser.results.metrics import METRICS, accuracy, confusion_matrix, uar
from jaxser.results.units import Units
from jaxser.runtime.errors import UsageError

CLASSES = ("anger", "fear", "joy", "neutral", "sad")


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.choice(5, size=300, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    return truth, np.where(rng.random(300) < 0.6, truth, rng.integers(0, 5, 300))


def scipys(right: int, of: int) -> tuple[float, float]:
    interval = binomtest(right, of).proportion_ci(method="wilson")
    return interval.low, interval.high


@pytest.mark.parametrize("trials", [1, 2, 14, 40, 1000, 100_000])
def test_a_share_has_the_interval_of_scipy(trials: int) -> None:
    for right in {0, 1, trials // 3, trials - 1, trials}:
        assert wilson(right, trials) == pytest.approx(scipys(right, trials), abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 2, 10])
def test_seeds_are_no_more_utterances(seeds: int) -> None:
    """Noise on 40 utterances of which 35 are right, whatever the seed."""
    utterances = np.tile([f"u{i}" for i in range(40)], seeds)
    right = np.tile(np.arange(40) < 35, seeds)
    found = share(right, Units.of(utterances))
    assert found.value == 0.875
    assert (found.low, found.high) == pytest.approx(scipys(35, 40), abs=1e-12)
    assert (round(found.low, 3), round(found.high, 3)) == (0.739, 0.945)
    # All other metrics have the intervals of one seed, too.
    truth = np.tile(np.arange(40) % 5, seeds)
    predicted = np.where(right, truth, (truth + 1) % 5)
    alone = estimates(METRICS, truth[:40], predicted[:40], CLASSES, Units.of(utterances[:40]))
    assert estimates(METRICS, truth, predicted, CLASSES, Units.of(utterances)) == alone


def test_seeds_that_differ_make_utterances_count_in_part() -> None:
    """A bootstrap of utterances, each the mean of its three seeds."""
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(30) % 5, 3)
    hard = np.tile(rng.uniform(0, 1, 30), 3)
    predicted = np.where(rng.random(90) > hard, truth, (truth + 1) % 5)
    utterances = np.tile(np.arange(30), 3)
    found = estimates(METRICS, truth, predicted, CLASSES, Units.of(utterances))
    plain = []
    for _ in range(3000):
        rows = (rng.integers(0, 30, 30)[:, None] + [0, 30, 60]).ravel()
        drawn = truth[rows], predicted[rows]
        plain.append([(drawn[0] == drawn[1]).mean(), float(uar(confusion_matrix(*drawn, 5)))])
    expected = np.percentile(plain, [2.5, 97.5], axis=0).T
    for name, interval in zip(("accuracy", "UAR"), expected, strict=True):
        np.testing.assert_allclose([found[name].low, found[name].high], interval, atol=0.02)
    rows = share(truth == predicted, Units.of(np.arange(90)))
    assert found["accuracy"].value == pytest.approx(rows.value)
    assert found["accuracy"].high - found["accuracy"].low > rows.high - rows.low


def test_intervals_match_plain_resampling(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = predictions
    found = estimates(METRICS, truth, predicted, CLASSES, Units.of(np.arange(300)))
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 300, (2000, 300))
    for name, metric in (
        ("UAR", balanced_accuracy_score),
        ("macro F1", lambda y, p: f1_score(y, p, average="macro")),
    ):
        # Scikit-learn takes 20 seconds for as many draws.
        plain = METRICS[name](
            np.stack([confusion_matrix(truth[d], predicted[d], 5) for d in drawn])
        )
        expected = np.percentile(plain, [2.5, 97.5])
        np.testing.assert_allclose([found[name].low, found[name].high], expected, atol=0.012)
        assert found[name].value == pytest.approx(metric(truth, predicted))
    right = int((truth == predicted).sum())
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx(scipys(right, 300))


def test_speakers_are_drawn_whole() -> None:
    speakers = np.repeat([f"s{i}" for i in range(6)], 50)
    truth = np.tile(np.arange(5), 60)
    right = np.repeat([0.95, 0.9, 0.85, 0.4, 0.3, 0.2], 50) > np.tile(np.linspace(0, 1, 50), 6)
    by_utterance, by_speaker = (
        share(right, Units.of(np.arange(300), speakers, over)) for over in ("utterance", "speaker")
    )
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)
    means = [right[speakers == s].mean() for s in np.unique(speakers)]
    rng = np.random.default_rng(1)
    plain = np.mean(rng.choice(means, (4000, 6)), axis=1)
    expected = np.percentile(plain, [2.5, 97.5])
    np.testing.assert_allclose([by_speaker.low, by_speaker.high], expected, atol=0.03)
    predicted = np.where(right, truth, (truth + 1) % 5)
    whole = estimates(
        METRICS, truth, predicted, CLASSES, Units.of(np.arange(300), speakers, "speaker")
    )
    assert whole["accuracy"] == by_speaker
    np.testing.assert_allclose([whole["UAR"].low, whole["UAR"].high], expected, atol=0.04)


@pytest.mark.parametrize("unnamed", ["", "unknown", None])
def test_utterances_of_nobody_are_no_one_speaker(unnamed: str | None) -> None:
    right = np.arange(40) < 35
    utterances = [f"u{i}" for i in range(40)]
    nobody = share(right, Units.of(utterances, [unnamed] * 40, "speaker"))
    each = share(right, Units.of(utterances, utterances, "speaker"))
    one = share(right, Units.of(utterances, ["s"] * 40, "speaker"))
    assert nobody == each
    # Of one speaker nothing is known about others.
    assert one.high - one.low > 0.8


@pytest.mark.parametrize("over", ["utterance", "speaker"])
@pytest.mark.parametrize("count", [1, 2, 14, 300])
@pytest.mark.parametrize("kind", ["all right", "all wrong", "half a class", "one class"])
def test_no_interval_is_without_width(over: str, count: int, kind: str) -> None:
    truth = np.zeros(count, int) if kind == "one class" else np.arange(count) % 2
    predicted = {
        "all right": truth,
        "one class": truth,
        "all wrong": 1 - truth,
        "half a class": np.zeros(count, int),
    }[kind]
    units = Units.of(np.arange(count), np.arange(count) // 2, over)  # type: ignore[arg-type]
    found = [
        *estimates(METRICS, truth, predicted, CLASSES[:2], units).values(),
        share(truth == predicted, units),
        paired_difference(truth == predicted, truth == predicted, units),
    ]
    for each in found:
        assert each.low <= each.value <= each.high
        assert each.high - each.low > 0.005


@pytest.mark.parametrize("speakers", [1, 2, 40])
@pytest.mark.parametrize("first", [0.0, 1.0])
@pytest.mark.parametrize("second", [0.0, 1.0])
def test_no_difference_of_shares_is_beyond_one(first: float, second: float, speakers: int) -> None:
    """Of one speaker each, +0.0 % was -112.2 % to +112.2 %."""
    names = np.arange(speakers)
    sides = [(np.full(speakers, value), names, names) for value in (first, second)]
    found = difference(sides[0], sides[1])
    assert found is not None
    assert found.value == first - second
    assert -1 <= found.low <= found.value <= found.high <= 1
    # Each side alone may be as far off as none of so many: both are independent.
    reach = 2**0.5 * scipys(0, speakers)[1]
    assert found.low == pytest.approx(max(-1.0, found.value - reach))
    assert found.high == pytest.approx(min(1.0, found.value + reach))


def test_the_worst_known_interval_without_width() -> None:
    """14 of 14 were 100.0 to 100.0."""
    found = share(np.ones(14, bool), Units.of(np.arange(14)))
    assert (found.low, found.high) == pytest.approx(scipys(14, 14))
    assert found.low == pytest.approx(0.785, abs=0.001)


def test_neither_the_order_of_rows_nor_that_of_classes_matters(
    predictions: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, predicted = predictions
    utterances, speakers = np.arange(300) // 3, np.arange(300) // 30
    rng = np.random.default_rng(0)
    order, names = rng.permutation(300), rng.permutation(5)
    place = np.argsort(names)
    for over in ("utterance", "speaker"):
        first = estimates(METRICS, truth, predicted, CLASSES, Units.of(utterances, speakers, over))
        other = estimates(
            METRICS,
            place[truth][order],
            place[predicted][order],
            [CLASSES[i] for i in names],
            Units.of(utterances[order], speakers[order], over),
        )
        for name in METRICS:
            assert (first[name].low, first[name].high) == pytest.approx(
                (other[name].low, other[name].high), abs=1e-12
            )


def test_a_missing_prediction_is_always_wrong() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, -1, 1, 2])
    found = estimates(METRICS, truth, predicted, CLASSES[:2], Units.of(np.arange(4)))
    assert found["accuracy"].value == found["UAR"].value == 0.5


def test_no_rows_is_undefined_not_zero() -> None:
    none = np.array([], int)
    units = Units.of(none)
    for found in (
        share(none == 0, units),
        *estimates(METRICS, none, none, CLASSES, units).values(),
    ):
        assert np.isnan([found.value, found.low, found.high]).all()
    nothing = share(np.ones(3, bool), Units.of(np.arange(3)), of=np.zeros(3, bool))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_a_share_of_some_rows() -> None:
    """Three of four that were right before, one of them twice."""
    utterances = np.array([0, 0, 1, 2, 3, 4])
    right = np.array([1, 1, 1, 1, 1, 0], bool)
    reached = np.array([1, 1, 1, 1, 0, 1], bool)
    found = share(reached, Units.of(utterances), of=right)
    assert found == Estimate(0.75, *wilson(3, 4))


def test_draws_are_a_function_of_the_rows(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    metrics = {"UAR": METRICS["UAR"]}
    first, again = (
        estimates(metrics, *predictions, CLASSES, Units.of(np.arange(300))) for _ in range(2)
    )
    both = estimates(METRICS, *predictions, CLASSES, Units.of(np.arange(300)))
    assert first == again == {"UAR": both["UAR"]}
    assert set(both) == set(METRICS)
    assert METRICS["accuracy"] is accuracy


def test_what_intervals_are_over_is_said() -> None:
    assert policy("utterance") != policy("speaker")
    with pytest.raises(UsageError, match="did you mean 'speaker'"):
        Units.of([0], [0], "speakers")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="need the speaker of every row"):
        Units.of([0], None, "speaker")


@pytest.mark.parametrize("over", ["utterance", "speaker"])
def test_chunks_are_drawn_with_their_utterance(over: str) -> None:
    """Unequal numbers of chunks that differ: a plain bootstrap of utterances, chunk by chunk."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 7, 30)
    source = np.repeat(np.arange(30), counts)
    truth = source % 5
    predicted = np.where(rng.random(len(source)) > source / 40, truth, (truth + 1) % 5)
    # Two utterances to a speaker, and the last ten of nobody.
    speaker = np.where(source < 20, source // 2, -1)
    units = Units.of(np.arange(len(source)), speaker, over, sources=source)  # type: ignore[arg-type]
    assert (len(units), units.sources) == (len(source), 30)
    group = source if over == "utterance" else np.where(speaker >= 0, speaker, 100 + source)
    members = [np.flatnonzero(group == each) for each in np.unique(group)]
    plain = []
    for _ in range(3000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        drawn = truth[rows], predicted[rows]
        plain.append([(drawn[0] == drawn[1]).mean(), float(uar(confusion_matrix(*drawn, 5)))])
    expected = np.percentile(plain, [2.5, 97.5], axis=0).T
    found = estimates(METRICS, truth, predicted, CLASSES, units)
    assert found["accuracy"].value == pytest.approx((truth == predicted).mean())
    for name, interval in zip(("accuracy", "UAR"), expected, strict=True):
        assert (found[name].low, found[name].high) == pytest.approx(interval, abs=0.02)


def test_a_hundred_thousand_windows_take_a_moment() -> None:
    """Windows of 500 files: the interval of the files, in time and memory that do not explode."""
    import time

    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(500), 200)
    truth = source % 5
    predicted = np.where(rng.random(100_000) < 0.7, truth, rng.integers(0, 5, 100_000))
    names = np.array([f"file{i}" for i in range(500)])[source]
    began = time.process_time()
    units = Units.of(np.arange(100_000), sources=names)
    found = estimates(METRICS, truth, predicted, CLASSES, units)
    assert time.process_time() - began < 5
    assert found["accuracy"].value == pytest.approx((truth == predicted).mean())
    # Where all windows of a file agree they are one piece of evidence.
    right = source % 10 < 7
    same = share(right, units)
    assert (same.low, same.high) == pytest.approx(scipys(350, 500), abs=1e-12)
