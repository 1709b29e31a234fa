"""What leads a page: the worst case by utterance, the weakest parts, the ε, and what is compared.

Everything is counted again from the rows, in plain Python.
"""

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rows_by_hand as hand
from made_rows import columns
from rows_by_hand import Row

from jaxser.reporting.loading import load
from jaxser.reporting.page import sections
from jaxser.reporting.section import Section
from jaxser.reporting.sections.answer import chosen_epsilons
from jaxser.reporting.table_files import csv_table, latex_table, write_figures
from jaxser.reporting.threats import threats_of
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import UsageError


def robust(rows: Sequence[Row], epsilon: float) -> dict[str, bool]:
    """By utterance: right before, and fooled by nothing of that size or smaller."""
    found: dict[str, bool] = {}
    for row in rows:
        size = min(row["epsilon"], row["linf"])
        bad = not hand.right_before(row) or (size <= epsilon and not hand.right_after(row))
        found[row["utterance"]] = found.get(row["utterance"], True) and not bad
    return found


@pytest.fixture(scope="module")
def attacked() -> list[Row]:
    """PGD and noise at two ε, of three seeds; every perturbation is as large as its ε."""
    rows = [*hand.made(), *hand.made(attack="noise")]
    for row in rows:
        row |= {"linf": row["epsilon"], "snr_peak": -20 * math.log10(row["epsilon"])}
        if row["attack"] == "noise" and not hand.right_after(row):
            row |= {"prediction": row["clean_prediction"], "success": False, "gradients": 0}
    return rows


@pytest.fixture(scope="module")
def made(attacked: list[Row], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Section]:
    folder = tmp_path_factory.mktemp("rows")
    with RowWriter(folder) as writer:
        writer.add({name: [row[name] for row in attacked] for name in attacked[0]})
    return {section.name: section for section in sections(load([folder]), {}) if section.name}


def table(section: Section) -> list[dict[str, str]]:
    return list(csv.DictReader(csv_table(section).splitlines()))


def test_a_card_is_of_what_was_attacked_at_its_epsilon(attacked: list[Row], tmp_path: Path) -> None:
    """Not of what else was attacked at another; of attacks on other utterances what they share."""
    few = sorted({row["utterance"] for row in attacked})[:3]
    known = [
        row
        for row in attacked
        if row["utterance"] in few or (row["epsilon"] == 0.01 and row["attack"] == "noise")
    ]
    with RowWriter(tmp_path) as writer:
        writer.add({name: [row[name] for row in known] for name in known[0]})
    rows = load([tmp_path])
    (quiet,) = table(next(s for s in sections(rows, {}) if s.name == "answer"))
    (card,) = next(s for s in sections(rows, {}, epsilon=0.1) if s.name == "answer").cards
    assert (quiet["utterances"], card.facts["attacked"]) == ("3", "3 utterances, 2 attacks")
    right = {row["utterance"] for row in known if hand.right_before(row)}
    assert float(quiet["accuracy_before"]) == pytest.approx(len(right & set(few)) / 3)
    outcomes = robust([row for row in known if row["utterance"] in few], 0.01)
    assert float(quiet["worst_case"]) == pytest.approx(sum(outcomes.values()) / 3)
    share = len(right & set(few)) / 3
    assert card.figures["accuracy before attacks"].startswith(f"{share:.1%}")
    uneven = [
        [d for d in s.cards[0].doubts if "different utterances" in d]
        for s in (
            next(s for s in sections(rows, {}, epsilon=e) if s.name == "answer")
            for e in (0.01, 0.1)
        )
    ]
    assert [len(each) for each in uneven] == [1, 0]


def test_the_card_is_of_the_utterances_that_no_attack_fooled(
    attacked: list[Row], made: dict[str, Section]
) -> None:
    (line,) = table(made["answer"])
    # 20 dB below full scale at 0.1, and 40 at 0.01: that is still quiet.
    assert float(line["epsilon"]) == 0.01
    assert float(line["snr_peak_db"]) == pytest.approx(40)
    outcomes = robust(attacked, 0.01)
    right = sum(outcomes.values())
    assert float(line["worst_case"]) == pytest.approx(right / 8)
    bounds = [float(line[f"worst_case_{end}"]) for end in ("low", "high")]
    assert bounds == pytest.approx(hand.wilson(right, 8))
    assert line["strongest_attack"] == "pgd"
    for part, column in (("class", "label"), ("gender", "gender"), ("speaker", "speaker")):
        groups: dict[str, list[bool]] = {}
        for name, outcome in outcomes.items():
            (value,) = {row[column] for row in attacked if row["utterance"] == name}
            groups.setdefault(value, []).append(outcome)
        least = min(np.mean(each) for each in groups.values())
        assert float(line[f"weakest_{part}_accuracy"]) == pytest.approx(least)
        name = line[f"weakest_{part}"]
        if not name.startswith("all"):
            assert np.mean(groups[name]) == least
            assert int(line[f"weakest_{part}_utterances"]) == len(groups[name])
    (card,) = made["answer"].cards
    assert card.figures["worst case over all attacks"].startswith(f"{right / 8:.1%} (")
    assert not card.doubts


