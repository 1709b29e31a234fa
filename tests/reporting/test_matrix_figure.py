"""Defences or runs by attacks, as colours."""

import numpy as np
import pytest

from jaxser.reporting.figures.canvas import figure_svg
from jaxser.reporting.figures.matrix import matrix_figure


@pytest.mark.parametrize("letters", [3, 30, 80, 300])
def test_names_of_any_length_leave_room_for_the_cells(letters: int) -> None:
    """matplotlib warns, which is an error in tests, where labels leave no room."""
    names = ["r" * letters, "other run"]
    shares = np.array([[0.5, 0.0, np.nan], [1.0, 0.25, 0.0]])
    figure = matrix_figure(shares, names, ["pgd", "c" * letters, "worst"], "a title", "accuracy")
    assert "25%" in figure_svg(figure, "shares")
    box = figure.axes[0].get_position()
    width, height = figure.get_size_inches()
    assert box.width * width > 1.0
    assert box.height * height > 0.4
