"""PyTorch's sides of ``benchmarks.accelerator``: the same victims, as torchattacks sees them."""

import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.accelerator.cells import cells  # noqa: E402
from benchmarks.accelerator.peers import (  # noqa: E402
    OutOfTime,
    UnitVictim,
    peer_runs,
    placed,
    twin_of_drawn,
)
from benchmarks.accelerator.victims import drawn_victim  # noqa: E402

pytestmark = pytest.mark.peers

VICTIMS = ["emo18", "zhao19", "cnn_lstm", "echim_cnn_lstm", "wav2vec2-base+num_hidden_layers=1"]


@pytest.mark.parametrize("name", VICTIMS)
def test_both_sides_have_the_same_victim(name: str) -> None:
    drawn = drawn_victim(name, 0.7, "float32")
    x = drawn.inputs(2)
    victim = UnitVictim(twin_of_drawn(drawn), drawn, np.zeros(2))
    with torch.no_grad():
        theirs = victim(placed(x, drawn)).numpy()
    ours = np.asarray(drawn.victim.logits(x))
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_attacks_have_a_deadline_and_the_steps_of_ours() -> None:
    drawn = drawn_victim("cnn_lstm", 0.7, "float32")
    x = drawn.inputs(2)
    found = {}
    for cell in cells(["cnn_lstm"], [2], ["attack"]):
        runs = peer_runs(cell, drawn, x, np.zeros(2), compiled=False)
        found[cell.task] = runs.get("torchattacks")
    assert {task for task, run in found.items() if run} == {"PGD-20", "FGSM", "BIM", "DeepFool"}
    found["FGSM"](float("inf"))
    with pytest.raises(OutOfTime):
        found["BIM"](time.monotonic() - 1)
