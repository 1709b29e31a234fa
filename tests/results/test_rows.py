"""Rows: Parquet round trips, and tables against counts made by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_rows import BY_HAND, NAN, columns, table

from jaxser.results.reading import read_rows
from jaxser.results.schema import SCHEMA, parameters_hash
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import InputError, UsageError


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        writer.add(columns())
        writer.flush()
        writer.add(columns(epsilon=0.02, flags=["zero gradient"]))
    assert len(list(tmp_path.glob("rows-*.parquet"))) == 2
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    read = read_rows(tmp_path)
    expected = pa.concat_tables([table(), table(epsilon=0.02, flags=["zero gradient"])])
    assert read.schema == expected.schema
    np.testing.assert_equal(read.to_pylist(), expected.to_pylist())  # NaN equals NaN here


def test_finished_rows_survive_an_interruption(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RowWriter(tmp_path) as writer:
            writer.add(columns())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_rows(tmp_path)) == len(BY_HAND)


def test_rows_are_flushed_as_they_grow(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        for _ in range(400):
            writer.add(columns())
        assert len(list(tmp_path.glob("rows-*.parquet"))) == 1  # 2,002 of the 2,800 rows
    assert len(read_rows(tmp_path)) == 400 * len(BY_HAND)


def test_a_full_disk_leaves_what_was_whole(tmp_path: Path, monkeypatch: Any) -> None:
    import errno

    import pyarrow.parquet

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write_twice() -> None:
        with RowWriter(tmp_path) as writer:
            writer.add(columns())
            writer.flush()
            monkeypatch.setattr(pyarrow.parquet, "write_table", full)
            writer.add(columns())
            writer.flush()

    with pytest.raises(OSError, match="No space"):
        write_twice()
    assert len(read_rows(tmp_path)) == len(BY_HAND)
    assert len(list(tmp_path.iterdir())) == 1


def test_pandas_reads_the_files(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with RowWriter(tmp_path) as writer:
        writer.add(columns())
    frame = pandas.read_parquet(tmp_path)
    assert list(frame["label"]) == [row[0] for row in BY_HAND]


def test_no_rows_and_damaged_rows_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no rows-\*\.parquet"):
        read_rows(tmp_path)
    (tmp_path / "rows-1.parquet").write_text("not Parquet")
    with pytest.raises(InputError, match="is not a file of attack rows"):
        read_rows(tmp_path)
    pq.write_table(SCHEMA.empty_table(), tmp_path / "rows-1.parquet")
    with pytest.raises(InputError, match="it has no rows"):
        read_rows(tmp_path)


def test_the_three_kinds_of_success_and_the_averages() -> None:
    (line,) = summarise(table())
    assert line.rows == 7
    assert line.clean_accuracy.value == pytest.approx(4 / 7)
    assert line.robust_accuracy.value == pytest.approx(2 / 7)
    assert line.clean_uar.value == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert line.robust_uar.value == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert line.fooling_rate == pytest.approx(5 / 7)
    assert np.isnan(line.target_reached)  # there is no target
    (towards,) = summarise(table(targeted=True, label_source="target"))
    assert towards.target_reached == pytest.approx(4 / 7)
    assert line.correct == 4
    assert line.success_on_correct == pytest.approx(2 / 4)
    # Successful and changed: rows 1, 3 and 6; row 6 has no SNR.
    assert line.successful == 3
    assert line.snr_peak_mean == pytest.approx(20.0)
    assert line.snr_peak_median == pytest.approx(20.0)
    assert line.snr_undefined == 1
    assert line.sparsity == pytest.approx((0.5 + 0.3 + 0.2) / 3)
    assert line.no_prediction == 1
    assert line.rows_per_second == pytest.approx(2.0)
    assert line.compile_seconds == 2.0
    text = format_table([line])
    assert "20.0/20.0" in text
    assert "1 successful rows have no SNR" in text


def test_a_line_per_attack_epsilon_and_part() -> None:
    rows = pa.concat_tables(
        [table(epsilon=0.1), table(epsilon=0.01), table(attack="fgsm", epsilon=0.02)]
    )
    lines = summarise(rows)
    assert [(line.attack, line.epsilon) for line in lines] == [
        ("fgsm", 0.02),
        ("pgd", 0.01),
        ("pgd", 0.1),
    ]
    parts = summarise(table(), by="gender")
    assert [(line.part, line.rows) for line in parts] == [("female", 3), ("male", 4)]
    assert parts[0].fooling_rate == pytest.approx(1 / 3)
    assert [line.part for line in summarise(table(), by="class")] == ["anger", "joy", "sad"]
    assert "female" in format_table(parts)
    with pytest.raises(UsageError, match="did you mean 'gender'"):
        summarise(table(), by="gendre")


def test_tables_say_what_epsilon_counts() -> None:
    """In the heading, or beside each number where attacks of several norms stand together."""
    for norm, heading in (("linf", "L∞"), ("l2", "L2"), ("l1", "L1"), ("l0", "samples")):
        text = format_table(summarise(table(epsilon=3.0, epsilon_norm=norm)))
        assert f"epsilon ({heading})" in text.splitlines()[0]
    decibels = summarise(table(epsilon=20.0, epsilon_unit="snr_peak"))
    assert "epsilon (dB peak)" in format_table(decibels)
    both = [table(epsilon=0.1), table(attack="jsma", epsilon=9.0, epsilon_norm="l0")]
    header, *lines = format_table(summarise(pa.concat_tables(both))).splitlines()
    assert "epsilon (" not in header
    assert "9 samples" in lines[0]
    assert "0.1 L∞" in lines[1]


def test_rows_of_before_are_of_logits(tmp_path: Path) -> None:
    later = ["output", "amplitude"]
    old = pa.table(columns(), schema=SCHEMA).drop_columns(later)
    pq.write_table(old, tmp_path / "rows-1.parquet")
    for coded in (False, True):
        rows = read_rows(tmp_path, coded=coded)
        assert set(rows["output"].to_pylist()) == {"logits"}
        assert np.isnan(rows["amplitude"].to_numpy()).all()
    assert read_rows(tmp_path, ["output"], coded=True).num_columns == 1


def test_nothing_successful_is_not_a_zero() -> None:
    rows = [("anger", "joy", "joy", False, 40.0, 1.0, "female")]
    (line,) = summarise(pa.table(columns(rows), schema=SCHEMA))
    assert np.isnan(line.snr_peak_mean)
    assert np.isnan(line.sparsity)
    assert np.isnan(line.success_on_correct)  # no row was right before
    assert "n/a" in format_table([line])


def test_decibels_run_from_weak_to_strong() -> None:
    rows = pa.concat_tables(
        [table(epsilon=epsilon, epsilon_unit="snr_power") for epsilon in (10.0, 40.0, -5.0)]
        + [table(epsilon=epsilon) for epsilon in (0.2, 0.1)]
    )
    lines = summarise(rows)
    assert [(line.epsilon_unit, line.epsilon) for line in lines] == [
        ("amplitude", 0.1),
        ("amplitude", 0.2),
        ("snr_power", 40.0),
        ("snr_power", 10.0),
        ("snr_power", -5.0),
    ]
    text = format_table(lines)
    assert "40 dB power" in text
    assert "-5 dB power" in text


def test_the_smallest_perturbations_have_columns_of_their_own() -> None:
    rows = table(epsilon=float("inf"), epsilon_norm="l2").to_pydict()
    rows["found_norm"] = [0.0, 0.5, 0.3, 0.1, NAN, NAN, 0.1]
    (line,) = summarise(pa.table(rows, schema=SCHEMA))
    assert line.found == 5
    assert line.found_norm_mean == pytest.approx(0.25)  # of 0.5, 0.3, 0.1 and 0.1
    assert line.found_norm_median == pytest.approx(0.2)
    text = format_table([line])
    assert "l2 0.25/0.2" in text
    assert "71.4%" in text
    assert " inf " in text
    assert "smallest" not in format_table(summarise(table()))


def test_compilations_are_those_of_the_run_that_compiled_most() -> None:
    rows = pa.concat_tables([table(), table(compile_seconds=0.0, compile_count=0)])
    (line,) = summarise(rows)
    assert (line.compile_seconds, line.compile_count) == (2.0, 6)


def test_flags_are_counted_in_the_table() -> None:
    lines = summarise(table(flags=["margin fallback"]))
    assert lines[0].flags == {"margin fallback": 7}
    assert "7 of 7 rows flagged: margin fallback" in format_table(lines)


def test_targets_have_their_own_column() -> None:
    text = format_table(summarise(table(parameters='{"targeted": true}')))
    assert "target reached" in text
    assert "target reached" not in format_table(summarise(table()))


def test_hash_of_parameters() -> None:
    assert parameters_hash({"a": 1, "b": 2}) == parameters_hash({"b": 2, "a": 1})
    assert parameters_hash({"a": 1}) != parameters_hash({"a": 2})


def test_intelligibility_is_shown_where_it_was_measured() -> None:
    assert "STOI" not in format_table(summarise(table()))
    (line,) = summarise(table(stoi=0.75))
    assert line.stoi == 0.75
    text = format_table([line])
    assert "STOI" in text.splitlines()[0]
    assert "0.750" in text.splitlines()[1]


def test_every_column_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rows.md").read_text()
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table_lines(page)))
    assert sorted(named) == sorted(SCHEMA.names)


def table_lines(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("| `")]