def test_the_worst_case_is_a_line_above_the_attacks(
    attacked: list[Row], made: dict[str, Section]
) -> None:
    header, worst, first, second, before = made["robust_accuracy"].cells
    assert header == ["robust accuracy", "ε 0.01", "ε 0.1"]
    assert [worst[0], first[0], second[0], before[0]] == [
        *("worst case", "pgd", "noise", "before attacks"),
    ]
    for cell, epsilon in zip(worst[1:], (0.01, 0.1), strict=True):
        share = sum(robust(attacked, epsilon).values()) / 8
        assert cell.startswith(f"{share:.1%} (")


def test_epsilons_that_are_nearly_alike_are_told_apart(attacked: list[Row], tmp_path: Path) -> None:
    exact = {0.01: 0.03137, 0.1: 8 / 255}
    with RowWriter(tmp_path) as writer:
        for row in attacked:
            writer.add({**{name: [row[name]] for name in row}, "epsilon": [exact[row["epsilon"]]]})
    rows = load([tmp_path])
    found = {section.name: section.cells for section in sections(rows, {}) if section.name}
    assert found["robust_accuracy"][0] == ["robust accuracy", "ε 0.03137", "ε 0.031373"]
    place = found["robustness"][0].index("ε")
    assert {line[place] for line in found["robustness"][1:]} == {"0.03137", "0.031373"}
    (pair,) = found["attack_pairs"][1:]
    assert pair[found["attack_pairs"][0].index("ε")] in ("0.03137", "0.031373")
    with pytest.raises(
        UsageError, match=r"epsilon 0\.0314; give one of 0\.03137, 0\.0313725490196"
    ):
        chosen_epsilons(threats_of(rows), 0.0314)


