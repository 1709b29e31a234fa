"""What ``--dry_run`` of a sweep prints, counted by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxser.config.attack import AttackCommandConfig
from jaxser.config.sweep import Cell, SweepConfig
from jaxser.driver.meter import Throughput
from jaxser.experiments import dry_run
from jaxser.runtime.errors import InputError

# Rows that lack, of 5 utterances at 3 ε; rows per second and passes per row of the calibration; the
# programs that the rows need, some of which others need, too.
CELLS: dict[str, tuple[int, float, float, str]] = {
    "fgsm": (15, 0.5, 1.0, "sdm"),  # 30 s, 15 passes
    "pgd": (10, 0.05, 40.0, "spac"),  # 200 s, 400 passes
    "noise": (0, 1.0, 1.0, ""),  # nothing left to do, nothing to calibrate
    "onepixel": (12, 0.001, 1000.0, "soA"),  # 12,000 s, 12,000 passes
}


class Runner:
    def __init__(self, config: Any) -> None:
        pass

    def prepared(self, cell: Cell) -> Any:
        if cell.title == "broken":
            raise InputError("no such speech.")
        missing = np.arange(15).reshape(5, 3) < CELLS[cell.title][0]
        return SimpleNamespace(
            missing=lambda: missing,
            utterances=[0] * 5,
            epsilons=(1, 2, 3),
            programs=[(name, ()) for name in CELLS[cell.title][3]],
        )

    def calibrated(self, cell: Cell) -> tuple[Throughput, float]:
        missing, rate, queries, _ = CELLS[cell.title]
        assert missing, "a few utterances of what is there already are attacked for nothing"
        spent = Throughput(rows=12, seconds=12 / rate, compile_seconds=30.0, compile_count=3)
        return spent, queries


@pytest.mark.parametrize("broken", [False, True])
def test_rows_queries_and_time(
    broken: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = [*CELLS, *(["broken"] if broken else [])]
    grid = [Cell(title, AttackCommandConfig(victim=Path("v"), seed=2)) for title in titles]
    monkeypatch.setattr(dry_run, "CellRunner", Runner)
    monkeypatch.setattr(dry_run, "programs_of", lambda run: run.programs)
    monkeypatch.setattr(dry_run, "cells", lambda config: grid)
    config = SweepConfig(out=Path("o"), victims=(Path("v"),), attacks=())
    assert dry_run.print_estimate(config) is not broken
    printed = capsys.readouterr()
    of = "on v (seed 2): 5 utterances x 3 epsilon"
    assert printed.out.splitlines() == [
        f"fgsm {of}, 15 rows to make, 15 queries, 30 s",
        f"pgd {of}, 10 rows to make, 400 queries, 3 min",
        f"noise {of}, 0 rows to make, 0 queries, 0 s",
        f"onepixel {of}, 12 rows to make, 12,000 queries, 3.3 h",
        # 30 + 200 + 12,000 s.
        f"{len(grid)} streams, 37 rows, 12,415 queries, 3.4 h besides compilation, by 4 utterances "
        "of each",
        # s, d, m, p, a, c, o and A, of 90 s / 9 each.
        "8 programs, about 80 s to compile one after the other; those of the next streams are "
        "compiled while one runs",
    ]
    told = "broken on v (seed 2): would fail: no such speech.\n" if broken else ""
    assert printed.err == told
