"""Tables of models beside each other: what they train, and what they show beside the paper's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_corpus import write_tiny_corpus

from jaxser import evaluate
from jaxser.config import TrainConfig
from jaxser.config.evaluate import parse_evaluate
from jaxser.experiments.model_tables import model_runs
from jaxser.papers.models import AVERAGE, load_model_table
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.run_folder import read_run

TABLES = Path(__file__).resolve().parents[2] / "configs" / "tables"
SYSTEMATIC = ("systematic_table1", "systematic_table2")
STAA_NET = ("staa_net_table2", "staa_net_table3")


def runs_of(name: str, *more: str) -> dict[tuple[str, str, int], TrainConfig]:
    """What the command would train of a shipped table, with speech of every corpus."""
    path = TABLES / f"{name}.yaml"
    table = load_model_table(path)
    corpora = [f"{corpus}=speech" for corpus in table.corpora]
    config = parse_evaluate([str(path), "--corpus", *corpora, *more])
    found = model_runs(table, name, config)
    return {(run.model, run.corpus, run.seed): run.config for run in found}


@pytest.mark.parametrize("name", SYSTEMATIC)
def test_printed_averages_are_those_of_the_printed_figures(name: str) -> None:
    """A check of what was typed: the paper's last column is the mean of its others."""
    table = load_model_table(TABLES / f"{name}.yaml")
    assert len(table.published) == len(table.models)
    for model in table.models:
        of = [table.printed(model, corpus, "test")["accuracy"] for corpus in table.columns]
        for figure in ("value", "deviation"):
            *each, average = (getattr(printed, figure) for printed in of)
            assert np.mean(each) == pytest.approx(average, abs=0.0071)


def test_the_normalisations_are_eight_rows_of_nine_runs() -> None:
    runs = runs_of("systematic_table1")
    assert len(runs) == 8 * 3 * 3
    assert len({config.out for config in runs.values()}) == len(runs)
    features = {(c.features.normalisation, c.features.standardise) for c in runs.values()}
    assert len(features) == 8
    for (_, corpus, seed), config in runs.items():
        assert (config.corpus.name, config.seed, config.corpus.split_seed) == (corpus, seed, seed)
        assert config.model.name == "cnn_lstm_m0"
    chosen = runs["Original Standardized", "ravdess", 2]
    assert (chosen.features.normalisation, chosen.features.standardise) == ("original", True)


def test_the_table_of_normalisations_says_which_two_are_the_same() -> None:
    assert "NormMaxGlobal" in load_model_table(TABLES / "systematic_table1.yaml").remark
    runs = runs_of("systematic_table1", "--set", "features.compat=paper")
    assert {config.features.compat for config in runs.values()} == {"paper"}


@pytest.mark.parametrize("name", SYSTEMATIC)
def test_models_are_compared_with_the_papers_settings(name: str) -> None:
    for config in runs_of(name).values():
        training = config.training
        assert (training.epochs, training.batch_size, training.learning_rate) == (50, 32, 1e-3)
        assert (training.patience, training.decay, training.decay_epochs) == (10, 0.1, 6)
        assert config.corpus.protocol == "paper"
        # Nothing that the final networks were tuned to.
        assert config.model.dropout is config.model.lstm_dropout is None


@pytest.mark.parametrize("name", STAA_NET)
def test_the_victims_of_staa_net(name: str) -> None:
    checkpoints = [f"{line}:model.checkpoint=there" for line in ("wav2vec 2.0", "WavLM")]
    runs = runs_of(name, "--set", *checkpoints)
    seconds = {"staa_net_table2": 6.0, "staa_net_table3": 8.7}[name]
    assert {config.corpus.seconds for config in runs.values()} == {seconds}
    for (model, _, _), config in runs.items():
        pretrained = model in ("wav2vec 2.0", "WavLM")
        training = config.training
        assert training.batch_size == 8
        assert (training.epochs, training.learning_rate) == (
            (20, 3e-5) if pretrained else (30, 1e-3)
        )
        assert config.model.checkpoint == (Path("there") if pretrained else None)
    with pytest.raises(
        UsageError, match="WavLM goes on from a checkpoint: give --set 'WavLM:model"
    ):
        runs_of(name, "--set", checkpoints[0])
    assert {model for model, _, _ in runs_of(name, "--lines", "Emo18", "Zhao19")} == {
        "Emo18",
        "Zhao19",
    }


