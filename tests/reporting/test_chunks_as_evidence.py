"""Chunks of one utterance are one piece of evidence, in the tables of every command.

Rows of 40 utterances, and of four chunks of each that came out alike: the figures and intervals of
both must be the same, and not those of 160 utterances.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_rows import columns
from scipy.stats import binomtest

from jaxser.corpora import Utterance
from jaxser.experiments import transfer as experiment
from jaxser.papers.transfer import line_cells
from jaxser.reporting.compare import comparison, comparison_by
from jaxser.reporting.evaluation.differences import genders
from jaxser.reporting.evaluation.outcomes import Line, outcomes_of
from jaxser.reporting.evaluation.tables import strongest
from jaxser.reporting.loading import load
from jaxser.reporting.page import sections
from jaxser.results.cells import Cells
from jaxser.results.reading import read_rows
from jaxser.results.schema import LATER, SCHEMA
from jaxser.results.summary import summarise
from jaxser.results.summary_table import format_table
from jaxser.results.units import Over
from jaxser.results.writing import RowWriter
from jaxser.training.evaluation import metrics_with_intervals

LABELS = ("anger", "fear", "joy", "sad")
CHUNKS = 4
RIGHT, UTTERANCES = 35, 40


@pytest.fixture(params=["utterance", "speaker"])
def over(request: pytest.FixtureRequest) -> Over:
    return request.param  # type: ignore[no-any-return]


def made(chunks: int, seeds: int = 1, shift: int = 0) -> pa.Table:
    """35 of 40 are right after the attack under the first seed; half know who speaks."""
    rows, places = [], []
    for i in range(UTTERANCES):
        for seed in range(seeds):
            label = LABELS[i % 4]
            wrong = (i + shift) % 8 == 0 or (seed and i % 8 == seed)
            found = LABELS[(i + 1) % 4] if wrong else label
            gender = "female" if i % 2 else "male"
            rows += [(label, label, found, bool(wrong), 20.0 + i, 0.5, gender)] * chunks
            places += [(i, chunk, seed) for chunk in range(chunks)]
    values = columns(rows)
    values["utterance"] = [f"u{i}/{k}" if chunks > 1 else f"u{i}" for i, k, _ in places]
    values["source"] = [f"u{i}" for i, *_ in places]
    values["speaker"] = [f"s{i // 4}" if i < 20 else "unknown" for i, *_ in places]
    values["seed"] = [seed for *_, seed in places]
    return pa.table(values, schema=SCHEMA)


def folder(table: pa.Table, at: Path) -> Path:
    with RowWriter(at) as writer:
        writer.add(table.to_pydict())
    return at


def without(cells: Cells, *columns: str) -> Cells:
    kept = [place for place, head in enumerate(cells[0]) if head not in columns]
    return [[line[place] for place in kept] for line in cells]


def attack(table: pa.Table, over: Over, at: Path) -> Any:
    text = format_table(summarise(table, interval_over=over), over)
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[:3]]
    return without([line for line in cells if len(line) == len(cells[0])], "rows", "utterances")


def report(table: pa.Table, over: Over, at: Path) -> Any:
    found = {
        section.name: without(section.cells, "rows", "utterances")
        for section in sections(load([folder(table, at)], over), {})
        if section.name in ("clean", "robustness") or section.name.startswith("by_")
    }
    assert len(found) >= 4
    return found


def evaluate(table: pa.Table, over: Over, at: Path) -> Any:
    lines = [Line("PGD", "steps 3", outcomes_of(table), 1.0, 1.0, None)]  # type: ignore[arg-type]
    paper = SimpleNamespace(published={}, published_seconds={})
    its: Any = SimpleNamespace(
        lines=lines, best=lines, interval_over=over, table=paper, corpus=table, title="made"
    )
    its.corpus = SimpleNamespace(name="made")
    (cells,) = strongest(its)
    return [[*line[:2], *line[3:]] for line in cells], list(genders([its]))


def compare(table: pa.Table, over: Over, at: Path) -> Any:
    chunks = CHUNKS if len(table) > UTTERANCES else 1
    other = load([folder(made(chunks, shift=2), at / "other")], over)
    rows = load([folder(table, at / "one")], over)
    section = comparison(rows, other, "a", "b")
    parts = [part.cells for part in comparison_by(rows, other, "a", "b")]
    return [[*line[:3], *line[4:]] for line in section.cells], parts


def utterances_of(table: pa.Table) -> list[Utterance]:
    columns = ("utterance", "label", "speaker", "gender", "source")
    return [
        Utterance(u, Path("x"), label, speaker, gender, source=source if source != u else "")
        for u, label, speaker, gender, source in zip(
            *(table[name].to_pylist() for name in columns), strict=True
        )
    ]


def codes(table: pa.Table, column: str) -> np.ndarray:
    return np.array([LABELS.index(each) for each in table[column].to_pylist()])


def transfer(table: pa.Table, over: Over, at: Path) -> Any:
    run: Any = SimpleNamespace(
        rows=lambda: table,
        utterances=utterances_of(table),
        config=SimpleNamespace(victim=Path("runs/x"), split="test"),
        corpus=SimpleNamespace(title="Made up"),
        facts={"notes": []},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_read", lambda run, utterance: np.zeros(1))
        patch.setattr(experiment, "predict", lambda victim, x: victim)
        victims: Any = {"x": codes(table, "prediction")}
        clean = {"x": codes(table, "clean_prediction")}
        return line_cells([experiment._line("PGD", run, clean, victims, over)])


def train(table: pa.Table, over: Over, at: Path) -> Any:
    return metrics_with_intervals(
        codes(table, "label"), codes(table, "prediction"), utterances_of(table), LABELS
    )


COMMANDS: dict[str, Callable[[pa.Table, Over, Path], Any]] = {
    each.__name__: each for each in (attack, report, evaluate, compare, transfer, train)
}


@pytest.mark.parametrize("command", COMMANDS)
def test_chunks_have_the_intervals_of_their_utterances(
    command: str, over: Over, tmp_path: Path
) -> None:
    whole, cut = (
        COMMANDS[command](made(chunks), over, tmp_path / str(chunks)) for chunks in (1, CHUNKS)
    )
    assert cut == whole


@pytest.mark.parametrize("command", ["attack", "report"])
def test_chunks_of_several_seeds(command: str, over: Over, tmp_path: Path) -> None:
    """The worst seed is that of every chunk, which here is the one of its utterance."""
    whole, cut = (
        COMMANDS[command](made(chunks, 3), over, tmp_path / str(chunks)) for chunks in (1, CHUNKS)
    )
    assert cut == whole


def test_what_the_table_says() -> None:
    table = made(CHUNKS)
    found = binomtest(RIGHT, UTTERANCES).proportion_ci(method="wilson")
    header, line = (each.split("  ") for each in format_table(summarise(table)).splitlines()[:2])
    cells = dict(
        zip(*([x.strip() for x in each if x.strip()] for each in (header, line)), strict=True)
    )
    assert cells["robust acc"] == f"87.5% ({found.low:.1%}–{found.high:.1%})"
    assert (cells["rows"], cells["utterances"]) == ("160", "40")


@pytest.mark.parametrize("coded", [False, True])
def test_rows_of_older_versions_are_of_whole_utterances(tmp_path: Path, coded: bool) -> None:
    table = made(1)
    old = table.drop_columns(list(LATER))
    pq.write_table(old, tmp_path / "rows-0.parquet")
    folder(table, tmp_path)  # beside newer ones
    read = read_rows(tmp_path, coded=coded)
    assert read.column_names == SCHEMA.names
    assert read["source"].to_pylist() == table["utterance"].to_pylist() * 2
    shares = read["success_share"].to_numpy()
    assert np.isnan(shares[: len(old)]).all()
    assert shares[len(old) :].tolist() == table["success_share"].to_pylist()
    for name in LATER:
        alone = read_rows(tmp_path, [name], coded=coded)
        np.testing.assert_equal(alone[name].to_pylist(), read[name].to_pylist())
    assert load([tmp_path]).repeated == len(old)
