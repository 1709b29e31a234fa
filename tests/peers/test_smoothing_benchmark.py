"""The benchmark of passes under noise: both sides count the same victim's answers."""

import json

import numpy as np
import pytest

from benchmarks.page.beside_peers import smoothing_table
from benchmarks.page.origin import command
from benchmarks.smoothing import APART, CLASSES, main, measure, sides_of
from jaxser.reporting.benchmarks import comparisons_of
from jaxser.runtime.errors import UsageError

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::UserWarning")]


def speech() -> np.ndarray:
    return (0.1 * np.sin(np.arange(4000) / 12))[None].astype(np.float32)


def test_sides_have_the_same_logits_and_count_all_passes() -> None:
    turns, logits = sides_of("emo18", speech())
    np.testing.assert_allclose(logits["jaxser"], logits["torch"], atol=1e-4)
    found = [turns[side]["passes"](16, 8) for side in ("jaxser", "torch")]
    # One draw of ours chooses the class.
    assert [each.sum() for each in found] == [15, 16]
    # Of a hum, so little noise takes the answer nowhere.
    assert found[0].argmax() == found[1].argmax()
    assert len(found[1]) == CLASSES


def test_measured_and_shown() -> None:
    made = measure("emo18", speech(), ["passes"], 4, 8, 2, "processor")
    own, peer = made
    assert (own.side, peer.side, peer.batch) == ("jaxser", "torch", 4)
    assert peer.ratios == [a / b for a, b in zip(own.rows_per_s, peer.rows_per_s, strict=True)]
    assert own.apart < APART
    report = {
        "environment": {"device": "d", "threads": 1, "packages": {"jax": "0"}},
        **{"clock": "processor", "pairs": 2, "passes": 8},
        "measured": [vars(each) for each in made],
    }
    assert json.loads(json.dumps(report)) == report
    assert smoothing_table([report])[1][:5] == ["emo18", "0.25 s", "passes", "torch", "4"]
    (found,) = comparisons_of(report)
    assert found.work == "passes, batch 4"
    told = command("smoothing", report)
    assert told.endswith(
        "--sizes 4 --seconds 0.25 --passes 8 --clock processor --pairs 2 --threads 1"
    )


def test_what_cannot_be_measured() -> None:
    with pytest.raises(UsageError, match="adds up all threads"):
        main(["--clock", "processor", "--threads", "2"])
    with pytest.raises(UsageError, match="multiple of every one"):
        main(["--passes", "20", "--sizes", "16"])
