"""The benchmark of image victims: both sides have the same weights, and what differs is refused."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.image_pipeline import pipeline_sides, waveforms
from benchmarks.image_sides import CLASSES, Setting, draw, sides_of
from benchmarks.images import Measured, images, main, measure
from benchmarks.page.beside_peers import images_table
from benchmarks.page.origin import command
from jaxser.runtime.errors import UsageError

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SMALL: dict[str, dict[str, Any]] = {
    "alexnet": {"image_size": 63, "channels": (4, 6, 5, 4, 6), "hidden": 8},
    "vit-b16": {"image_size": 16, "width": 8, "depth": 1, "heads": 2, "mlp": 8, "patch": 8},
    "echim_cnn_lstm": {"image_size": 32, "channels": (3, 4), "units": 4, "hidden": 6},
}


@pytest.mark.parametrize("name", SMALL)
def test_sides_agree_in_every_task(name: str) -> None:
    pair = draw(name, "float32", **SMALL[name])
    x = images(3, pair.module.image_size)
    for task in ("forward", "gradient", "step"):
        sides = sides_of(pair, task, Setting())
        own, peer = measure(name, task, sides, x, pairs=1, limit=1e-4, clock="processor")
        assert (own.side, peer.side, peer.batch) == ("jaxser", "torch", 3)
        assert own.ratios == [1.0]
        assert peer.ratios == [own.rows_per_s[0] / peer.rows_per_s[0]]
        if task != "step":
            assert peer.apart is not None
            assert 0 < peer.apart < 1e-4


def test_a_training_step_is_pytorchs() -> None:
    """Without dropout, after some steps: the same losses."""
    pair = draw("echim_cnn_lstm", "float32", **SMALL["echim_cnn_lstm"], dropout=0.0)
    x = images(3, 32)
    sides = sides_of(pair, "step", Setting())
    losses = {
        name: [side.runs["step"](side.place(x)) for _ in range(12)] for name, side in sides.items()
    }
    np.testing.assert_allclose(losses["jaxser"], losses["torch"], rtol=0, atol=2e-4)
    assert abs(losses["jaxser"][-1] - losses["jaxser"][0]) > 0.005  # it does move


def test_other_weights_are_refused() -> None:
    pair = draw("alexnet", "float32", **SMALL["alexnet"])
    with torch.no_grad():
        pair.twin.emotion_head.bias += 1.0
    sides = sides_of(pair, "forward", Setting())
    with pytest.raises(RuntimeError, match="the two do not compute the same"):
        measure("alexnet", "forward", sides, images(2, 63), pairs=1, limit=1e-3)


def test_flop_are_those_of_the_architecture() -> None:
    """Of a small AlexNet, by hand: places x kernel x channels of each layer, twice."""
    pair = draw("alexnet", "float32", **SMALL["alexnet"])
    products = 15**2 * 11**2 * 3 * 4 + 7**2 * 5**2 * 4 * 6 + 3**2 * 3**2 * (6 * 5 + 5 * 4 + 4 * 6)
    products += 6 * 8 + 8 * 8 + 8 * 1000 + 1000 * CLASSES
    assert pair.gflop == pytest.approx(2 * products / 1e9)


def test_a_pipeline_has_the_same_logits() -> None:
    small = {**SMALL["alexnet"], "image_size": 224}
    pair, x = draw("alexnet", "float32", **small), waveforms(2)
    for kind in ("mel", "linear"):
        sides = pipeline_sides(pair, kind, Setting(), x)
        told = f"pipeline, {kind}"
        own, peer = measure("alexnet", told, sides, x, pairs=1, limit=0.05)
        assert (own.side, peer.side) == ("jaxser", "librosa, matplotlib, torch")
        assert peer.apart is not None
        assert 0 < peer.apart < 0.05


def test_the_page_has_the_command_and_a_line() -> None:
    rows: dict[str, Any] = {"gflop_per_row": 2.0, "first_s": 3.0, "ratios": [1.0], "batch": 8}
    measured = [
        Measured("alexnet", "forward", side, rows_per_s=[rate], apart=0.0, **rows).__dict__
        for side, rate in (("jaxser", 6.0), ("torch compiled", 3.0))
    ]
    report = {
        "environment": {"backend": "cpu", "threads": 1},
        **{"dtype": "float32", "clock": "processor", "pairs": 3, "measured": measured},
    }
    assert command("images", json.loads(json.dumps(report))) == (
        "python -m benchmarks.images --victims alexnet --tasks forward --sizes 8 --device cpu "
        "--dtype float32 --compile --clock processor --pairs 3 --threads 1"
    )
    (_, line) = images_table([report])
    assert line[:3] == ["alexnet", "forward", "torch compiled"]
    assert "2.00 (2.00–2.00)" in line


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="give --threads 1 --device cpu"):
        main(["--clock", "processor", "--threads", "2"])
