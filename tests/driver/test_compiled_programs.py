"""Counts of programs that the compilers of accelerators made, where these are installed."""

import pytest

from benchmarks.aot import DEVICES
from benchmarks.compiled import compiled_rows

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]


def compiled(device, *texts):
    if not DEVICES[device].is_installed():
        pytest.skip("the compilers of the extra aot are not installed")
    return list(compiled_rows(texts, device, DEVICES[device]))


def test_pgd_on_emo18_takes_a_thousand_launches_a_step():
    (row,) = compiled("h200", "emo18:pgd:steps=20@32")
    assert 100 < row["launches"] <= 1000
    assert 0.5 < row["step_gb"] <= 1.6
    assert row["collectives"] == {}


def test_gradients_of_all_classes_write_no_choice_of_samples():
    (row,) = compiled("h200", "zhao19:deepfool:steps=2@4")
    assert row["step_gb"] <= 1.5
    assert row["temporary_mb"] <= 300


def test_only_training_talks_between_devices():
    attack, training = compiled("v5e-8", "cnn_lstm_m0:fgsm@1", "cnn_lstm_m0:training@1")
    assert attack["collectives"] == {}
    assert set(training["collectives"]) == {"all-reduce"}
