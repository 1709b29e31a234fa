"""Accuracy under L2 attacks, counted by hand, beside certificates."""

from pathlib import Path
from typing import Any

import made_rows
import pyarrow as pa
import pytest

from jaxser.reporting.empirical import check_rows, empirical_lines
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.smoothing import smoothed_fingerprint

FACTS = {
    "victim": "emo18 runs/x",
    "victim_fingerprint": "f",
    "domain": "waveform",
    "corpus": "Made up",
    "split": "test",
    "sigma": 0.1,
}


def write(folder: Path, *parts: dict[str, Any]) -> Path:
    with RowWriter(folder, {"config": {}}) as writer:
        for each in parts:
            writer.add(made_rows.columns(**{"epsilon_norm": "l2", **each}))
    return folder


def certificates(count: int) -> pa.Table:
    return pa.table({"utterance": [f"u{i}" for i in range(count)]})


def test_lines_are_of_the_certified_utterances(tmp_path: Path) -> None:
    noise = {
        "victim": "emo18[σ=0.1,n=4] runs/x",
        "threat": "emo18[σ=0.1,n=4] runs/x",
        "victim_fingerprint": smoothed_fingerprint("f", 0.1, 4),
        "smoothing": 0.1,
        "smoothing_samples": 4,
    }
    rows = check_rows(
        write(tmp_path, {"epsilon": 0.2}, {"epsilon": 0.1}, noise, {"epsilon_norm": "linf"}), FACTS
    )
    plain, smoothed = empirical_lines(rows, certificates(7))
    assert plain.label == "pgd, victim without noise"
    assert smoothed.label == "pgd, victim smoothed, σ 0.1, 4 draws"
    assert plain.epsilons == (0, 0.1, 0.2)
    # Of the rows by hand 4 of 7 are right before, and 2 after.
    assert [each.value * 7 for each in plain.accuracies] == pytest.approx([4, 2, 2])
    assert plain.utterances == 7
    (few, _) = empirical_lines(rows, certificates(2))
    assert few.utterances == 2
    assert [each.value for each in few.accuracies] == [1, 0.5, 0.5]


def test_the_smallest_perturbations_are_a_curve(tmp_path: Path) -> None:
    """Each norm is an ε at which an utterance that was right is lost."""
    columns = made_rows.columns(epsilon=float("inf"), attack="deepfool", epsilon_norm="l2")
    columns["found_norm"] = [0.5, 0.2, 0.1, 0.5, float("nan"), float("nan"), 0.3]
    with RowWriter(tmp_path, {"config": {}}) as writer:
        writer.add(columns)
    (line,) = empirical_lines(check_rows(tmp_path, FACTS), certificates(7))
    # Right before: the first, second, fourth and sixth, which was never lost.
    assert line.epsilons == (0, 0.2, 0.5)
    assert [each.value * 7 for each in line.accuracies] == pytest.approx([4, 3, 1])


def test_attacks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = write(tmp_path, {}, {"parameters": '{"steps": 9}', "parameters_hash": "k"})
    lines = empirical_lines(check_rows(rows, FACTS), certificates(7))
    assert [each.label[:7] for each in lines] == ["pgd (h)", "pgd (k)"]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"epsilon_norm": "l0"}, UsageError, "bound perturbations by l0, and a certificate is"),
        ({"targeted": True}, UsageError, "give --rows of an untargeted L2 attack"),
        ({"epsilon_unit": "snr_power"}, UsageError, "with an epsilon in amplitude"),
        ({"victim_fingerprint": "g"}, InputError, "none is of emo18 runs/x as it is now"),
        ({"domain": "features"}, InputError, "are of the features, and the certificate is of the"),
        ({"corpus": "Other"}, InputError, "are of Other, and the certificate is of Made up"),
    ],
)
def test_rows_of_something_else(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        check_rows(write(tmp_path, changes), FACTS)


def smoothed_by(sigma: float) -> dict[str, Any]:
    name = f"emo18[σ={sigma:g},n=4] runs/x"
    return {
        **{"victim": name, "threat": name, "smoothing": sigma, "smoothing_samples": 4},
        "victim_fingerprint": smoothed_fingerprint("f", sigma, 4),
    }


def test_rows_under_other_noise_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = write(tmp_path / "all", {}, smoothed_by(0.1), smoothed_by(0.2))
    kept = empirical_lines(check_rows(rows, FACTS), certificates(7))
    assert [line.label for line in kept] == [
        "pgd, victim without noise",
        "pgd, victim smoothed, σ 0.1, 4 draws",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"7 of the rows in {rows} are of the victim smoothed with σ 0.2 and left out: the "
        "certificate is of σ 0.1."
    ]
    caplog.clear()
    check_rows(write(tmp_path / "same", {}, smoothed_by(0.1)), FACTS)
    assert not caplog.records
    with pytest.raises(UsageError, match=r"smoothed with σ 0\.2, 0\.3, .* --smoothing 0\.1, or w"):
        check_rows(write(tmp_path / "other", smoothed_by(0.2), smoothed_by(0.3)), FACTS)


def test_a_smoothed_victims_rows_are_not_those_of_other_noise(tmp_path: Path) -> None:
    """Whoever changes the columns has another fingerprint."""
    rows = write(tmp_path, {"smoothing": 0.1, "smoothing_samples": 4})
    with pytest.raises(InputError, match="none is of"):
        check_rows(rows, FACTS)
