"""Tables that fit the terminal: what stands above, what leaves first, what goes on below."""

import pytest

from jaxser.results.fitted import fitted, folded
from jaxser.runtime.terminal import terminal_width, wrapped

HEADER = ["attack", "epsilon", "robust acc", "passes", "rows/s"]
CELLS = [HEADER, ["pgd", "0.01", "40.0%", "11.0", "2.5"], ["pgd", "0.02", "9.0%", "11.0", "2.7"]]


def test_what_all_lines_say_stands_once_above() -> None:
    text = fitted(CELLS, 80)
    assert text.splitlines() == [
        "in all 2 lines: attack pgd; passes 11.0",
        "epsilon  robust acc  rows/s",
        "   0.01       40.0%     2.5",
        "   0.02        9.0%     2.7",
    ]
    # The result itself stays in the table, and a dash says nothing else than the other lines.
    same = [["part", "robust acc", "passes"], ["a", "1.0%", "–"], ["b", "1.0%", "3.0"]]
    assert fitted(same, 80, kept=["robust acc"]).splitlines()[:2] == [
        "in all 2 lines: passes 3.0",
        "part  robust acc",
    ]


@pytest.mark.parametrize(
    ("width", "gone"), [(27, ""), (26, "rows/s"), (19, "rows/s"), (18, "rows/s; epsilon")]
)
def test_columns_leave_in_their_order(width: int, gone: str) -> None:
    text = " ".join(fitted(CELLS, width, dropped=["passes", "rows/s", "epsilon"]).split())
    assert text.partition("--wide shows all): ")[2] == gone
    assert "robust acc" in text


def test_of_one_line_nothing_is_lost() -> None:
    text = fitted(CELLS[:2], 30, dropped=["rows/s", "passes"])
    assert text.splitlines()[0] == "passes 11.0; rows/s 2.5"
    assert "--wide" not in text
    assert fitted(CELLS[:2], None).splitlines()[0].split("  ") == HEADER


def test_the_same_line_over_and_over_is_a_table_still() -> None:
    assert fitted([["a", "b"], ["1", "2"], ["1", "2"]], 80).splitlines() == [
        "in all 2 lines: b 2",
        *("a", "1", "1"),
    ]


def test_what_is_too_wide_goes_on_below() -> None:
    cells = [["", "0.001", "0.01", "0.1"], ["noise", *["x" * 20] * 3], ["pgd", *["y" * 20] * 3]]
    text = folded(cells, 50, left=1)
    assert max(map(len, text.splitlines())) <= 50
    assert [line.split() for line in text.splitlines()] == [
        ["0.001", "0.01"],
        ["noise", "x" * 20, "x" * 20],
        ["pgd", "y" * 20, "y" * 20],
        [],
        ["0.1"],
        ["noise", "x" * 20],
        ["pgd", "y" * 20],
    ]
    assert folded(cells, None).count("\n") == 2
    # A column that alone is wider than the terminal is shown as it is.
    assert "x" * 20 in folded(cells, 10)


def test_lines_that_are_called_alike_have_numbers_in_every_part() -> None:
    cells = [["attack", "epsilon", "acc"], ["pgd", "0.01", "9%"], ["pgd", "0.02", "8%"]]
    assert [line.split() for line in folded(cells, 18).splitlines()] == [
        *(["#", "attack", "epsilon"], ["1", "pgd", "0.01"], ["2", "pgd", "0.02"], []),
        *(["#", "attack", "acc"], ["1", "pgd", "9%"], ["2", "pgd", "8%"]),
    ]
    assert "#" not in folded(cells, 40)


def test_numbers_stand_for_names_that_leave_no_room() -> None:
    cells = [["victim", "attack", "acc"], ["v" * 20, "pgd", "9%"], ["w" * 20, "pgd", "8%"]]
    assert [line.split() for line in folded(cells, 32, left=2, keys=2).splitlines()] == [
        *(["#", "victim", "attack"], ["1", "v" * 20, "pgd"], ["2", "w" * 20, "pgd"], []),
        *(["#", "acc"], ["1", "9%"], ["2", "8%"]),
    ]
    assert "#" not in folded(cells, 33, left=2, keys=2)
    # What fits in no way is shown as it is.
    assert "#" not in folded(cells, 10, left=2, keys=2)


def test_names_that_differ_are_repeated_in_every_part() -> None:
    cells = [["victim", "map", "of", "rank", "top"], ["v", "a", "all", "0.5", "0.1"]]
    cells += [["v", "a", "some", "0.4", "0.2"], ["v", "b", "all", "0.3", "0.3"]]
    assert fitted(cells, 15, left=3).splitlines()[:4] == [
        "in all 3 lines:",
        "  victim v",
        "map  of    rank",
        "a    all    0.5",
    ]
    assert fitted(cells, 15, left=3).splitlines()[7] == "map  of    top"


def test_wide_letters_stand_in_columns() -> None:
    """A sign of Chinese takes two columns, and an accent of its own none."""
    cells = [["", "a", "b"], ["愤怒", "1", "22"], ["e\u0301", "333", "4"]]
    assert folded(cells, 13, left=1).splitlines() == [
        *("        a   b", "愤怒    1  22", "e\u0301     333   4"),
    ]
    assert folded(cells, 12, left=1).count("\n\n") == 1


def test_prose_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    width = terminal_width()
    assert width == 20
    text = "a  table   line\nrows in runs/demo/attacks/pgd-0123456789abcdef"
    assert wrapped(text, width).splitlines() == [
        "a  table   line",
        "rows in",
        "  runs/demo/attacks/pgd-0123456789abcdef",
    ]
    assert wrapped(text, None) == text
