"""The search: what it tries, that it goes on, and what it says."""

import json
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from jaxser import tune
from jaxser.config import TrainConfig, TrainingConfig, parse_command
from jaxser.config.tune import TUNE_FLAGS, SearchConfig, TuneConfig
from jaxser.experiments.tune import format_study, search
from jaxser.runtime.errors import report_errors
from jaxser.training.run import TrainingOutcome, Watch
from jaxser.victims.run_folder import read_run


def tiny(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--corpus.name", "csv", "--corpus.root", str(root), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1"),
        *("--features.kind", "log_mel", "--features.n_fft", "64", "--features.hop_length", "16"),
        *("--features.n_mels", "26", "--model.name", "cnn_lstm_m0", "--training.epochs", "2"),
        *("--search.out", str(out), "--search.min_epochs", "1", *more),
    ]


VALUES = (
    *("--search.batch_size", "6", "10", "--search.learning_rate", "0.01"),
    *("--search.lstm_dropout", "0"),
)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


@pytest.mark.long
def test_a_search_finds_the_least_validation_loss_and_goes_on(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    assert tune.main(tiny(tiny_corpus, out, *VALUES, "--search.trials", "2")) == 0
    printed = capsys.readouterr().out
    assert "2 trials finished, 0 stopped early" in printed
    losses = {}
    for folder in sorted(out.glob("trial-*")):
        config, _ = read_run(folder)
        assert config.training.batch_size in (6, 10)
        assert config.training.learning_rate == 0.01
        assert config.model.lstm_dropout == 0.0
        losses[folder.name] = json.loads((folder / "results.json").read_text())["val"]["loss"]
    assert sorted(losses) == ["trial-0000", "trial-0001"]
    best = min(losses, key=lambda name: losses[name])
    dropout = yaml.safe_load((out / best / "config.yaml").read_text())["model"]["dropout"]
    assert f"train the best with --model.dropout {dropout:g}" in printed

    assert tune.main(tiny(tiny_corpus, out, *VALUES, "--search.trials", "3")) == 0
    assert "3 trials finished" in capsys.readouterr().out
    assert len(list(out.glob("trial-*"))) == 3

    argv = tiny(tiny_corpus, out, *VALUES, "--seed", "1")
    assert report_errors(lambda: tune.main(argv)) == 2
    assert "holds a search over another config" in capsys.readouterr().err


def test_the_units_of_an_lstm_are_searched_with_several_trainings_of_a_trial(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the paper did first: units alone, three trainings each, whose mean decides."""
    trained: dict[str, list[tuple[int, int]]] = {}

    def train(config: TrainConfig, watch: Watch | None = None) -> TrainingOutcome:
        number, _, execution = config.out.name.removeprefix("trial-").partition("-")
        assert (watch is None) == bool(execution)
        units = config.model.units
        assert units is not None
        assert (config.model.dropout, config.training.batch_size) == (
            None,
            TrainingConfig.batch_size,
        )
        trained.setdefault(number, []).append((units, config.seed))
        loss = {"loss": units + 0.3 * config.seed}
        return TrainingOutcome(True, 1, 0, {"val": loss}, "a corpus", ())

    def train_each(config: TrainConfig, watch: Watch | None = None) -> TrainingOutcome:
        return TrainingOutcome(True, 1, 0, {"val": {"loss": 1.0}}, "a corpus", ())

    monkeypatch.setattr("jaxser.experiments.tune.train_victim", train)
    argv = tiny(tiny_corpus, tmp_path / "search", "--search.fields", "units", "--search.trials")
    argv += ["4", "--search.executions", "3"]
    config = parse_command(TuneConfig, "tune", "", argv, TUNE_FLAGS)
    study = search(config)
    assert len(trained) == 4
    for trial in study.trials:
        (units,) = trial.params.values()
        assert units in (4, 8, 16, 32, 64, 128, 256, 512, 1024)
        assert trained[f"{trial.number:04d}"] == [(units, 0), (units, 1), (units, 2)]
        assert trial.value == pytest.approx(units + 0.3)
    best = min(units for ((units, _), *_) in trained.values())
    assert format_study(study, config).endswith(f"train the best with --model.units {best}")
    # With trials enough for all of them each is tried once; those that are more are drawn.
    argv = tiny(tiny_corpus, tmp_path / "all", "--search.fields", "units", "batch_size")
    argv += ["--search.units", "4", "8", "16", "8", "--search.batch_size", "2", "6"]
    monkeypatch.setattr("jaxser.experiments.tune.train_victim", train_each)
    config = parse_command(TuneConfig, "tune", "", [*argv, "--search.trials", "7"], TUNE_FLAGS)
    tried = [
        tuple(trial.params[n] for n in ("units", "batch_size")) for trial in search(config).trials
    ]
    assert sorted(tried[:6]) == [(units, size) for units in (4, 8, 16) for size in (2, 6)]
    assert tried[6] in tried[:6]


def test_what_a_victim_has_not_cannot_be_searched(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = tiny(tiny_corpus, tmp_path / "search", "--search.fields", "units")
    argv += ["--model.name", "emo18"]
    assert report_errors(lambda: tune.main(argv)) == 2
    assert "emo18 has no units; give other --search.fields" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--search.units", "4"], "gives values of what is not searched; add units to"),
        (["--search.fields", "units", "--search.units", "0"], "should be greater than 0"),
        (["--search.dropout", "1.5"], "should be less than 1"),
        (["--search.learning_rate", "0"], "should be greater than 0"),
        (["--search.min_epochs", "3"], "is more than the 2 epochs of a training"),
    ],
)
def test_values_that_cannot_be_tried_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    argv = tiny(tmp_path, tmp_path / "search", *more)
    assert report_errors(lambda: tune.main(argv)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "search").exists()


def test_a_search_needs_a_validation_part(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = tiny(tiny_corpus, tmp_path / "search", "--corpus.split", "random_80_20")
    assert report_errors(lambda: tune.main(argv)) == 2
    assert "no validation part to search by" in capsys.readouterr().err


def test_the_table_of_a_search() -> None:
    """The ten best of twelve that finished, least loss first; others are counted alone."""
    choices = CategoricalDistribution((0.0, 0.25, 0.001, 0.01, 8, 16))
    states = {3: TrialState.PRUNED, 7: TrialState.FAIL}
    study = optuna.create_study()
    for number in range(14):
        study.add_trial(
            optuna.trial.create_trial(
                params={"learning_rate": 0.001 if number % 2 else 0.01, "dropout": 0.25},
                distributions={"learning_rate": choices, "dropout": choices},
                value=None if states.get(number) == TrialState.FAIL else abs(number - 5.25),
                state=states.get(number, TrialState.COMPLETE),
            )
        )
    config = TuneConfig(search=SearchConfig(out=Path("runs/search")))
    # Both are searched in every study.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxser.experiments.tune._TRAINING", ("learning_rate",))
        head, header, *lines, last = format_study(study, config).splitlines()
    assert head == "12 trials finished, 1 stopped early, in runs/search"
    assert header.split() == ["trial", "val", "loss", "learning_rate", "dropout"]
    ranked = [5, 6, 4, 8, 2, 9, 1, 10, 0, 11]
    assert [line.split() for line in lines] == [
        [str(n), f"{abs(n - 5.25):.4f}", "0.001" if n % 2 else "0.01", "0.25"] for n in ranked
    ]
    assert last == "train the best with --model.dropout 0.25 --training.learning_rate 0.001"
    assert format_study(optuna.create_study(), config) == (
        "0 trials finished, 0 stopped early, in runs/search"
    )
