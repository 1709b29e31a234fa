"""What is told of a composite attack while it runs: of all rows and all members."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from test_attack_sequences import PARTS, Several

from jaxser.driver import meter
from jaxser.driver.meter import Progress, Stages
from jaxser.driver.progress import AttackBar
from jaxser.driver.run import attack_rows


def test_the_time_left_is_that_of_all_members_that_follow() -> None:
    """Ten rows through members of 10, 100 and 1,000 steps, at a second a step."""
    clock = SimpleNamespace(row_steps=0, seconds=0.0)
    run: Any = SimpleNamespace(elapsed=lambda: clock.seconds)
    run.row_steps = 0
    left = np.ones((10, 1), bool)
    stages = Stages(["a", "b", "c"], [10, 100, 1000], left, 2, run)
    assert stages.progress(0).seconds_left is None  # nothing has been seen of its pace

    def work(steps: int, seconds: float) -> None:
        run.row_steps += steps
        clock.seconds += seconds

    work(50, 50.0)
    first = stages.progress(50)
    assert (first.rows, first.withstood, first.stage) == (2, 0, "a (1 of 3)")
    assert first.seconds_left == 10 * 1110 - 50
    work(50, 50.0)
    stages.add((np.arange(10), np.zeros(10, int)), np.arange(10) < 4)
    after = stages.progress(100)
    assert (after.rows, after.withstood) == (6, 6)
    assert after.seconds_left == 6 * 1100
    # The next one goes at half the pace, and its steps are no measure of what it has not begun.
    stages.begin(1)
    assert stages.progress(100).seconds_left == 6 * 1100
    work(300, 600.0)
    assert stages.progress(400).seconds_left == 2 * (6 * 1100 - 300)
    stages.add((np.arange(4, 10), np.zeros(6, int)), np.zeros(6, bool))
    # The last one: rows of it may be at work for long, and none has ended.
    stages.begin(2)
    work(3000, 1500.0)
    last = stages.progress(3400)
    assert (last.rows, last.withstood, last.stage) == (6, 6, "c (3 of 3)")
    assert last.seconds_left == 0.5 * (6000 - 3000)
    stages.add((np.arange(4, 10), np.zeros(6, int)), np.ones(6, bool))
    end = stages.progress(9000)
    assert (end.rows, end.withstood, end.seconds_left) == (12, 0, 0.0)


def test_a_run_tells_of_every_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_SECONDS_BETWEEN_LOOKS", 0.0)
    told: list[Progress] = []

    def watch(progress: Progress) -> bool:
        told.append(progress)
        return True

    blocks = list(
        attack_rows(
            small_victims.small_victim("conv"),
            small_victims.waveforms(20),
            small_victims.labels(20),
            Several(PARTS),
            [0.005, 0.03],
            batch_size=8,
            devices=jax.devices()[:1],
            watch=watch,
        )
    )
    assert list(dict.fromkeys(each.stage for each in told)) == [
        "fgsm (1 of 3)",
        "pgd (2 of 3)",
        "bim (3 of 3)",
    ]
    rows = [each.rows for each in told]
    assert rows == sorted(rows)
    assert all(each.rows + each.withstood <= 40 for each in told)
    of_last = [each for each in told if each.stage.startswith("bim")]
    assert of_last[0].withstood > 0
    assert of_last[0].seconds_left > 0
    # No row that withstood is left out of account from the second member on.
    assert all(each.rows + each.withstood == 40 for each in told if "1 of" not in each.stage)
    assert blocks[-1].throughput.rows == 40


def test_the_bar_shows_shares_of_all_rows_that_were_tried(capsys: Any) -> None:
    """Twenty have fallen, and eighty have withstood three members of four."""
    with AttackBar("autoattack", rows=100) as bar:
        bar._bar.n = 20
        bar._fooled = 20
        bar._rate = 50.0
        bar.watch(Progress(9000, 400, 10.0, 20, "square (4 of 4)", 80, 270.0))
    shown = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    # Not 100 % of the 20 that fell, at 50 rows a second.
    assert "square (4 of 4), 2.0 rows/s" in shown
    assert "robust accuracy 80.0%, fooled 20.0%" in shown
    assert "04:30 left" in shown


def test_without_a_sequence_finished_rows_tell(capsys: Any) -> None:
    with AttackBar("pgd", rows=100) as bar:
        bar._bar.n = 20
        bar.watch(Progress(9000, 400, 10.0, 20))
    shown = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert "00:40 left" in shown
