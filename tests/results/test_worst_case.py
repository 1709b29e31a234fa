"""The worst case over attacks: an utterance is robust only if no attack fooled it."""

import re
from typing import Any

import made_rows
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from jaxser.results.schema import SCHEMA
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.results.worst_case import robustness_table, worst_cases


def rows(attack: str, epsilon: float, right: str, **changes: Any) -> pa.Table:
    """Rows of utterances that were all right before; "1" is right after the attack."""
    told = [
        ("anger", "anger", "anger" if each == "1" else "joy", each == "0", 30.0, 1.0, "female")
        for each in right
    ]
    columns = made_rows.columns(told, attack=attack, epsilon=epsilon, **changes)
    return pa.table(columns, schema=SCHEMA)


def test_an_utterance_counts_only_where_no_attack_fooled_it() -> None:
    table = pa.concat_tables(
        [
            rows("pgd", 0.01, "11101"),
            rows("square", 0.01, "01111"),
            rows("pgd", 0.001, "11111"),
            rows("pgd", 0.01, "11011", seed=1),
        ]
    )
    small, large = worst_cases(table)
    assert (small.epsilon, small.attacks, small.utterances) == (0.001, 1, 5)
    assert small.robust.value == 1
    assert (large.epsilon, large.attacks, large.utterances) == (0.01, 2, 5)
    assert large.clean.value == 1
    # The second and the fifth utterance withstood every attack and seed.
    assert large.robust.value == pytest.approx(2 / 5)
    wilson = binomtest(2, 5).proportion_ci(method="wilson")
    assert (large.robust.low, large.robust.high) == pytest.approx((wilson.low, wilson.high))


def test_it_is_of_the_utterances_that_all_attacks_were_run_on() -> None:
    # Square was run on the first two alone, of which PGD fools one; that alone withstands square.
    table = pa.concat_tables([rows("pgd", 0.01, "10111"), rows("square", 0.01, "01")])
    (case,) = worst_cases(table)
    assert (case.attacks, case.utterances, case.robust.value) == (2, 2, 0.0)


def test_norms_are_lines_of_their_own_and_decibels_go_from_weak_to_strong() -> None:
    loud = {"epsilon_unit": "snr_peak"}
    table = pa.concat_tables(
        [
            rows("pgd", 0.5, "10", epsilon_norm="l2"),
            rows("pgd", 0.5, "01"),
            rows("pgd", 20.0, "00", **loud),
            rows("pgd", 40.0, "11", **loud),
        ]
    )
    found = [(case.epsilon_norm, case.epsilon, case.robust.value) for case in worst_cases(table)]
    assert set(found) == {("l2", 0.5, 0.5), ("linf", 0.5, 0.5), ("linf", 40, 1), ("linf", 20, 0)}
    assert [each for each in found if each[1] >= 20] == [("linf", 40, 1), ("linf", 20, 0)]


def test_without_a_limit_only_what_was_fooled_counts() -> None:
    table = pa.concat_tables(
        [
            rows("deepfool", float("inf"), "1100", linf=0.03),
            rows("pgd", 0.05, "1011"),
        ]
    )
    assert [case.robust.value for case in worst_cases(table)] == [0.25, 0.25]
    unknown = rows("deepfool", float("inf"), "1100", linf=float("nan"))
    assert worst_cases(unknown)[0].robust.value == 0.5


def test_what_was_found_beyond_an_epsilon_counts_there() -> None:
    table = pa.concat_tables(
        [rows("fab", 0.01, "11", linf=0.0, found_norm=0.02), rows("pgd", 0.05, "11")]
    )
    assert [case.robust.value for case in worst_cases(table)] == [1, 0]


def test_the_table_has_a_line_per_attack_and_the_worst_case_last() -> None:
    table = pa.concat_tables(
        [
            rows("pgd", 0.01, "1110", parameters='{"steps": 1}'),
            rows("pgd", 0.01, "0111", parameters='{"steps": 9}'),
            rows("noise", 0.02, "1111", linf=0.02),
        ]
    )
    lines = [re.split(r"\s{2,}", line.strip()) for line in robustness_table(table).splitlines()]
    header, before, noise, first, second, worst, *words = lines
    assert header == ["0.01 L∞", "0.02 L∞"]
    assert before[0] == "before attacks"
    assert noise[:2] == ["noise", "–"]  # it was not run at the smaller ε
    assert [first[0], second[0], first[2]] == ["pgd 1", "pgd 2", "–"]
    assert first[1].startswith("75.0% (")
    assert worst[0] == "worst case"
    assert worst[1].startswith("50.0% (")
    # Who was fooled at the smaller ε is at the larger one, whatever noise does.
    assert worst[2].startswith("50.0% (")
    assert len(words) == 2


def test_columns_of_epsilons_that_are_nearly_alike_have_names_of_their_own() -> None:
    epsilons = (8 / 255, 0.03137254)
    table = pa.concat_tables([rows("pgd", epsilon, "10") for epsilon in epsilons])
    header = robustness_table(table).splitlines()[0].split(" L∞")
    assert [each.strip() for each in header[:2]] == ["0.03137254", "0.03137255"]
    (shown, *lines) = (line.split()[1] for line in format_table(summarise(table)).splitlines()[:3])
    assert shown == "epsilon"
    assert lines == ["0.03137254", "0.03137255"]
