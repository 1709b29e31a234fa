"""The tables that end a training run, computed by hand; a class is missing from the part."""

import re
from pathlib import Path

import numpy as np
import pytest
import rows_by_hand as hand

from jaxser.config import TrainConfig, from_mapping
from jaxser.corpora import Utterance
from jaxser.results.intervals import policy
from jaxser.results.units import Over
from jaxser.training.evaluation import metrics_with_intervals, units_of_each
from jaxser.training.generator_run import part_figures
from jaxser.training.run import TrainingOutcome
from jaxser.training.summary import format_generator, format_outcome

LABELS = ("anger", "fear", "joy", "sad")

# One row per utterance, as a part has them.
ROWS = [row for row in hand.made() if row["seed"] == 1 and row["epsilon"] == 0.1]
UTTERANCES = [
    Utterance(row["utterance"], Path("x.wav"), row["label"], row["speaker"], g)
    for row in ROWS
    for g in [row["gender"]]
]
# No part has logits that are not finite: training would have ended.
PREDICTED = [row["prediction"] or "fear" for row in ROWS]


def outcome(results: dict[str, object]) -> TrainingOutcome:
    whole = {"best_epoch": 3, "epochs": 5, **results}
    return TrainingOutcome(
        finished=True, step=9, signal=0, results=whole, title="Made up", notes=("note",)
    )


def intervals(line: str) -> list[tuple[float, float, float]]:
    found = re.findall(r"([\d.]+)% \(([\d.]+)%–([\d.]+)%\)", line)
    return [tuple(float(each) / 100 for each in cell) for cell in found]  # type: ignore[misc]


@pytest.mark.parametrize("over", ["utterance", "speaker"])
def test_a_victims_table(over: Over) -> None:
    rows = [{**row, "prediction": p} for row, p in zip(ROWS, PREDICTED, strict=True)]

    def figures(gender: str | None) -> dict[str, object]:
        where = [i for i, row in enumerate(rows) if gender in (None, row["gender"])]
        truth, predicted = (
            np.array([LABELS.index(name) for name in names])
            for names in ([rows[i]["label"] for i in where], [PREDICTED[i] for i in where])
        )
        found = metrics_with_intervals(truth, predicted, [UTTERANCES[i] for i in where], LABELS)
        return {"utterances": len(where), "speakers": 4, **found}

    parts = {gender: figures(gender) for gender in ("female", "male")}
    text = format_outcome(
        outcome({"test": {**figures(None), "by_gender": parts}}), TrainConfig(interval_over=over)
    )
    lines = [line for line in text.splitlines() if intervals(line)]
    assert [line.split()[:2] for line in lines] == [["test", "8"], ["female", "4"], ["male", "4"]]
    for line, gender in zip(lines, (None, "female", "male"), strict=True):
        its = [row for row in rows if gender in (None, row["gender"])]
        cells = intervals(line)
        values = [
            hand.recall_mean(its, "prediction"),
            hand.share(its, hand.right_after),
            hand.f1_mean(its, "prediction"),
        ]
        assert [cell[0] for cell in cells] == pytest.approx(values, abs=6e-4)
        assert all(low <= value <= high and high - low > 0.05 for value, low, high in cells)
        if over == "utterance":
            right = sum(map(hand.right_after, its))
            assert cells[1][1:] == pytest.approx(hand.wilson(right, len(its)), abs=6e-4)
    assert policy(over) in text
    assert "epoch 3 of 5" in text


def test_a_defended_victim_says_against_what() -> None:
    watched = {"watched_accuracy": 0.5, "robust_accuracy": 0.25}
    flags = {"attack": "configs/attacks/benchmark_pgd.yaml", "epsilon": [0.001, 0.002]}
    config = from_mapping(TrainConfig, {"training": {"adversarial": flags}}, "flags")
    text = format_outcome(outcome({"watched": watched}), config)
    assert (
        "\ntrained against benchmark_pgd, ε 0.001 to 0.002; watched in that epoch: 50.0% of the "
        "training rows right, 25.0% under PGD\n"
    ) in text
    # Without rows to watch nothing is known of them.
    assert "ε 0.001 to 0.002\n" in format_outcome(outcome({}), config)
    assert "trained against" not in format_outcome(outcome({}), TrainConfig())


@pytest.mark.parametrize("over", ["utterance", "speaker"])
@pytest.mark.parametrize("fooled", [[1, 0, 0, 1, 1, 0, 1, 1], [1, 0, 0.5, 1, 1, 0, 1, 1]])
def test_a_generators_table(fooled: list[float], over: Over) -> None:
    """Of one threat model, and of two, of which an utterance may fool one."""
    rows = {
        "fooled": np.array(fooled),
        "loss": np.full(8, 0.5),
        "sparsity": np.arange(8) / 10,
        "snr_peak": np.array([20.0, 1, np.nan, 30, 40, 1, 50, 60]),
        "snr_power": np.full(8, 10.0),
    }
    found = part_figures(rows, units_of_each(UTTERANCES))
    text = format_generator(
        outcome({"test": {"utterances": 8, "speakers": 4, "0.05": found}}),
        TrainConfig(threat=(Path("v"),), interval_over=over),
    )
    (line,) = [line for line in text.splitlines() if line.startswith("test")]
    ((asr, low, high),) = intervals(line)
    assert line.split()[:3] == ["test", "8", "0.05"]
    assert asr == pytest.approx(sum(fooled) / 8, abs=6e-4)
    if over == "utterance" and 0.5 not in fooled:
        assert (low, high) == pytest.approx(hand.wilson(5, 8), abs=6e-4)
    made = [
        {"utterance": each.id, "speaker": each.speaker, "fooled": value}
        for each, value in zip(UTTERANCES, fooled, strict=True)
    ]
    plain = hand.interval(made, lambda its: hand.share(its, lambda row: row["fooled"]), over)
    assert (low, high) == pytest.approx(plain, abs=0.15)
    # Changed over all utterances; SNR over the fooled ones that have one.
    assert line.split()[-3:] == ["35.0%", "40.0", "dB"]
    assert policy(over) in text
