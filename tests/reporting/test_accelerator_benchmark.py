"""``python -m benchmarks.accelerator``: its cells, its counts, its file, and where it can run."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.accelerator import main, ours
from benchmarks.accelerator.cells import BATCHES, VICTIMS, cells, lines_of
from benchmarks.accelerator.report import Report
from benchmarks.accelerator.victims import drawn_weights
from benchmarks.compiled_programs import input_shape_of, victim_shapes
from benchmarks.flop import flop_of
from benchmarks.foundation import forward_flop
from benchmarks.page.of_accelerators import accelerator_compiled_table, accelerator_table
from jaxser import models
from jaxser.runtime.errors import UsageError
from jaxser.runtime.provenance import environment

ROOT = Path(__file__).resolve().parents[2]


def counted(function, *shapes):
    return flop_of(jax.jit(function).trace(*(jnp.zeros(shape) for shape in shapes)).jaxpr)


def test_flop_of_what_was_counted_by_hand():
    product = 2 * 3 * 4 * 5
    assert counted(jnp.dot, (3, 4), (4, 5)) == product
    assert counted(lambda a, b: (a @ b, a @ b)[0], (3, 4), (4, 5)) == product  # one is not needed
    assert counted(lambda a: jax.lax.fori_loop(0, 7, lambda _, a: a @ a, a), (3, 3)) == 7 * 54
    # A row of eight, seven places of a kernel of two, three channels to five.
    convolution = 2 * 7 * 2 * 3 * 5

    def convolved(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "VALID", dimension_numbers=("NHC", "HIO", "NHC")
        )

    assert counted(convolved, (1, 8, 3), (2, 3, 5)) == convolution
    # The gradient by the input alone: as much as forwards, on the eight places that it has.
    gradient = jax.grad(lambda x, kernel: convolved(x, kernel).sum())
    assert counted(gradient, (1, 8, 3), (2, 3, 5)) == convolution * 8 / 7


def test_flop_of_a_network_are_those_of_its_architecture():
    module = models.build("wav2vec2-base", 7, num_hidden_layers=1)
    variables = victim_shapes(module, (16_000,))
    x = jax.ShapeDtypeStruct((2, 16_000), jnp.float32)
    traced = jax.jit(lambda v, x: module.apply(v, x, train=False)).trace(variables, x)
    # Less the products of the classifier and the weights of the positional convolution.
    assert flop_of(traced.jaxpr) == pytest.approx(2 * forward_flop(module.config, 16_000), rel=2e-3)


def test_attacks_are_those_of_the_papers_with_what_they_took():
    lines = {line.name: line for line in lines_of("emo18")}
    assert list(lines) == ["PGD-20", "PGD", "SparseFool", "One-Pixel"]
    assert lines["PGD"].parameters["count"] == 4500
    assert lines["SparseFool"].published.seconds == (8.33, 18.90)
    assert lines["SparseFool"].published.unit == "utterance"
    assert lines_of("zhao19")[1].published is None
    features = {line.name: line for line in lines_of("cnn_lstm")}
    assert len(features) == 9
    assert features["PixelAttack"].parameters["count"] == 10
    assert features["C&W"].published.hardware == "TITAN V"
    assert math.isinf(features["JSMA"].epsilon)
    images = [line.name for line in lines_of("alexnet")]
    assert images == ["PGD-20", "FGSM", "MI-FGSM", "BIM", "PGD", "EOT+PGD", "Pixle", "Square"]
    for victim in VICTIMS:
        for line in lines_of(victim):
            assert line.made((0.0, 1.0)).bounds == (0.0, 1.0)


def test_the_most_telling_comes_first():
    chosen = cells(VICTIMS, BATCHES)
    assert [str(cell) for cell in chosen[:2]] == ["emo18 PGD-20 @256", "wav2vec2-base PGD-20 @256"]
    first = [cell.task for cell in chosen[: 3 * len(VICTIMS)]]
    assert set(first) == {"PGD-20"}
    assert {cell.kind for cell in chosen[3 * len(VICTIMS) :][:4]} == {"generator"}
    assert len(set(map(str, chosen))) == len(chosen)
    assert [cell.task for cell in cells(["alexnet"], [2], ["attack"], ["square"])] == ["Square"]
    with pytest.raises(UsageError, match="'no_such' is no victim"):
        cells(["no_such"], [1])


def test_weights_are_drawn_alike_without_a_compiler():
    shape, seconds = input_shape_of("cnn_lstm", 0.7)
    assert (shape, seconds) == ((30, 128), 0.7)
    assert input_shape_of("alexnet", 6.0) == ((224, 224, 3), 1.0)
    drawn = drawn_weights(victim_shapes(models.build("cnn_lstm", 7), shape))
    again = drawn_weights(victim_shapes(models.build("cnn_lstm", 7), shape))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), drawn, again))
    assert all(bool((leaf == 1).all()) for leaf in jax.tree.leaves(drawn["batch_stats"])[1::2])


LINE = {
    **{"model": "emo18", "task": "PGD-20", "batch": 2, "seconds": 6.0, "side": "jaxser"},
    **{"rows_per_s": [40.0, 60.0], "rtfx": 300.0, "step_ms": 2.0, "steps": 20, "whole_runs": True},
    **{"tflop_per_s": 1.0, "share_of_peak": 0.25, "memory_gb": 1.5, "compile_s": 3.0},
    **{"host_share": 0.1, "times_published": [50.0, 500.0]},
    "published": {"paper": "A", "seconds": [1.0, 10.0], "unit": "utterance", "hardware": ""},
}


def test_tables_of_the_page():
    peer = {key: LINE[key] for key in ("model", "task", "batch", "seconds")}
    peer |= {"side": "torchattacks compiled", "rows_per_s": [20.0, 20.0]}
    header, line = accelerator_table([{"measured": [LINE, peer]}])
    shown = dict(zip(header, line, strict=True))
    assert shown["rows/s"] == "50.0"
    assert (shown["of the peak"], shown["host"]) == ("25.0 %", "10 %")
    assert shown["÷ compiled"] == "2.50 (2.00–3.00)"
    assert (shown["the paper's s"], shown["× the paper"]) == ("1–10 a utterance", "50.0–500")
    each = {"model": "emo18", "task": "PGD-20", "batch": 32, "launches": 903, "step_gb": 1.44}
    each |= {"step_gflop": 2.0, "memory_gb": 0.2, "compile_processor_s": 9.4, "steps": 20}
    each |= {"modelled_step_ms": 1.73, "modelled_rows_per_s": 925.0}
    table = accelerator_compiled_table([{"compiled_for": "h200", "compiled": [each]}])
    assert table[1][:6] == ["h200", "emo18", "PGD-20", "32", "903", "1.44"]


def test_what_is_in_the_file_is_not_measured_again(tmp_path: Path):
    out = tmp_path / "out.json"
    before = {"benchmark": "accelerator", "seconds": 6.0, "dtype": "float32", "measured": [LINE]}
    before |= {"environment": {"device": environment()["device"]}}
    out.write_text(json.dumps(before))
    given = {"go_on": True, "out": out, "minutes": 1.0, "victims": ["emo18"], "batches": (2,)}
    given |= {"kinds": ("attack",), "attacks": None, "seconds": 6.0, "peers": "none", "pairs": 2}
    given |= {"dtype": None, "cell_seconds": 1.0, "compiled_for": None}
    report = Report(argparse.Namespace(**given), "float32")
    done, left = cells(["emo18"], [2, 4], ["attack"], ["pgd"])
    assert (report.has(done), report.has(left)) == (True, False)
    report.leave(left, "no time was left for it")
    report.write()
    kept = json.loads(out.read_text())
    assert kept["measured"] == [LINE]
    assert kept["left"][0]["cell"] == "emo18 PGD-20 @4"
    # What was measured of something else is not put beside what is measured now.
    for other in ({"seconds": 0.7}, {"dtype": "bfloat16"}, {"environment": {"device": "another"}}):
        out.write_text(json.dumps(before | other))
        with pytest.raises(UsageError, match=r"out.json has .*, and this call .*--go_on"):
            Report(argparse.Namespace(**given), "float32")
    for other in ([], {}, {"measured": None}):
        out.write_text(json.dumps(other))
        with pytest.raises(UsageError, match=r"out.json has benchmark None"):
            Report(argparse.Namespace(**given), "float32")
    with pytest.raises(UsageError, match="--go_on needs --out"):
        main(["--go_on"])


@pytest.mark.parametrize("given", ["--minutes 0", "--seconds nan", "--threads -1", "--batches 8 0"])
def test_times_and_sizes_are_more_than_nothing(given: str):
    flag, *values = given.split()
    with pytest.raises(UsageError, match=f"{flag} must be more than 0"):
        main([flag, *values])


def test_clean_passes_are_no_part_of_a_timed_run(monkeypatch: pytest.MonkeyPatch):
    passes, seen = [], []

    def clean_pass(victim, x, **_):
        passes.append(len(x))
        return SimpleNamespace(prediction=np.arange(len(x)))

    def attack_rows(victim, x, labels, attack, epsilon, *, clean, **_):
        seen.append((labels.tolist(), clean.prediction.tolist()))
        return [x]

    monkeypatch.setattr(ours, "clean_pass", clean_pass)
    monkeypatch.setattr(ours, "attack_rows", attack_rows)
    clock = SimpleNamespace(perf_counter=lambda: float(len(passes)))
    monkeypatch.setattr(ours, "time", clock)
    drawn = SimpleNamespace(inputs=lambda rows: np.zeros((rows, 4)), victim=None)
    cell = cells(["emo18"], [3], ["attack"], ["pgd"])[0]
    side = ours.OurSide(cell, SimpleNamespace(drawn=drawn, attack=None))
    side.repeat(1.0, 2.0)
    # The clock counts passes: none lies between its two readings.
    assert [side.turn() for _ in range(2)] == 2 * [(0.0, 6)]
    assert passes == [3, 6]
    assert seen == 2 * [([0, 1, 2, 0, 1, 2], list(range(6)))]


BARE = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None
from benchmarks.accelerator import main
main(sys.argv[2:])
"""
ABSENT = "pydantic pydantic_core annotated_types typing_inspection grain soundfile soxr librosa \
tensorboardX pystoi torch torchattacks transformers sklearn"


@pytest.mark.long
def test_it_runs_where_a_gpu_has_jax_alone_beside(tmp_path: Path):
    out = tmp_path / "out.json"
    flags = ["--minutes", "4", "--victims", "cnn_lstm", "--batches", "2", "--seconds", "0.7"]
    flags += ["--attacks", "fgsm", "bim", "deepfool", "--cell_seconds", "0.5", "--pairs", "1"]
    flags += ["--kinds", "forward", "gradient", "attack", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", BARE, ABSENT, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["left"] == []
    found = {line["task"]: line for line in report["measured"]}
    assert set(found) == {"forward", "gradient", "FGSM", "BIM", "DeepFool"}
    assert found["BIM"]["steps"] == 100
    assert found["BIM"]["published"]["unit"] == "test set"
    # As much as its gradients: the attack's own arithmetic has no products.
    gradient = found["gradient"]["step_gflop"]
    assert found["BIM"]["step_gflop"] == pytest.approx(gradient, rel=1e-6)
    for line in found.values():
        assert line["rtfx"] == pytest.approx(0.7 * sum(line["rows_per_s"]))
        assert line["compile_s"] > 0
    assert "cnn_lstm" in done.stdout
