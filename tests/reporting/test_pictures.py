"""Bars of an evaluation: those that stand beside each other are of the same utterances."""

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
from jaxser.reporting.evaluation import pictures as module
from jaxser.reporting.evaluation.outcomes import Line, outcomes_of
from jaxser.results.schema import SCHEMA

NAMES = ("FGSM", "JSMA", "BIM")


def line(attack: str, rows: Sequence[Row], seconds: float) -> Line:
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]}, schema=SCHEMA)
    example = Utterance("u0", Path("u0.wav"), "joy", "s0", "female"), Path("u0.npy")
    return Line(attack, "steps 3", outcomes_of(table), seconds, 2.5, example)


def evaluation(title: str, of: Mapping[str, Sequence[Row]]) -> Any:
    lines = [line(attack, rows, 4.0) for attack, rows in of.items()]
    return SimpleNamespace(
        table=SimpleNamespace(title="T", titles=list(NAMES), published={}),
        corpus=SimpleNamespace(name="made"),
        best=lines,
        title=title,
        speech=SimpleNamespace(victim=SimpleNamespace(front_end=None)),
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
