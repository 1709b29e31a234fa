"""Certificates on disk: columns from counts, and figures that can be counted by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from jaxser.reporting.certificates import certificate_text, certified_sets, curve_cells
from jaxser.results.certificates import (
    CERTIFICATES,
    KIND,
    abstained,
    certified_accuracy,
    certified_columns,
    clean_accuracy,
    plain_accuracy,
    power_snr,
    read_certificates,
)
from jaxser.results.intervals import wilson
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import InputError

NAMES = ("anger", "joy", "sad")
# Answers of the draws that choose, of the others, the last for none; label; without noise.
DRAWN: list[tuple[list[int], list[int], str, str | None]] = [
    ([10, 0, 0, 0], [100, 0, 0, 0], "anger", "anger"),
    ([0, 10, 0, 0], [0, 100, 0, 0], "anger", "anger"),  # surely wrong
    ([6, 4, 0, 0], [70, 30, 0, 0], "anger", "joy"),
    ([4, 6, 0, 0], [54, 46, 0, 0], "anger", "anger"),  # too near, and another one was chosen
    ([0, 0, 10, 0], [0, 0, 96, 4], "sad", None),
    ([0, 1, 2, 9], [0, 0, 10, 90], "sad", "sad"),  # mostly no answer
]


def table(**changes: Any) -> pa.Table:
    selection, counts, label, clean = zip(*DRAWN, strict=True)
    count = len(DRAWN)
    found = certified_columns(np.array(selection), np.array(counts), NAMES, 0.5, 0.01)
    same = {
        "victim": "emo18 runs/x",
        "victim_fingerprint": "f",
        "defence": None,
        "corpus": "Made up",
        "language": "none",
        "synthetic": True,
        "notes": ["made up"],
        "split": "test",
        "domain": "waveform",
        "gender": "female",
        "radius_snr": 30.0,
        "input_norm": 10.0,
        "sigma": 0.5,
        "samples0": 10,
        "samples": 100,
        "alpha": 0.01,
        "seed": 0,
        "passes": 110,
        "device": "cpu",
        "seconds": 0.5,
        **changes,
    }
    names = [f"u{i}" for i in range(count)]
    return pa.table(
        {
            **{name: [value] * count for name, value in same.items()},
            **found,
            **{
                "utterance": names,
                "source": names,
                "speaker": [f"s{i // 2}" for i in range(count)],
            },
            **{"label": label, "clean_prediction": clean},
        },
        schema=CERTIFICATES,
    )


def bound(successes: int) -> float:
    test = stats.binomtest(successes, 100, alternative="greater")
    return float(test.proportion_ci(0.99, "exact").low)


def test_columns_are_what_the_counts_prove() -> None:
    made = table().to_pylist()
    certified = [row["certified"] for row in made]
    assert certified == ["anger", "joy", "anger", None, "sad", None]
    # PREDICT: the largest of the counts, where the second is far; "none" is no answer.
    assert [row["prediction"] for row in made] == ["anger", "joy", "anger", None, "sad", None]
    for row, successes in zip(made, (100, 100, 70, 46, 96, 10), strict=True):
        assert row["p_lower"] == pytest.approx(bound(successes))
        radius = 0.5 * stats.norm.ppf(bound(successes))
        assert row["radius"] == pytest.approx(radius if radius > 0 else np.nan, nan_ok=True)


def test_figures_by_hand() -> None:
    made = table()
    radius_70, radius_96 = (0.5 * stats.norm.ppf(bound(k)) for k in (70, 96))
    assert 0 < radius_70 < radius_96
    radii = [0.0, radius_70 - 1e-9, radius_70 + 1e-9, radius_96 + 1e-9, 5.0]
    found = certified_accuracy(made, radii)
    assert [each.value * 6 for each in found] == pytest.approx([3, 3, 2, 1, 0])
    assert (found[0].low, found[0].high) == pytest.approx(wilson(3, 6))
    assert plain_accuracy(made).value == pytest.approx(4 / 6)
    assert clean_accuracy(made).value == pytest.approx(3 / 6)
    assert abstained(made).value == pytest.approx(2 / 6)
    # Over speakers, who have two utterances each.
    assert certified_accuracy(made, [0.0], "speaker")[0].low != found[0].low
    snr = power_snr(np.array([1.0, np.nan, 1.0]), np.array([10.0, 1.0, 0.0]))
    np.testing.assert_allclose(snr, [20.0, np.nan, np.nan])


def test_text_and_curve() -> None:
    text = certificate_text(table())
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert lines["0"].split()[1:3] == ["–", "50.0%"]
    # 20 log10(10 / 0.25), and at σ, which 100 draws of 70 do not reach.
    assert lines["0.25"].split()[1] == "32.0"
    assert lines["0.5"].split()[1:3] == ["26.0", "33.3%"]
    assert "1.5" not in lines
    assert "with a probability of at least 0.99" in text
    assert "note: made up" in text
    features = certificate_text(table(domain="features"))
    assert "randomised smoothing of the features of emo18 runs/x" in features
    assert "nor of speech: it is no certificate of waveforms" in features
    assert "SNR" not in features
    few = certificate_text(table(samples=5))
    assert "5 draws are too few to certify any radius" in few
    header, *points = curve_cells(table())
    assert header == ["curve", "l2", "accuracy", "low", "high", "utterances"]
    assert [float(point[2]) for point in points][0::120] == pytest.approx([0.5, 0.0])
    values = [float(point[2]) for point in points]
    assert values == sorted(values, reverse=True)


def test_a_vote_that_is_the_same_for_all_is_no_robustness() -> None:
    assert "does not tell" not in certificate_text(table())
    made = table().to_pylist()
    for row, label in zip(made, [*NAMES, *NAMES], strict=True):
        row |= {"label": label, "prediction": "joy"}
    made[1]["prediction"] = None  # it abstains
    text = certificate_text(pa.Table.from_pylist(made, CERTIFICATES))
    assert "note: smoothed, emo18 runs/x answers joy to all 5 clean inputs" in text


def test_sets_are_of_one_victim_and_noise_and_have_each_utterance_once() -> None:
    both = pa.concat_tables([table(), table(sigma=0.1), table()])
    sets = certified_sets(both)
    assert [(each["sigma"][0].as_py(), len(each)) for each in sets] == [(0.5, 6), (0.1, 6)]
    assert sets[0]["utterance"].to_pylist() == table()["utterance"].to_pylist()


def test_files_are_whole_or_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path, {"a": 1}, schema=CERTIFICATES, kind=KIND) as writer:
        writer.add(table().to_pydict())
    np.testing.assert_equal(read_certificates(tmp_path).to_pylist(), table().to_pylist())
    nulls = table().set_column(0, "victim", pa.nulls(6, pa.string()))
    pq.write_table(nulls, tmp_path / f"{KIND}-1.parquet")
    with pytest.raises(InputError, match="6 of its rows have no victim"):
        read_certificates(tmp_path)
    pq.write_table(CERTIFICATES.empty_table(), tmp_path / f"{KIND}-1.parquet")
    with pytest.raises(InputError, match=r"is not a file of certificates \(it has no rows"):
        read_certificates(tmp_path)
    (tmp_path / f"{KIND}-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is not a file of certificates"):
        read_certificates(tmp_path)
