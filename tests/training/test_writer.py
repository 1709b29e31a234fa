"""What TensorBoard reads of a run, from the event files alone."""

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import events, shown
from matplotlib.figure import Figure
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from jaxser.config import TrainingConfig
from jaxser.training import writer as writer_module
from jaxser.training.optimizer import learning_rate_at
from jaxser.training.writer import RunWriter


def figures(epoch: int) -> dict[str, float]:
    return {
        **{"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "macro_f1": 0.1 * epoch},
        **{"val_loss": 2 / epoch, "val_macro_f1": 0.2 * epoch, "val_fooled_snr_peak": float("nan")},
    }


def train(folder: Path, first: int, last: int, *, finished: bool) -> None:
    """Epochs of a run that goes on from the end of the one before ``first``."""
    history = [figures(epoch) for epoch in range(1, first)]
    with RunWriter(folder, learning_rate=lambda step, before: 0.5 ** len(before)) as writer:
        writer.start(total=400, done=100 * (first - 1), step=10 * (first - 1))
        for epoch in range(first, last + 1):
            history.append(figures(epoch))
            writer.advance(100, dict)
            writer.epoch(figures(epoch), history, of=4)
        writer.finish()
        if finished:
            writer.figure("confusion/test", Figure(), step=10 * last)
            writer.scalars("test", {"macro_f1": 0.75, "uar": 0.5}, step=10 * last)
            writer.hyperparameters(
                {"seed": 3, "model": {"name": "emo18", "checkpoint": None}, "threat": ["a"]},
                ["test/macro_f1"],
            )


def test_the_last_epoch_of_a_finished_run_is_there(tmp_path: Path) -> None:
    train(tmp_path, 1, 4, finished=True)
    kept = shown(tmp_path)
    assert [step for step, _ in kept["train/loss"]] == [10, 20, 30, 40]
    assert [value for _, value in kept["val/macro_f1"]] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert kept["test/macro_f1"] == [(40, 0.75)]
    assert [value for _, value in kept["train/learning_rate"]] == [1, 0.5, 0.25, 0.125]
    assert len(kept["confusion/test"]) == 1


def test_tags_are_a_part_and_a_figure(tmp_path: Path) -> None:
    train(tmp_path, 1, 1, finished=True)
    scalars = {tag for tag in shown(tmp_path) if not tag.startswith(("_hparams_", "confusion"))}
    assert scalars == {
        *("train/loss", "train/macro_f1", "train/learning_rate"),
        *("val/loss", "val/macro_f1"),  # what is not finite has no place on a curve
        *("test/macro_f1", "test/uar"),
    }


def test_a_run_that_goes_on_keeps_what_was_before_and_drops_what_is_made_again(
    tmp_path: Path,
) -> None:
    """Killed after the third epoch, with the checkpoint of the second: the third is made again."""
    train(tmp_path, 1, 3, finished=False)
    train(tmp_path, 3, 4, finished=True)
    assert [step for step, _ in shown(tmp_path)["val/loss"]] == [10, 20, 30, 40]
    # The command of a finished run, given again, takes nothing away.
    train(tmp_path, 5, 4, finished=True)
    assert [step for step, _ in shown(tmp_path)["val/loss"]] == [10, 20, 30, 40]
    assert len(list(tmp_path.glob("tensorboard/events*"))) == 3


def test_runs_can_be_compared_by_their_hyperparameters(tmp_path: Path) -> None:
    train(tmp_path, 1, 2, finished=True)
    told = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(tmp_path)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (started,) = [each for each in told if each.HasField("session_start_info")]
    hparams = started.session_start_info.hparams
    assert set(hparams) == {"seed", "model.name", "threat"}
    assert hparams["seed"].number_value == 3
    assert hparams["model.name"].string_value == "emo18"
    (experiment,) = [each for each in told if each.HasField("experiment")]
    metrics = [info.name.tag for info in experiment.experiment.metric_infos]
    assert metrics == ["test/macro_f1"]


def test_a_file_says_that_a_long_epoch_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: clock[0])
    with RunWriter(tmp_path) as writer:
        writer.start(total=4_000, done=0, step=0)
        writer.compiling()
        for clock[0] in (150.0, 180.0, 200.0):
            writer.advance(1_000, dict)
    assert capsys.readouterr().out.splitlines() == [
        "training: 4,000 samples to go, compiling",
        "2,000 of 4,000 samples, 25/s, 80 s left",
    ]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with RunWriter(tmp_path, enabled=False) as writer:
        writer.start(10, 0, 0)
        writer.compiling()
        writer.epoch(figures(1), [figures(1)], of=1)
        writer.scalars("test", {"uar": 1.0}, 1)
        writer.hyperparameters({}, [])
        writer.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "plateau"])
def test_the_learning_rate_is_that_of_the_update(schedule: str, accumulate: int) -> None:
    """By the schedules' own definitions, of 4 epochs of 10 batches, without warm-up."""
    config = TrainingConfig(
        epochs=4,
        learning_rate=0.1,
        schedule=schedule,  # type: ignore[arg-type]
        accumulate=accumulate,
        decay=0.5,
        decay_epochs=1,
        warmup_steps=0,
    )
    history = [{"val_loss": 1.0}, {"val_loss": 1.0}]
    step, updates, total = 30, 30 // accumulate - 1, 40 // accumulate
    expected = {
        "constant": 0.1,
        "cosine": 0.05 * (1 + np.cos(np.pi * updates / total)),
        "step": 0.1 * 0.5 ** (updates // (total // 4)),
        "plateau": 0.05,
    }
    assert learning_rate_at(config, 10, step, history) == pytest.approx(expected[schedule])


def test_a_run_goes_on_where_tensorboard_has_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("no folder")
    with RunWriter(tmp_path) as writer:
        writer.start(total=10, done=0, step=0)
        for epoch in range(2):
            figures = {"epoch": epoch, "step": epoch, "loss": 1.0}
            writer.advance(5, dict)
            writer.epoch(figures, [figures], of=2)
        writer.hyperparameters({"seed": 3}, ["test/uar"])
        writer.scalars("test", {"uar": 0.5}, 2)
    (told,) = [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert "cannot be written (Not a directory); the run goes on without it." in told
    assert (tmp_path / "history.csv").exists()


@pytest.mark.parametrize("at", [1, 3, 30])
def test_a_full_disk_ends_the_events_and_not_the_run(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More events than the queue of tensorboardX's thread holds, after one could not be written."""
    written: list[bytes] = []

    def write(self: Any, data: bytes) -> None:
        written.append(data)
        if len(written) > at:
            raise OSError(errno.ENOSPC, "No space left on device")

    def train() -> None:
        with RunWriter(tmp_path) as writer:
            writer.start(total=80, done=0, step=0)
            history = []
            for epoch in range(40):
                history.append({"epoch": epoch, "step": epoch, "loss": 1.0, "val_uar": 0.5})
                writer.advance(2, dict)
                writer.epoch(history[-1], history, of=40)
        finished.append(True)

    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.write", write)
    finished: list[bool] = []
    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    thread.join(60)
    assert finished, "it waits for a thread that is gone"
    assert len(written) == at + 1, "what cannot be written is not tried again and again"
    (told,) = [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert told == (
        f"TensorBoard's file in {tmp_path / 'tensorboard'} cannot be written (No space left on "
        "device); the run goes on without it."
    )
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 41