def test_figures_are_read_in_the_papers_order() -> None:
    demos, iemocap = (load_model_table(TABLES / f"{name}.yaml") for name in STAA_NET)
    assert demos.printed("WavLM", "demos", "test")["uar"].value == 0.9241
    assert iemocap.printed("Zhao19", "iemocap", "val")["accuracy"].value == 0.5393
    others = iemocap.printed("Santoso et al. [62]", "iemocap", "test")
    assert others["uar"].value == 0.759
    assert math.isnan(others["accuracy"].value)
    table = load_model_table(TABLES / "systematic_table2.yaml")
    m3 = table.printed("M3", "emovo", "test")["accuracy"]
    assert (m3.value, m3.deviation) == (0.39, 0.14)
    assert table.printed("M1", AVERAGE, "test")["accuracy"].value == 0.76


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    config: dict[str, dict[str, object]] = {
        "corpus": {"name": "csv", "split": "given", "sample_rate": 8000, "seconds": 0.1},
        "features": {"kind": "log_mel", "n_fft": 64, "hop_length": 16, "n_mels": 26},
        "model": {"name": "cnn_lstm", "dropout": 0.5},
        "training": {"batch_size": 6, "epochs": 1},
    }
    for name in ("csv", "emodb"):
        config["corpus"]["name"] = name
        (tmp_path / f"victim_{name}.yaml").write_text(yaml.safe_dump(config))
    table = {
        "title": "A paper",
        "layout": "models",
        "corpora": ["csv", "emodb"],
        "seeds": [0, 1],
        "config": str(tmp_path / "victim_{corpus}.yaml"),
        "models": {
            "M0": {"model.name": "cnn_lstm_m0"},
            "M1": {"model.name": "cnn_lstm_m1"},
        },
        "published": [["M0", 0.5, 0.1, 0.25, 0.2, 0.375, 0.15], ["M1", 1, 0, 0.5, 0, 0.75, 0]],
        "remark": "A remark.",
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    return tmp_path / "table.yaml"


def results(accuracy: float) -> dict[str, object]:
    figure = {"value": accuracy, "interval_utterances": [accuracy - 0.1, accuracy + 0.1]}
    part = {"utterances": 40, "accuracy": figure, "uar": {**figure, "value": accuracy / 2}}
    return {"test": part, "notes": ["a note"]}


def test_a_table_has_means_deviations_and_averages_beside_the_papers(
    table_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = {"m0_csv_0": 0.4, "m0_csv_1": 0.6, "m0_emodb_0": 0.3, "m0_emodb_1": 0.3}
    reached |= {name.replace("m0", "m1"): value + 0.2 for name, value in reached.items()}

    def trained(config: TrainConfig) -> dict[str, object]:
        return results(reached[config.out.name.removeprefix("table_")])

    monkeypatch.setattr("jaxser.experiments.paper_training.trained", trained)
    monkeypatch.setattr("jaxser.experiments.paper_training.load", lambda *_, **__: None)
    argv = [str(table_file), "--corpus", "csv=x", "emodb=y", "--out", str(table_file.parent / "o")]
    assert evaluate.main(argv) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith(("M0", "M1"))]
    # The paper has no UAR, and of accuracy its deviation.
    (header,) = (line for line in printed.splitlines() if line.startswith("model"))
    assert (header.count(" paper"), header.count("± paper")) == (2, 1)
    csv, emodb, average = lines[:3]
    assert csv[:6] == ["M0", "csv", "test", "2", "40", "50.0%"]
    # The deviation of 0.4 and 0.6 as a sample of two; bounds from the least to the largest.
    assert csv[6:12] == ["14.1%", "30.0%", "to", "70.0%", "50.0%", "10.0%"]
    assert csv[12] == "25.0%"
    assert emodb[5:7] == ["30.0%", "0.0%"]
    assert average[:3] == ["M0", "average", "test"]
    assert (average[5], average[8], average[9]) == ("40.0%", "37.5%", "15.0%")
    assert (
        "highest accuracy on average over the corpora: M1, 60.0%; in the paper: M1, 75.0%"
        in printed
    )
    assert "A remark." in printed
    assert [line for line in printed.splitlines() if line.endswith("a note")] == [
        "note: csv: a note",
        "note: emodb: a note",
    ]
    assert (table_file.parent / "o" / "table.csv").exists()


@pytest.mark.long
def test_a_table_trains_its_models_once(table_file: Path, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    runs, speech = tmp_path / "runs", write_tiny_corpus(tmp_path / "speech")
    argv = [str(table_file), "--corpus", f"csv={speech}", "--runs", str(runs)]
    assert evaluate.main(argv) == 0
    folder = runs / "table_m1_csv_1"
    config, _ = read_run(folder)
    assert (config.model.name, config.model.dropout, config.seed) == ("cnn_lstm_m1", None, 1)
    assert 0 <= json.loads((folder / "results.json").read_text())["test"]["accuracy"]["value"] <= 1
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/results.json")}
    assert len(before) == 4
    assert evaluate.main(argv) == 0
    assert before == {path: path.stat().st_mtime_ns for path in runs.glob("*/results.json")}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "say where speech lies, --corpus csv=FOLDER"),
        (["--corpus", "csv=x", "--kinds", "mel"], "--kinds means nothing to .*; leave it out"),
        (["--corpus", "csv=x", "--attacks", "pgd"], "trains its victims and attacks none"),
        (["--victim", "x"], "--victim means nothing to .*; give --corpus NAME=FOLDER"),
        (["--corpus", "csv=x", "--set", "seed=1"], "--seeds or --seed says that"),
        (["--corpus", "csv=x", "--set", "M0:model.name=vgg16"], "the runs of the table differ in"),
        (["--corpus", "csv=x", "--lines", "M7"], "has no 'M7'"),
        (["--corpus", "csv=x", "--seeds", "0"], "--seeds must be 1 or more"),
        (["--corpus", "csv=x", "--set", "M7:seed=1"], "the table has no 'M7'"),
        (["--corpus", "csv=x", "--set", "M0:seed"], "not of the form KEY=VALUE"),
    ],
)
def test_what_a_table_of_models_cannot_do_is_one_sentence(
    table_file: Path, argv: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate.main([str(table_file), *argv])


def test_speech_that_is_not_there_is_said_before_the_first_run(
    table_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="there is no folder nowhere"):
        evaluate.main([str(table_file), "--corpus", "emodb=nowhere"])
    assert capsys.readouterr().out == "loading JAX ...\n"


def test_names_of_folders_may_have_spaces(table_file: Path) -> None:
    argv = [str(table_file), "--corpus", "csv=a b", "--runs", "r s", "--set", "corpus.labels=a b"]
    runs = list(model_runs(load_model_table(table_file), "table", parse_evaluate(argv)))
    assert {run.config.corpus.root for run in runs} == {Path("a b")}
    assert {run.config.out.parent for run in runs} == {Path("r s")}
    assert {run.config.corpus.labels for run in runs} == {("a", "b")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": {}}, "must say models:"),
        ({"config": ""}, "must say config:, or every model its own"),
        ({"pretrained": ["M7"]}, "pretrained has 'M7'"),
        ({"published": [["M7", 0.5]]}, "published figures of 'M7'"),
        ({"published": [["M0", 0.5]]}, "has 2 entries in the line of M0, which needs 7"),
    ],
)
def test_a_file_that_is_wrong_is_named(table_file: Path, changes: dict, said: str) -> None:
    content = {**yaml.safe_load(table_file.read_text()), **changes}
    table_file.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=said):
        load_model_table(table_file)
