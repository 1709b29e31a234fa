"""The command on a real folder: what it leaves there, and one sentence for each mistake."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest
import soundfile
import yaml
from event_files import shown
from scipy.stats import binomtest
from tiny_networks import use_tiny_networks

import jaxser
from jaxser import train, tune
from jaxser.results.intervals import policy
from jaxser.runtime.errors import report_errors


def tiny(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--corpus.name", "csv", "--corpus.root", str(root), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--training.epochs", "2", "--training.batch_size", "6", *more),
    ]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is said of the run, whatever the network."""
    use_tiny_networks(monkeypatch)


def fail(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and the sentence."""
    status = report_errors(lambda: train.main(argv))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert status in (1, 2)
    return status, error


@pytest.fixture(scope="module")
def trained(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSER_CACHE", str(out.parent / "cache"))
        assert train.main(tiny(tiny_corpus, out)) == 0
    return out


def test_what_a_run_leaves(trained: Path, tiny_corpus: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["corpus"]["root"] == str(tiny_corpus.resolve())
    facts = json.loads((trained / "run.json").read_text())
    assert facts["labels"] == ["high", "low", "noise"]
    assert len(facts["corpus"]["fingerprint"]) == 64
    assert {"jax", "flax", "numpy"} <= set(facts["environment"]["packages"])
    assert facts["environment"]["device"]
    results = json.loads((trained / "results.json").read_text())
    for part, count in (("val", 6), ("test", 12)):
        assert np.sum(results[part]["confusion"]) == results[part]["utterances"] == count
        low, high = results[part]["uar"]["interval_utterances"]
        assert 0 <= low <= results[part]["uar"]["value"] <= high <= 1
        assert matplotlib.image.imread(trained / f"confusion_{part}.png").shape[2] == 4
    with (trained / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    scalars = shown(trained)
    for part in ("train", "val"):
        for name in ("loss", "uar"):
            assert [step for step, _ in scalars[f"{part}/{name}"]] == [
                int(row["step"]) for row in history
            ]
    # Cosine: of the last of the updates 0 to 4 and 5 to 9, of ten.
    rates = [0.0005 * (1 + np.cos(np.pi * update / 10)) for update in (4, 9)]
    assert [rate for _, rate in scalars["train/learning_rate"]] == pytest.approx(rates)
    for name in ("accuracy", "uar", "macro_f1"):
        ((_, value),) = scalars[f"test/{name}"]
        assert value == pytest.approx(results["test"][name]["value"])
    with (trained / "split.csv").open() as file:
        assert sum(1 for _ in file) == 49


def test_a_finished_run_is_shown_again_over_speakers(
    trained: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shown(trained)
    results = json.loads((trained / "results.json").read_text())
    assert train.main(tiny(tiny_corpus, trained, "--interval_over", "speaker")) == 0
    printed = capsys.readouterr().out
    assert policy("speaker") in printed
    figure = results["test"]["accuracy"]
    low, high = figure["interval_speakers"]
    assert f"{figure['value']:.1%} ({low:.1%}–{high:.1%})" in printed
    low, high = figure["interval_utterances"]
    right = round(12 * figure["value"])
    wilson = binomtest(right, 12).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high))
    # Nothing that TensorBoard had is gone.
    assert shown(trained)["val/loss"] == before["val/loss"]


def test_victim_predicts_what_the_results_say(trained: Path, tiny_corpus: Path) -> None:
    victim = jaxser.load_victim(trained)
    with (tiny_corpus / "table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    x = np.stack([soundfile.read(tiny_corpus / row["file"], dtype="float32")[0] for row in rows])
    predicted = np.asarray(jax.jit(victim.logits)(x)).argmax(1)
    confusion = np.zeros((3, 3), int)
    for row, guess in zip(rows, predicted, strict=True):
        confusion[victim.labels.index(row["label"]), guess] += 1
    expected = json.loads((trained / "results.json").read_text())["test"]["confusion"]
    np.testing.assert_array_equal(confusion, expected)


def test_another_config_on_the_same_folder_is_refused(
    trained: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = tiny(tiny_corpus, trained, "--training.learning_rate", "0.01")
    status, error = fail(argv, capsys)
    assert status == 2
    assert "holds a run with training.learning_rate 0.001, not 0.01" in error


def test_edited_architecture_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(trained, edited)
    text = (edited / "config.yaml").read_text()
    assert "name: emo18" in text
    (edited / "config.yaml").write_text(text.replace("name: emo18", "name: zhao19"))
    with pytest.raises(jaxser.runtime.errors.InputError, match="not what training wrote"):
        jaxser.load_victim(edited)
    # As runs from before there was a digest.
    facts = json.loads((edited / "run.json").read_text())
    del facts["config_sha256"]
    (edited / "run.json").write_text(json.dumps(facts))
    with pytest.raises(jaxser.runtime.errors.InputError, match="another architecture"):
        jaxser.load_victim(edited)


@pytest.mark.usefixtures("tiny_network")
def test_early_stopping_keeps_the_best_epoch(tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ["--training.epochs", "40", "--training.patience", "2", "--training.monitor", "loss"]
    assert train.main(tiny(tiny_corpus, out, "--training.learning_rate", "1.0", *more)) == 0
    with (out / "history.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    best = json.loads((out / "results.json").read_text())["best_epoch"]
    assert best == int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 40


def test_no_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--corpus.name", "emodb", "--out", str(tmp_path / "run")]
    status, error = fail(argv, capsys)
    assert status == 2
    assert "corpus.root is missing" in error


@pytest.mark.parametrize(
    ("more", "status", "sentence"),
    [
        (["--corpus.root", "nowhere"], 1, "nowhere"),
        (["--corpus.name", "emodbb"], 2, "did you mean 'emodb'?"),
        (["--corpus.split", "spaeker"], 2, "did you mean 'speaker'?"),
        (["--model.name", "emo81"], 2, "did you mean 'emo18'?"),
        (["--training.monitor", "asr"], 2, "a victim has no ASR"),
        (["--corpus.seconds", "0.01"], 1, "at least 731 samples"),
    ],
)
def test_mistakes(
    more: list[str],
    status: int,
    sentence: str,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    got, error = fail(tiny(tiny_corpus, out, *more), capsys)
    assert (got, sentence in error) == (status, True), error


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--training.batch_size", "1000"], "smaller training.batch_size"),
        (["--training.learning_rate", "1e30", "--training.batch_size", "6"], "learning_rate"),
    ],
)
def test_mistakes_that_training_finds(
    more: list[str],
    sentence: str,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    got, error = fail(tiny(tiny_corpus, tmp_path / "run", *more), capsys)
    assert (got, sentence in error) == (1, True), error


@pytest.mark.usefixtures("tiny_network")
def test_run_that_failed_at_once_may_be_given_again(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    fail(tiny(tiny_corpus, out, "--training.batch_size", "1000"), capsys)
    assert train.main(tiny(tiny_corpus, out, "--training.epochs", "1")) == 0


def test_strange_folder_is_left_alone(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    status, error = fail(tiny(tiny_corpus, tmp_path), capsys)
    assert status == 2
    assert "holds other things" in error


def test_split_with_one_class(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tiny_corpus / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "split.csv").open("w") as file:
        file.write("id,split\n")
        for row in rows:
            part = "train" if row["label"] == "low" else "test"
            file.write(f"{Path(row['file']).stem},{part}\n")
    more = ["--corpus.split", "csv", "--corpus.split_file", str(tmp_path / "split.csv")]
    status, error = fail(tiny(tiny_corpus, tmp_path / "run", *more), capsys)
    assert status == 1
    assert "class" in error


@pytest.mark.parametrize("command", [train.main, tune.main])
def test_a_generator_is_not_trained_as_a_victim(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its config without --threat trained an Emo18 under its name."""
    config = str(Path(__file__).resolve().parents[2] / "configs" / "staa_net_emodb.yaml")
    assert report_errors(lambda: command([config])) == 2
    assert "give --threat RUN, or leave them out" in capsys.readouterr().err
