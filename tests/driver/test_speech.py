"""What is said of the speech that is attacked."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxser.driver.speech import Speech
from jaxser.driver.work import CleanPass


def speech(labels: list[int], predictions: list[int]) -> Speech:
    rows = len(labels)
    victim: Any = SimpleNamespace(name="emo18", labels=("anger", "fear", "joy"))
    nothing: Any = None
    return Speech(
        victim=victim,
        fingerprint="f",
        scheme=(),
        prepared=nothing,
        positions=np.arange(rows),
        inputs=nothing,
        places=np.arange(rows),
        labels=np.array(labels, np.int32),
        clean=CleanPass(
            np.array(predictions, np.int32), np.zeros(rows, np.uint32), np.zeros((rows, 3), "f")
        ),
    )


def test_a_victim_that_says_the_same_of_all_is_named() -> None:
    (said,) = speech([0, 1, 2, 2], [1, 1, 1, 1]).oddities()
    assert said.startswith("emo18 answers fear to all 4 clean inputs")
    assert speech([0, 1, 2, 2], [1, 1, 1, 2]).oddities() == []
    # Logits that are not finite are no answer.
    (said,) = speech([0, 1, 2, 2], [-1, -1, -1, -1]).oddities()
    assert "answers" not in said


def test_logits_that_are_not_finite_are_told() -> None:
    (said,) = speech([0, 0, 1], [-1, 0, 1]).oddities()
    assert said.startswith("emo18's logits of 1 of 3 clean inputs are not finite")
    assert not speech([0, 0, 1], [1, 0, 1]).oddities()
