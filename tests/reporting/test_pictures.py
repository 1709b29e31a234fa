"""Bars of an evaluation: those that stand beside each other are of the same utterances."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rows_by_hand as hand
from rows_by_hand import Row

from jaxser.corpora import Utterance
from jaxser.papers.table import Attacked, Table
from jaxser.reporting.evaluation import pictures as module
from jaxser.reporting.evaluation.outcomes import Line, outcomes_of
from jaxser.results.schema import SCHEMA

NAMES = ("FGSM", "JSMA", "BIM")


def line(attack: str, rows: Sequence[Row], seconds: float) -> Line:
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]}, schema=SCHEMA)
    examples = ((Utterance("u0", Path("u0.wav"), "joy", "s0", "female"), Path("u0.npy")),)
    return Line(attack, "steps 3", outcomes_of(table), seconds, 2.5, examples)


def evaluation(title: str, of: Mapping[str, Sequence[Row]]) -> Any:
    lines = [line(attack, rows, 4.0) for attack, rows in of.items()]
    return SimpleNamespace(
        table=Table(title="T", attacks=[Attacked(name=name, attack="pgd") for name in NAMES]),
        corpus=SimpleNamespace(name="made"),
        best=lines,
        title=title,
        speech=SimpleNamespace(victim=SimpleNamespace(front_end=None), positions=range(80)),
    )


def test_one_set_of_utterances_in_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSMA was limited to four utterances on one victim, and on the other it was not."""
    everyone = [row for row in hand.made() if row["seed"] == 1 and row["epsilon"] == 0.1]
    few = everyone[:4]
    drawn: dict[str, Any] = {}

    def save(figure: Any, path: Path) -> None:
        drawn[path.name] = figure

    def figure(title: str, axis: str, names: Any, series: Any, published: Any, log: bool) -> Any:
        return title, axis, list(names), series

    monkeypatch.setattr(module, "save_figure", save)
    monkeypatch.setattr(module, "bars_figure", figure)
    limited = evaluation("limited", {"FGSM": everyone, "JSMA": few, "BIM": everyone})
    whole = evaluation("whole", dict.fromkeys(NAMES, everyone))
    told = list(module.pictures(tmp_path, [limited, whole]))
    assert len(told) == len(drawn) == 12
    of_all, of_few = (hand.share(rows, hand.right_after) for rows in (everyone, few))
    nan = float("nan")
    for name, names, series in (
        (
            "t_accuracy.png",
            ["FGSM", "JSMA", "BIM"],
            {"limited, 8 rows": [of_all, nan, of_all], "whole": [of_all] * 3},
        ),
        ("t_accuracy_2.png", ["JSMA"], {"limited, 4 rows": [of_few], "whole": [nan]}),
        (
            "t_seconds.png",
            ["FGSM", "JSMA", "BIM"],
            {"limited, 8 rows": [0.5, nan, 0.5], "whole": [0.5] * 3},
        ),
        ("t_seconds_2.png", ["JSMA"], {"limited, 4 rows": [1.0], "whole": [nan]}),
    ):
        _, _, drawn_names, drawn_series = drawn[name]
        assert drawn_names == names
        assert list(drawn_series) == list(series)
        for title, heights in series.items():
            np.testing.assert_allclose(drawn_series[title], heights)
    assert drawn["t_accuracy_limited_2.png"][0] == "limited, 4 rows"
    assert drawn["t_accuracy_limited_2.png"][2] == ["JSMA"]
    assert "t_accuracy_whole_2.png" not in drawn
    # One picture of each kind where all attacks are of the same utterances.
    drawn.clear()
    assert len(list(module.pictures(tmp_path, [whole]))) == 5
    assert list(drawn["t_accuracy.png"][3]) == ["whole"]


def test_seconds_of_a_whole_part_stand_beside_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 rows took 4 s, so the 80 utterances of the part would take 40."""
    rows = [row for row in hand.made() if row["seed"] == 1 and row["epsilon"] == 0.1]
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        module, "save_figure", lambda figure, path: drawn.update({path.name: figure})
    )
    monkeypatch.setattr(module, "bars_figure", lambda *arguments: arguments)
    each = evaluation("whole", {"FGSM": rows, "BIM": rows})
    seconds = {"FGSM": (1.0, 3.0)}
    each.table = dataclasses.replace(each.table, published_seconds=seconds, hardware="TITAN V")
    assert len(rows) == 8
    list(module.pictures(tmp_path, [each]))
    _, axis, names, series, *_ = drawn["t_test_set_seconds.png"]
    assert axis == "seconds for all utterances of the part"
    assert names == ["FGSM", "BIM"]
    np.testing.assert_equal(
        series,
        {
            "whole": [40.0, 40.0],
            "paper, fastest test set (TITAN V)": [1.0, np.nan],
            "paper, slowest test set (TITAN V)": [3.0, np.nan],
        },
    )


@pytest.mark.parametrize(("domain", "unit"), [("features", "standardised"), ("waveform", "dB")])
def test_a_female_and_a_male_utterance_are_drawn(
    domain: str, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an attack changes: standardised features as they are, speech as its spectrogram."""
    rows = [row for row in hand.made() if row["seed"] == 1 and row["epsilon"] == 0.1]
    each = evaluation("victim", {"FGSM": rows})
    shape = {"features": (3, 2), "waveform": (4,)}[domain]
    inputs = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    utterances = [
        Utterance(f"u{i}", Path(f"u{i}.wav"), "joy", "s0", gender)
        for i, gender in enumerate(("male", "female"))
    ]
    files = []
    for utterance, x in zip(utterances, inputs, strict=True):
        files.append((utterance, tmp_path / f"{utterance.id}.npy"))
        np.save(files[-1][1], x + 100)
    each.best = [dataclasses.replace(each.best[0], examples=tuple(files))]
    each.table = dataclasses.replace(each.table, domain=domain)
    each.trained = SimpleNamespace(corpus=SimpleNamespace(seconds=3.0))
    front_end = SimpleNamespace(
        features=lambda variables, x: x.reshape(len(x), 2, 2),
        spectrogram=lambda variables, x: 2 * x,
    )
    victim = SimpleNamespace(front_end=front_end, variables={})
    each.speech = SimpleNamespace(
        victim=victim, utterances=utterances, inputs=inputs, places=[0, 1], positions=range(2)
    )
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        module, "save_figure", lambda figure, path: drawn.update({path.name: figure})
    )
    monkeypatch.setattr(module, "bars_figure", lambda *arguments: arguments)
    monkeypatch.setattr(module, "spectrograms_figure", lambda *arguments: arguments)
    list(module.pictures(tmp_path, [each]))
    for place, gender in enumerate(("male", "female")):
        title, original, attacked, seconds, drawn_unit = drawn[
            f"t_spectrograms_victim_{gender}.png"
        ]
        assert title == f"u{place} (joy, {gender}), victim"
        expected = inputs[place] if domain == "features" else 2 * inputs[place].reshape(2, 2)
        np.testing.assert_array_equal(original, expected)
        change = 100 if domain == "features" else 200
        np.testing.assert_array_equal(attacked["FGSM"], expected + change)
        assert (seconds, drawn_unit) == (3.0, unit)