def test_the_epsilon_can_be_asked_for(attacked: list[Row], tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        writer.add({name: [row[name] for row in attacked] for name in attacked[0]})
    threats = threats_of(load([tmp_path]))
    assert chosen_epsilons(threats, None) == [0.01]
    assert chosen_epsilons(threats, 0.1) == [0.1]
    with pytest.raises(UsageError, match=r"no attack was run at epsilon 0\.3; give one of 0\.01, "):
        chosen_epsilons(threats, 0.3)


def test_attacks_are_tested_on_the_same_utterances(
    attacked: list[Row], made: dict[str, Section]
) -> None:
    (line,) = table(made["attack_pairs"])
    pgd, noise = (
        robust([row for row in attacked if (row["attack"], row["epsilon"]) == (name, 0.01)], 0.01)
        for name in ("pgd", "noise")
    )
    only = [sum(b and not a for a, b in pairs) for pairs in (
        list(zip(pgd.values(), noise.values(), strict=True)),
        list(zip(noise.values(), pgd.values(), strict=True)),
    )]  # fmt: skip
    assert [int(line["only_the_first_fooled"]), int(line["only_the_second_fooled"])] == only
    assert float(line["difference_in_robust_accuracy"]) == pytest.approx((only[0] - only[1]) / 8)
    # McNemar's exact p: coins that all utterances toss on which both differ.
    count = sum(only)
    tail = sum(math.comb(count, k) for k in range(min(only) + 1)) / 2**count
    assert float(line["p"]) == pytest.approx(min(1, 2 * tail))


def test_classes_flow_from_before_to_after(attacked: list[Row], made: dict[str, Section]) -> None:
    rows = [row for row in attacked if (row["attack"], row["epsilon"]) == ("pgd", 0.01)]
    found = {(line["predicted_before"], line["taken_for_after"]): line for line in table(
        made["class_flow_1"]
    )}  # fmt: skip
    names = sorted({str(row["clean_prediction"]) for row in rows})
    for a, b in itertools.product(names, names):
        its = [row for row in rows if row["clean_prediction"] == a]
        count = sum(row["prediction"] == b for row in its)
        if a != b and count:
            line = found[a, b]
            assert int(line["rows"]) == count
            assert float(line["share"]) == pytest.approx(count / len(its))
        else:
            assert (a, b) not in found


def test_attacks_without_steps_are_no_proof(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        for epsilon in (0.01, 0.1):
            writer.add(columns(attack="fgsm", queries=1, gradients=1, epsilon=epsilon))
    (answer, *_) = sections(load([tmp_path]), {})
    (doubt,) = answer.cards[0].doubts
    assert doubt.startswith("Only weak attacks were run (fgsm: 2 passes")


def test_victims_are_tested_on_the_same_utterances(tmp_path: Path) -> None:
    other = {"victim": "hard", "threat": "hard", "victim_fingerprint": "h"}
    rows = [*hand.made(seeds=(0,))]
    hardened = [{**row, **other, "prediction": row["label"], "success": False} for row in rows]
    with RowWriter(tmp_path) as writer:
        for its in (rows, hardened):
            writer.add({name: [row[name] for row in its] for name in its[0]})
    made = {section.name: section for section in sections(load([tmp_path]), {})}
    assert len(made["answer"].cards) == 2
    (line,) = table(made["victim_pairs"])
    assert (line["first"], line["second"]) == ("emo18 runs/x", "hard")
    epsilon = float(line["epsilon"])
    gained = sum(robust(hardened, epsilon).values()) - sum(robust(rows, epsilon).values())
    assert int(line["only_the_first_fooled"]) == gained
    assert int(line["only_the_second_fooled"]) == 0


def test_victims_are_tested_where_both_were_attacked(tmp_path: Path) -> None:
    """Six utterances at ε 0.01, of which two were attacked at 0.1, too, and nothing at 0.01."""
    other = {"victim": "hard", "threat": "hard", "victim_fingerprint": "h"}
    with RowWriter(tmp_path) as writer:
        for epsilon, count, right in ((0.01, 6, True), (0.1, 2, False)):
            for victim, holds in (({}, right), (other, True)):
                told = ("joy", "joy", "joy" if holds else "sad", not holds, 30.0, 1.0, "male")
                writer.add(columns([told] * count, epsilon=epsilon, linf=epsilon, **victim))
    made = {section.name: section for section in sections(load([tmp_path]), {}, 0.1)}
    (line,) = table(made["victim_pairs"])
    assert (line["utterances"], line["only_the_first_fooled"]) == ("2", "2")
    assert float(line["difference_in_robust_accuracy"]) == 1


def test_what_was_found_beyond_an_epsilon_counts_there(tmp_path: Path) -> None:
    """FAB at ε 0.01 found perturbations of 0.02 and 0.03, of three utterances."""
    told = [("joy", "joy", "joy", False, math.nan, 0.0, "male")] * 3
    found = {"found_norm": [0.02, 0.03, math.nan]}
    with RowWriter(tmp_path) as writer:
        writer.add({**columns(told, attack="fab", epsilon=0.01, linf=0.0), **found})
        for epsilon in (0.01, 0.025):
            writer.add(columns(told, epsilon=epsilon, linf=epsilon))
    (threat,) = threats_of(load([tmp_path]))
    assert [threat.worst(each).value for each in (0.01, 0.025)] == pytest.approx([1, 2 / 3])
    made = {section.title: section for section in sections(load([tmp_path]), {})}
    assert "medians: fab 0.03." in made["Found norms"].pictures[0].words


def test_files_are_for_programs_and_papers(made: dict[str, Section], tmp_path: Path) -> None:
    header, *lines = csv.reader(csv_table(made["robustness"]).splitlines())
    assert all(name.isascii() and name == name.lower() and " " not in name for name in header)
    place = header.index("robust_accuracy")
    assert header[place + 1 : place + 3] == ["robust_accuracy_low", "robust_accuracy_high"]
    for line in lines:
        value, low, high = (line[place + i] for i in range(3))
        assert not value or float(low) <= float(value) <= float(high)
    latex = latex_table(made["robustness"])
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:robustness}"):
        assert part in latex
    # What all lines say alike is in the caption, and no column.
    (columns_,) = [line for line in latex.splitlines() if line.startswith("attack & ")]
    assert "victim" not in columns_
    assert r"\caption{All figures of all attacks (victim emo18 runs/x, " in latex
    write_figures([made["answer"], *filter(lambda each: each.pictures, made.values())], tmp_path)
    names = {path.stem for path in tmp_path.iterdir()}
    for name in names:
        starts = [(tmp_path / f"{name}.{form}").read_bytes()[:5] for form in ("pdf", "png", "svg")]
        assert starts == [b"%PDF-", b"\x89PNG\r", b"<?xml"]
    assert "class_flow_1" in names
