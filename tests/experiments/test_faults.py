"""Every kind of write, fsync and rename of the commands fails in turn; the same command then ends
as one that never failed, and leaves nothing half-made.

All of them take long; a few are always tried.
"""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from faults import Kind, fail_in_turn, faults, kinds_of
from matplotlib.figure import Figure
from tiny_networks import use_tiny_networks
from untrained_run import LABELS, make_tiny_run, write_corpus

from jaxser import attack, report, sweep, train, transfer, tune
from jaxser.corpora import AudioSettings, load, prepare
from jaxser.results.reading import read_rows
from jaxser.runtime.integrity import DIGESTS
from jaxser.training import evaluation
from jaxser.training import run as training_run
from jaxser.victims import run_folder

CLOCK = ("seconds", "compile_seconds", "compile_count")


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_networks(monkeypatch)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """An untrained run, beside the folder in which writing fails."""
    (tmp_path / "victim").mkdir()
    return make_tiny_run(tmp_path / "victim")


def rows(folder: Path) -> list[str]:
    found = [
        {name: value for name, value in row.items() if name not in CLOCK}
        for row in read_rows(folder).to_pylist()
    ]
    # As text, in which NaN is equal to NaN.
    return sorted(json.dumps(row, sort_keys=True) for row in found)


def without_folders(row: str) -> str:
    """A row without what names the threat model's folder."""
    values = json.loads(row)
    del values["victim"], values["threat"]
    return json.dumps(values)


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


class Case:
    """A command in a folder of its own, and what it must leave.

    Attributes:
      holds: whether it holds the folder: then what a killed process left there is gone as well.
      begin: what is in the folder before.
    """

    def __init__(
        self,
        command: Callable[[Path], Any],
        left: Callable[[Path], Any],
        holds: bool = True,
        begin: Callable[[Path], Any] = Path.mkdir,
    ) -> None:
        self.command, self.left, self.holds, self.begin = command, left, holds, begin


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    made: Case = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    # Drawing takes most of the time; the pictures' files are written all the same.
    monkeypatch.setattr(evaluation, "confusion_figure", lambda *_: Figure(figsize=(1, 1)))
    monkeypatch.setattr(training_run.RunWriter, "figure", lambda *_: None)
    write_corpus(tmp_path / "speech", LABELS)
    arguments = [
        *(
            "--corpus.name",
            "csv",
            "--corpus.root",
            str(tmp_path / "speech"),
            "--corpus.split",
            "given",
        ),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.25", "--training.epochs", "2"),
        *("--corpus.cache_dir", str(tmp_path / "cache"), "--training.batch_size", "2"),
    ]

    def left(folder: Path) -> Any:
        variables = run_folder.load_module(folder / "run")[1]
        return (
            json.loads((folder / "run/results.json").read_text()),
            (folder / "run/history.csv").read_text(),
            [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(variables)],
        )

    return Case(lambda folder: train.main([*arguments, "--out", str(folder / "run")]), left)


@pytest.fixture
def attacking(victim: Path) -> Case:
    arguments = ["--victim", str(victim), "--attack", "fgsm", "--epsilon", "0.01", "0.05"]
    arguments += ["--save_wav", "--limit", "3"]

    def left(folder: Path) -> Any:
        waves = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.wav"))
        assert len(waves) == 9  # 3 originals, and each at two ε
        return rows(folder), waves

    return Case(lambda folder: attack.main([*arguments, "--out", str(folder / "rows")]), left)


@pytest.fixture
def sweeping(victim: Path, tmp_path: Path) -> Case:
    path = tmp_path / "sweep.yaml"
    content = {"out": "-", "victims": [str(victim)], "attacks": ["fgsm", "noise"], "limit": 3}
    path.write_text(yaml.safe_dump({**content, "epsilon": [0.01, 0.05]}))

    def left(folder: Path) -> Any:
        return rows(folder), json.loads((folder / "out/sweep.json").read_text())

    return Case(lambda folder: sweep.main([str(path), "--out", str(folder / "out")]), left)


@pytest.fixture
def transferring(victim: Path, tmp_path: Path) -> Case:
    path = tmp_path / "table.yaml"
    attacks = [{"attack": "fgsm", "epsilon": [0.2]}]
    path.write_text(yaml.safe_dump({"title": "A table", "attacks": attacks}))

    def command(folder: Path) -> int:
        threat = str(folder / victim.name)
        argv = [str(path), "--threat", threat, "--victim", threat, "--limit", "3"]
        return transfer.main([*argv, "--out", str(folder / "out")])

    def left(folder: Path) -> Any:
        text = (folder / "out/transfer.md").read_text()
        assert text.count("fgsm") == 2
        return [*map(without_folders, rows(folder))], sorted(files(folder / "out"))

    # The rows lie in the threat model's folder.
    return Case(command, left, holds=False, begin=lambda to: shutil.copytree(victim.parent, to))


