"""A checkpoint's record must say what its step says: training ends by it."""

from pathlib import Path
from typing import Any

import pytest

from jaxser.runtime.checkpoint import Checkpoints
from jaxser.runtime.errors import InputError
from jaxser.training.loop import LoopSettings, run_loop
from jaxser.training.writer import RunWriter

SETTINGS = LoopSettings(
    epochs=2, steps_per_epoch=2, batch_size=1, monitor="uar", patience=0, checkpoint_seconds=60
)
GOOD = {
    "finished": False,
    "history": [{"epoch": 1, "step": 2, "loss": 0.5}],
    "best_epoch": 1,
    "best_value": 0.5,
}


class Restored(Checkpoints):
    """Checkpoints whose last one has this record."""

    def __init__(self, folder: Path, step: int, record: Any) -> None:
        super().__init__(folder)
        self.restored = step, record

    def restore_last(self, like: Any, data: Any) -> Any:
        step, record = self.restored
        return step, like, record


class Untrained:
    """An update that is not to be reached."""

    def prepare(self, state: Any, batch: Any) -> None:
        raise AssertionError("it trains on")

    def __call__(self, state: Any, batch: Any) -> Any:
        raise AssertionError("it trains on")


def go_on(folder: Path, step: int, record: Any) -> None:
    run_loop(
        Untrained(),
        None,
        iter([None]),  # type: ignore[arg-type]
        None,
        Restored(folder, step, record),
        RunWriter(folder, enabled=False),
        SETTINGS,
        None,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("step", "record"),
    [
        (2, {}),
        (2, None),
        (2, []),
        (2, {"finished": False}),
        (2, {**GOOD, "history": None}),
        (2, {**GOOD, "history": []}),
        (2, {**GOOD, "history": [None]}),
        (2, {**GOOD, "history": [{"epoch": 2}]}),
        (2, {**GOOD, "history": GOOD["history"] * 2}),
        (2, {**GOOD, "best_epoch": 7}),
        (2, {**GOOD, "best_epoch": "1"}),
        (2, {**GOOD, "finished": None}),
        (2, {**GOOD, "seconds": -1.0, "compile_seconds": 0.0}),
        (2, {**GOOD, "seconds": "1", "compile_seconds": 0.0}),
        (2, {**GOOD, "seconds": float("nan"), "compile_seconds": 0.0}),
        (4, {**GOOD, "history": [{"epoch": 1}, {"epoch": 2}]}),
        (88, GOOD),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, step: int, record: Any) -> None:
    with pytest.raises(InputError, match=rf"checkpoint .*last/{step} is damaged .*its record"):
        go_on(tmp_path, step, record)


@pytest.mark.parametrize(
    ("step", "record"),
    [
        (2, GOOD),
        (2, {**GOOD, "seconds": 1.5, "compile_seconds": None}),
        (3, GOOD),
        (1, {**GOOD, "history": [], "best_epoch": None, "best_value": None}),
    ],
)
def test_a_good_record_goes_on(tmp_path: Path, step: int, record: Any) -> None:
    with pytest.raises(AssertionError, match="it trains on"):
        go_on(tmp_path, step, record)


def test_a_finished_record_ends(tmp_path: Path) -> None:
    history = [{"epoch": 1}, {"epoch": 2}]
    go_on(tmp_path, 4, {**GOOD, "history": history, "finished": True})
