"""Signals end the commands that attack in good order, and two of them never share a folder."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser import attack, evaluate, sweep, transfer
from jaxser.experiments import attack as attacking
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import report_errors
from jaxser.runtime.locks import held

Send = Callable[[signal.Signals], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("stopping"))


@pytest.fixture
def victim(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_networks(monkeypatch)
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Iterator[Send]:
    """Arranges that a signal comes when the first rows are finished."""
    keep, armed = attacking._keep, []

    def kept(*arguments: Any) -> None:
        keep(*arguments)
        if armed:
            os.kill(os.getpid(), armed.pop())

    monkeypatch.setattr(attacking, "_keep", kept)
    yield armed.append
    assert not armed, "the signal was never sent"


def commands(victim: Path, root: Path) -> dict[str, tuple[Callable[[list[str]], int], list[str]]]:
    tables = {
        "table.yaml": {"title": "T", "attacks": [{"attack": "bim", "epsilon": [0.1]}]},
        "sweep.yaml": {"out": str(root / "out"), "victims": [str(victim)], "attacks": ["bim"]},
    }
    tables["sweep.yaml"]["epsilon"] = [0.1]
    for name, content in tables.items():
        (root / name).write_text(yaml.safe_dump(content))
    table, few = str(root / "table.yaml"), ["--batch_size", "2"]
    return {
        "attack": (attack.main, ["--victim", str(victim), "--attack", "bim", *few]),
        "sweep": (sweep.main, [str(root / "sweep.yaml")]),
        "evaluate": (evaluate.main, [table, "--victim", str(victim), *few]),
        "transfer": (transfer.main, [table, "--threat", str(victim), "--victim", str(victim)]),
    }


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("attack", signal.SIGTERM),
        ("attack", signal.SIGHUP),
        ("attack", signal.SIGINT),
        ("sweep", signal.SIGTERM),
        pytest.param("evaluate", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("transfer", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_signal_keeps_what_is_finished_and_says_how_to_go_on(
    name: str,
    number: signal.Signals,
    victim: Path,
    tmp_path: Path,
    send: Send,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, argv = commands(victim, tmp_path)[name]
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    send(number)
    assert report_errors(lambda: command(argv)) == 128 + number
    shown = capsys.readouterr().err
    assert "interrupted" in shown
    assert "the same command goes on from" in shown
    kept = len(read_rows(tmp_path))
    assert kept
    assert [
        signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ] == before
    assert report_errors(lambda: command(argv)) == 0
    keys = [
        (row["split"], row["epsilon"], row["utterance"]) for row in read_rows(tmp_path).to_pylist()
    ]
    assert len(keys) == len(set(keys)) >= kept


def test_an_ignored_signal_stays_ignored(
    victim: Path, tmp_path: Path, send: Send, capsys: pytest.CaptureFixture[str]
) -> None:
    """As nohup has it."""
    command, argv = commands(victim, tmp_path)["attack"]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        send(signal.SIGHUP)
        assert report_errors(lambda: command(argv)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "name",
    [
        "attack",
        "sweep",
        pytest.param("evaluate", marks=pytest.mark.long),
        pytest.param("transfer", marks=pytest.mark.long),
    ],
)
def test_a_folder_under_attack_is_left_alone(
    name: str, victim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, argv = commands(victim, tmp_path)[name]
    assert report_errors(lambda: command(argv)) == 0
    file, *before = sorted(tmp_path.rglob("rows-*.parquet"))
    file.unlink()
    with held(file.parent, "attacked"):
        assert report_errors(lambda: command(argv)) == 1
    assert "is being attacked by another process" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("rows-*.parquet")) == before


def test_finished_rows_are_shown_from_a_folder_that_is_held(victim: Path, tmp_path: Path) -> None:
    """Nothing is to be written, and the folder may not be writable."""
    command, argv = commands(victim, tmp_path)["attack"]
    out = ["--out", str(tmp_path / "rows")]
    assert command([*argv, *out]) == 0
    with held(tmp_path / "rows", "attacked"):
        assert command([*argv, *out]) == 0
