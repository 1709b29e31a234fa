"""What is made of outcomes: the best setting, accuracy at an SNR, differences between groups."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jaxser.config import CorpusConfig, TrainConfig
from jaxser.corpora import Utterance
from jaxser.papers.table import Table
from jaxser.reporting.evaluation.differences import languages
from jaxser.reporting.evaluation.outcomes import (
    Clean,
    Evaluation,
    Line,
    Outcomes,
    accuracy_at_snr,
    best_lines,
    outcomes_of,
)
from jaxser.reporting.figures.bars import bars_figure
from jaxser.reporting.figures.canvas import save_figure
from jaxser.reporting.figures.spectrograms import spectrograms_figure
from jaxser.results.intervals import difference


def outcomes(before: str, after: str, **arrays: list[float]) -> Outcomes:
    """From strings of 1 (right) and 0; speakers of two utterances each, male and female in turn."""
    count = len(before)
    return Outcomes(
        utterances=np.array([f"u{i}" for i in range(count)]),
        sources=np.array([f"u{i}" for i in range(count)]),
        speakers=np.array([f"s{i // 2}" for i in range(count)]),
        genders=np.array(["male" if i // 2 % 2 else "female" for i in range(count)]),
        before=np.array([each == "1" for each in before]),
        after=np.array([each == "1" for each in after]),
        mean_abs=np.array(arrays.get("mean_abs", [1.0] * count)),
        snr=np.array(arrays.get("snr", [30.0] * count)),
    )


def side(made: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return made.damage, made.speakers, made.sources


def line(attack: str, made: Outcomes, setting: str = "") -> Line:
    examples = ((Utterance("u0", Path("u0.wav"), "joy", "s0", "female"), Path("u0.npy")),)
    return Line(attack, setting, made, seconds=1.0, compile_seconds=2.0, examples=examples)


def test_the_best_has_the_least_accuracy_then_the_smallest_change() -> None:
    lines = [
        line("a", outcomes("11", "10", mean_abs=[1.0, 1.0]), "1"),
        line("a", outcomes("11", "00", mean_abs=[3.0, 3.0]), "2"),
        line("a", outcomes("11", "00", mean_abs=[2.0, 2.0]), "3"),
        line("b", outcomes("11", "11"), "4"),
    ]
    assert [each.setting for each in best_lines(lines)] == ["3", "4"]


def test_accuracy_at_an_snr_takes_the_best_setting_of_each_utterance() -> None:
    loud = line("a", outcomes("1110", "0000", snr=[10.0, 10.0, 10.0, 10.0]))
    soft = line("a", outcomes("1110", "0110", snr=[30.0, np.nan, 25.0, np.nan]))
    # u0 falls at 30 dB, u1 and u2 at 10 dB only, u3 was wrong from the start.
    assert accuracy_at_snr([loud, soft], 40.0) == 0.75
    assert accuracy_at_snr([loud, soft], 30.0) == 0.5
    assert accuracy_at_snr([loud, soft], 10.0) == 0.0
    # The victim may be put right by an attack; that does not count for it.
    assert accuracy_at_snr([line("a", outcomes("01", "11"))], 0.0) == 0.5


def test_rows_are_brought_into_the_order_of_their_ids() -> None:
    rows = pa.table(
        {
            "utterance": ["b", "a"],
            "source": ["b", "a"],
            "speaker": ["s1", "s0"],
            "gender": ["male", "female"],
            "label": ["joy", "joy"],
            "clean_prediction": ["joy", None],
            "prediction": ["fear", "joy"],
            "mean_abs": [2.0, 1.0],
            "snr_power": [20.0, float("nan")],
        }
    )
    made = outcomes_of(rows)
    assert list(made.utterances) == ["a", "b"]
    assert list(made.before) == [False, True]
    assert list(made.damage) == [-1.0, 1.0]
    assert list(made.only("male").mean_abs) == [2.0]


def test_a_difference_is_decided_where_its_interval_excludes_zero() -> None:
    fragile, sturdy = outcomes("1" * 40, "0" * 40), outcomes("1" * 40, "1" * 36 + "0" * 4)
    found = difference(side(fragile), side(sturdy))
    assert found is not None
    assert found.value == pytest.approx(0.9)
    assert found.low > 0
    assert found.decided
    assert found.speakers == (20, 20)
    same = difference(side(sturdy), side(sturdy))
    assert same is not None
    assert same.value == 0
    assert not same.decided
    assert same.low < 0 < same.high
    nobody = sturdy.only("nobody")
    assert difference(side(nobody), side(sturdy)) is None


def test_clean_figures_count_a_missing_prediction_as_wrong() -> None:
    clean = Clean(
        truth=np.array([0, 0, 1, 1]),
        predicted=np.array([0, -1, 1, 0]),
        speakers=np.array(["s0"] * 4),
        sources=np.array(["u0", "u1", "u2", "u3"]),
        genders=np.array(["female", "male", "female", "male"]),
        num_classes=2,
    )
    assert clean.figures()["accuracy"] == 0.5
    assert clean.figures()["UAR"] == 0.5
    assert clean.figures("female")["accuracy"] == 1.0
    assert np.isnan(clean.figures("unknown")["accuracy"])


def evaluated(name: str, corpus: str = "emodb", **changes: Any) -> Evaluation:
    """A victim and one line of an attack on it."""
    trained = TrainConfig(out=Path(name), corpus=CorpusConfig(name=corpus))
    for field, value in changes.items():
        section, _, leaf = field.partition("__")
        if leaf:
            part = dataclasses.replace(getattr(trained, section), **{leaf: value})
            trained = dataclasses.replace(trained, **{section: part})
        else:
            trained = dataclasses.replace(trained, **{field: value})
    speech: Any = SimpleNamespace(prepared=SimpleNamespace(corpus=SimpleNamespace(name=corpus)))
    lines = (line("FGSM", outcomes("1111", "0011")),)
    return Evaluation(Path(name), trained, Table(title="T"), speech, lines)


def test_victims_are_alike_where_they_differ_in_the_seed_alone() -> None:
    first = evaluated("a", seed=1, corpus__split_seed=1).kind
    assert first == evaluated("b", seed=2, corpus__split_seed=5, corpus__root=Path("there")).kind
    for changes in (
        {"model__name": "zhao19"},
        {"model__dropout": 0.3},
        {"training__learning_rate": 0.1},
        {"features__kind": "log_mel"},
        {"corpus__protocol": "paper"},
    ):
        assert first != evaluated("a", **changes).kind


def test_victims_that_are_not_compared_are_named() -> None:
    group = [evaluated("a"), evaluated("b", seed=1), evaluated("c", "emovo")]
    _, text, table = languages(group)
    assert "left out: b." in text
    assert "emodb, clean, a − emovo, clean, c" in table
    assert "left out" not in list(languages(group[::2]))[1]


def test_pictures_are_drawn(tmp_path: Path) -> None:
    bars = bars_figure(
        "A title",
        "accuracy",
        ["FGSM", "BIM"],
        {"emodb": [0.1, 0.2], "emovo": [0.3, np.nan]},
        {"emodb": [0.15, np.nan]},
    )
    save_figure(bars, tmp_path / "bars.png")
    original = np.random.default_rng(0).normal(-40, 10, (30, 16))
    attacked = {"FGSM": original + 1, "unchanged": original}
    shown = spectrograms_figure("u0", original, attacked, seconds=3.0)
    assert len(shown.axes) == 12  # six images and their colour bars
    save_figure(shown, tmp_path / "spectrograms.png")
    assert all(path.stat().st_size > 5_000 for path in tmp_path.glob("*.png"))
