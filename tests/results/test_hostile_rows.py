"""Files of rows of any content: the rows that were written, or one sentence."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_rows import columns, table
from sentences import SEARCH, value_or_sentence

from jaxser.reporting.document import html_document
from jaxser.reporting.loading import load
from jaxser.results.outcomes import Outcome, read_outcomes
from jaxser.results.reading import read_rows, read_sources
from jaxser.results.schema import SCHEMA, SOURCE_KEY
from jaxser.results.writing import RowWriter

SOURCE: dict[str, Any] = {
    "config": {"seed": 0},
    "corpus": {"name": "csv", "title": "Made", "fingerprint": "f" * 64, "split": ["given", 0, 0]},
    "environment": {"jaxser": "1", "git_revision": None, "python": "3", "packages": {}},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    with RowWriter(folder, SOURCE) as writer:
        writer.add(columns())
    return folder


def report(folder: Path) -> str:
    """Everything that the page shows of what made the rows."""
    rows = load([folder])
    rows.labels  # noqa: B018
    return html_document([([folder], rows)], [])


def flipped(content: bytes, place: float, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= 1 << bit
    return bytes(damaged)


@SEARCH
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_every_flipped_bit_is_told(written: Path, place: float, bit: int) -> None:
    """Of the values as well as of the footer and of what made the rows."""
    (path,) = written.glob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, place, bit))
    try:
        for read in (read_rows, read_sources):
            told = value_or_sentence(lambda read=read: read(written))
            assert isinstance(told, str)
            assert "it has changed since it was written" in told
    finally:
        path.write_bytes(whole)


@SEARCH
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.floats(0, 1))
@example(0.0, 0, 0.0)
@example(0.5, 3, 0.5)
def test_damage_to_files_without_a_digest(
    written: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, end: float
) -> None:
    """As older versions wrote them: nothing but a sentence where Arrow notices."""
    (path,) = written.glob("*.parquet")
    whole = path.read_bytes()
    folder = tmp_path_factory.getbasetemp() / "old"
    folder.mkdir(exist_ok=True)
    for content in (flipped(whole, place, bit), whole[: int(end * len(whole))]):
        (folder / "rows-1.parquet").write_bytes(content)
        for read in (read_rows, read_sources, report):
            value_or_sentence(lambda read=read: read(folder))


ANY = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3)


@SEARCH
@given(st.sampled_from(["config", "corpus", "environment"]), ANY)
@example("corpus", {**SOURCE["corpus"], "split": 3})
@example("corpus", {**SOURCE["corpus"], "split": ["given"]})
@example("corpus", {**SOURCE["corpus"], "fingerprint": None})
@example("environment", {**SOURCE["environment"], "packages": None})
@example("environment", {**SOURCE["environment"], "git_revision": 3})
@example("config", {"a": {"b": [1, {"c": None}]}})
def test_what_made_the_rows(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "source"
    folder.mkdir(exist_ok=True)
    made = table().replace_schema_metadata({SOURCE_KEY: json.dumps({**SOURCE, name: value})})
    pq.write_table(made, folder / "rows-1.parquet")
    value_or_sentence(lambda: report(folder))


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[]", b"3", b"[" * 100_000])
def test_what_made_the_rows_is_no_json(tmp_path: Path, text: bytes) -> None:
    made = table().replace_schema_metadata({SOURCE_KEY: text})
    pq.write_table(made, tmp_path / "rows-1.parquet")
    assert isinstance(value_or_sentence(lambda: read_sources(tmp_path)), str)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "NaN", "[" * 5000, "x" * 10_000])
def test_hyper_parameters_that_are_no_json(tmp_path: Path, text: str) -> None:
    pq.write_table(table(parameters=text), tmp_path / "rows-1.parquet")
    assert "hyper-parameters" in str(value_or_sentence(lambda: read_rows(tmp_path)))


@pytest.mark.parametrize("name", SCHEMA.names)
def test_rows_without_a_value(tmp_path: Path, name: str) -> None:
    """Null is what some columns say; of all others it is damage."""
    made = table()
    nulls = pa.nulls(len(made), SCHEMA.field(name).type)
    made = made.set_column(made.column_names.index(name), SCHEMA.field(name), nulls)
    pq.write_table(made, tmp_path / "rows-1.parquet")
    told = value_or_sentence(lambda: report(tmp_path))
    if name in ("attack", "parameters", "epsilon", "success", "utterance", "label"):
        assert f"7 of its rows have no {name}" in told


def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / b"rows\xff".decode("utf-8", "surrogateescape")
    with RowWriter(folder, SOURCE) as writer:
        writer.add(columns())
    assert len(read_rows(folder)) == 7
    assert read_sources(folder) == [SOURCE]


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    """Its owner would delete it."""
    (tmp_path / "rows-1.parquet").mkdir()
    with pytest.raises(IsADirectoryError):
        read_rows(tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    made = table()
    size = len(made)
    raw = pa.Array.from_buffers(pa.string(), size, pa.array([b"\xff"] * size).buffers())
    made = made.set_column(made.column_names.index("speaker"), "speaker", raw)
    pq.write_table(made, tmp_path / "rows-1.parquet")
    assert isinstance(value_or_sentence(lambda: read_rows(tmp_path)), str)


@SEARCH
@given(st.binary(max_size=20) | st.builds(lambda x: json.dumps(x).encode(), ANY | st.lists(ANY)))
@example(b'[{"cell": "a", "rows": 3, "reason": ""}]')
@example(b'[{"cell": "a", "rows": null, "reason": ""}]')
@example(b'{"cell": 1}')
@example(b"[3]")
@example(b"[" * 100_000)
def test_what_became_of_a_sweep(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "sweep"
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_bytes(content)
    found = value_or_sentence(lambda: read_outcomes(folder))
    assert isinstance(found, str) or all(isinstance(each, Outcome) for each in found)