@pytest.fixture
def reporting(victim: Path, tmp_path: Path) -> Case:
    made = tmp_path / "rows"
    argv = ["--victim", str(victim), "--attack", "fgsm", "--epsilon", "0.01", "--out", str(made)]
    assert attack.main(argv) == 0

    def command(folder: Path) -> int:
        tables = [f"--{name}={folder / 'tables'}" for name in ("csv", "markdown", "latex")]
        return report.main([str(made), "--out", str(folder / "report.html"), *tables])

    return Case(command, files, holds=False)


@pytest.fixture
def preparing(tmp_path: Path) -> Case:
    write_corpus(tmp_path / "speech", ("anger", "joy"))
    corpus = load("csv", tmp_path / "speech")
    settings = AudioSettings(sample_rate=8000, seconds=0.1)

    def command(folder: Path) -> Any:
        return prepare(corpus, settings, cache_dir=folder, progress=False, workers=1)

    def left(folder: Path) -> Any:
        prepared = command(folder)
        return prepared.fingerprint, np.asarray(prepared.waveforms).tolist()

    return Case(command, left, holds=False)


@pytest.fixture
def tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr("jaxser.experiments.tune.train_victim", pretended_training)
    arguments = ["--training.epochs", "3", "--search.trials", "4", "--search.min_epochs", "1"]
    arguments += ["--search.reduction", "2", "--model.name", "cnn_lstm"]

    def left(folder: Path) -> Any:
        from jaxser.config import parse_command
        from jaxser.config.tune import TUNE_FLAGS, TuneConfig
        from jaxser.experiments.tune import search

        argv = [*arguments, "--search.out", str(folder / "search")]
        study = search(parse_command(TuneConfig, "p", "d", argv, TUNE_FLAGS))
        trials = [
            (trial.number, trial.state.name, trial.params, trial.value, trial.intermediate_values)
            for trial in study.trials
        ]
        assert {name for _, name, *_ in trials} == {"COMPLETE", "PRUNED"}
        return trials

    return Case(
        lambda folder: tune.main([*arguments, "--search.out", str(folder / "search")]), left
    )


def pretended_training(config: Any, watch: Any) -> Any:
    """Losses that depend on the settings, and a file by which a trial that was stopped goes on."""
    state = config.out / "state.json"
    history = json.loads(state.read_text()) if state.exists() else []
    draw = np.random.default_rng(
        int(1e6 * config.training.learning_rate) + config.training.batch_size
    )
    losses = draw.uniform(0, 1, config.training.epochs) + config.model.dropout
    for epoch in range(len(history), config.training.epochs):
        history.append({"val_loss": float(losses[epoch])})
        watch(history)
        config.out.mkdir(parents=True, exist_ok=True)
        temporary = config.out / "state.part"
        temporary.write_text(json.dumps(history))
        temporary.replace(state)
    best = min(figures["val_loss"] for figures in history)
    return training_run.TrainingOutcome(
        finished=True, step=1, signal=0, results={"val": {"loss": best}}, title="", notes=()
    )


ALL = ["training", "attacking", "sweeping", "transferring", "reporting", "preparing", "tuning"]


Asked = list[tuple[str, str]]


def check(
    case: Case, tmp_path: Path, kind: Kind, chosen: Callable[[Asked], Collection[int]]
) -> int:
    """Fail at the chosen operations, resume, compare; how many were chosen."""
    whole = tmp_path / "whole"
    case.begin(whole)
    with faults(whole, None) as disk:
        case.command(whole)
    places = chosen(disk.asked)
    wanted = case.left(whole)
    parent = tmp_path / "broken"

    def again() -> Path:
        shutil.rmtree(parent, ignore_errors=True)
        case.begin(parent)
        return parent

    count = 0
    for _, folder, disk in fail_in_turn(again, case.command, kind, places.__contains__):
        count += 1
        for step in folder.rglob("checkpoints/*/[0-9]*"):
            assert not step.name.isdecimal() or (step / DIGESTS).exists(), disk.asked[-1]
        case.command(folder)
        assert case.left(folder) == wanted, disk.asked[-1]
        if case.holds:
            assert not list(folder.rglob(".*")), disk.asked[-1]
    return count


@pytest.mark.long
# Threads of orbax whose save has failed complain when they end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("case", ALL, indirect=True)
def test_every_failure(
    case: Case, tmp_path: Path, kind: Kind, request: pytest.FixtureRequest
) -> None:
    # Every resumed run computes the rest, so the first and the last operation of a kind are tried;
    # on a full disk, where the command itself says what it could not write, the first alone.
    # All files of a report are of one kind, and it is made anew: every ninth is enough, which
    # is each of the four operations of a file in turn.
    def chosen(asked: Asked) -> Collection[int]:
        if request.node.callspec.params["case"] == "reporting":
            return range(3, len(asked) + 1, 9)
        return kinds_of(asked, last=kind == "kill")

    count = check(case, tmp_path, kind, chosen)
    print(f"{count} operations failed in turn ({kind})")


@pytest.mark.parametrize("case", ["attacking", "preparing", "tuning"], indirect=True)
def test_some_failures(case: Case, tmp_path: Path) -> None:
    """A kill at about a third and at two thirds of the way."""

    def some(asked: Asked) -> Collection[int]:
        return {len(asked) // 3, 2 * len(asked) // 3}

    assert check(case, tmp_path, "kill", some) == 2
