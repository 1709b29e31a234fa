"""The axis of certified accuracy: round numbers, where attacks reach far beyond certificates."""

import pytest

from jaxser.reporting.empirical import Empirical
from jaxser.reporting.figures.certificates import certified_figure
from jaxser.results.estimate import Estimate


@pytest.mark.parametrize(
    ("furthest", "expected"),
    [
        (0.5, ["0", "0.02", "0.05", "0.1", "0.2", "0.5"]),
        (100.0, ["0", "0.1", "1", "10", "100"]),
    ],
)
def test_norms_of_attacks_stand_at_round_numbers(furthest: float, expected: list[str]) -> None:
    half = Estimate(0.5, 0.4, 0.6)
    line = Empirical("pgd", (0.0, 0.1, furthest), (half, half, half), 10)
    figure = certified_figure("emo18", [0.0, 0.01, 0.025], [half] * 3, [line])
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == expected
    assert axes.get_xlim() == (0, furthest)
