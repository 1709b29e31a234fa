"""Training a generator by the real command, its run folder, and its attack on victims."""

import contextlib
import csv
import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import matplotlib.image
import numpy as np
import pytest
import safetensors.numpy
import soundfile
import yaml
from event_files import shown
from tiny_networks import use_tiny_networks

import jaxser
from jaxser import attack, train, transfer
from jaxser.config import AttackCommandConfig, TrainConfig, TrainingConfig, parse_command
from jaxser.driver.run import predict
from jaxser.experiments.speech import load_speech
from jaxser.results.reading import read_rows
from jaxser.runtime.checkpoint import Checkpoints
from jaxser.runtime.errors import InputError, report_errors
from jaxser.training import generator_run, loop
from jaxser.training.generator import GeneratorMetrics
from jaxser.victims.staa_net_weights import generator_shapes, write_generator

SPEECH = ["--corpus.name", "csv", "--corpus.split", "given", "--corpus.sample_rate", "8000"]


@pytest.fixture(autouse=True, scope="module")
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSER_CACHE", str(tmp_path_factory.mktemp("cache")))
        use_tiny_networks(patch)  # victims; generators are what they are
        yield


@pytest.fixture(scope="module")
def threat(
    tiny_corpus: Path, private_cache: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("threat") / "run"
    argv = [*SPEECH, "--corpus.root", str(tiny_corpus), "--corpus.seconds", "0.1"]
    argv += ["--model.name", "zhao19", "--training.epochs", "6", "--training.batch_size", "6"]
    assert train.main([*argv, "--out", str(out)]) == 0
    return out


def tiny(root: Path, threat: Path, out: Path, *more: str) -> list[str]:
    return [
        *(*SPEECH, "--corpus.root", str(root), "--corpus.seconds", "0.1", "--out", str(out)),
        *("--threat", str(threat), "--generator.widths", "8", "16", "--generator.epsilon", "0.2"),
        *("--generator.padding", "same", "--training.batch_size", "6", "--training.epochs", "8"),
        *("--training.monitor", "asr", "--training.learning_rate", "0.01", *more),
    ]


@pytest.fixture(scope="module")
def trained(tiny_corpus: Path, threat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generator") / "run"
    assert train.main(tiny(tiny_corpus, threat, out)) == 0
    return out


def test_what_a_run_leaves(trained: Path, threat: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    for part, count in (("val", 6), ("test", 12)):
        figures = results[part]
        assert figures["utterances"] == count
        for over in ("utterances", "speakers"):
            low, high = figures["0.2"][f"asr_interval_{over}"]
            assert 0 <= low <= figures["0.2"]["asr"] <= high <= 1
            assert high - low > 0.05
        folder = trained / f"example_{part}"
        assert matplotlib.image.imread(folder / "picture.png").shape[2] == 4
        x, x_adv, delta = (
            soundfile.read(folder / f"{name}.wav", dtype="float32")[0]
            for name in ("original", "adversarial", "difference")
        )
        np.testing.assert_allclose(x_adv - x, delta, atol=1e-6)
        assert 0 < np.abs(delta).max() <= 0.2 + 1e-6
    assert json.loads((trained / "run.json").read_text())["threat models"]
    assert yaml.safe_load((trained / "config.yaml").read_text())["threat"] == [str(threat)]
    scalars = shown(trained)
    assert len(scalars["val/asr"]) == len(scalars["train/learning_rate"]) == results["epochs"]
    ((_, asr),) = scalars["test/asr_0.2"]
    assert asr == pytest.approx(results["test"]["0.2"]["asr"])


def test_it_fools_its_threat_model_as_the_results_say(
    trained: Path, threat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the attack command, on speech that it was not trained on."""
    argv = ["--victim", str(threat), "--attack", "staanet", "--y", "prediction"]
    assert attack.main([*argv, "--params", f"generator={trained}"]) == 0
    printed = capsys.readouterr().out
    assert "generator " + str(trained) in printed
    (folder,) = (threat / "attacks").glob("staanet-*")
    rows = read_rows(folder)
    assert set(rows["epsilon"].to_pylist()) == {0.2}
    fooled = np.array(rows["success"].to_pylist())
    results = json.loads((trained / "results.json").read_text())["test"]["0.2"]
    assert fooled.mean() == pytest.approx(results["asr"])
    assert np.mean(rows["sparsity"].to_pylist()) == pytest.approx(results["sparsity"])
    assert fooled.mean() >= 0.5
    assert attack.main([*argv, "--params", f"generator={trained}", "--epsilon", "0.4"]) == 0
    assert "trained for ε 0.2 alone" in capsys.readouterr().out


def test_a_file_of_the_authors_keys_attacks_as_its_network_does(
    threat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network by itself is the oracle: x + m ε tanh(v), of the length that the victim hears."""
    module = jaxser.models.build("waveunet", num_samples=800, widths=(8, 16))
    shapes = generator_shapes(module)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    file = tmp_path / "theirs.safetensors"
    write_generator(file, module, variables)
    argv = ["--victim", str(threat), "--attack", "staanet", "--params", f"generator={file}"]
    argv += ["--save_wav", "--out", str(tmp_path / "rows")]
    assert attack.main([*argv, "--epsilon", "0.2"]) == 0
    assert "does not say which ε its generator was trained for" in capsys.readouterr().out
    rows = read_rows(tmp_path / "rows")
    speech = load_speech(AttackCommandConfig(victim=threat))
    x = np.asarray(speech.inputs[speech.places])
    locations, magnitudes = module.apply(variables, x)
    delta = np.where(np.asarray(locations) >= 0, 0.2 * np.tanh(magnitudes), 0)
    expected = (x + delta).clip(-1, 1)
    changed = dict(zip(rows["utterance"].to_pylist(), rows["sparsity"].to_pylist(), strict=True))
    for utterance, clean, made in zip(speech.utterances, x, expected, strict=True):
        assert changed[utterance.id] == pytest.approx(np.mean(clean != made), abs=2 / 800)

    assert report_errors(lambda: attack.main(argv)) == 2
    assert "give --epsilon (the paper's are 0.05 on DEMoS" in capsys.readouterr().err
    with pytest.raises(InputError, match="does not say which speech its generator is for"):
        jaxser.load_generator(file)
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, file)
    assert report_errors(lambda: attack.main([*argv, "--epsilon", "0.2"])) == 1
    assert "holds no generator with the keys of STAA-Net's authors" in capsys.readouterr().err


@pytest.mark.long
def test_what_is_made_on_one_victim_is_scored_on_another(
    tiny_corpus: Path,
    trained: Path,
    threat: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One command; each figure is that of the attack and the victims by themselves."""
    other = tmp_path / "other"
    argv = [*SPEECH, "--corpus.root", str(tiny_corpus), "--corpus.seconds", "0.1", "--seed", "1"]
    argv += ["--model.name", "zhao19", "--training.epochs", "4", "--training.batch_size", "6"]
    assert train.main([*argv, "--out", str(other)]) == 0
    table, out = tmp_path / "table.yaml", tmp_path / "out"
    published = {"Emo18": {"PGD": {"snr": [10, 12], "asr": {"Zhao19": [0.5, 0.25]}}}}
    attacks = [
        {"name": "PGD", "attack": "pgd", "parameters": {"steps": 3}, "epsilon": [0.2]},
        {"name": "STAA-Net", "attack": "staanet", "epsilon": [0.2]},
    ]
    content = {"title": "T", "corpus": "elsewhere", "attacks": attacks, "published": published}
    table.write_text(yaml.safe_dump(content))
    argv = [str(table), "--threat", str(threat), "--victim", str(threat), str(other)]
    argv += ["--generator", str(trained), "--split", "test", "--out", str(out)]
    assert transfer.main(argv) == 0
    assert "as published, on elsewhere" in capsys.readouterr().out
    assert "Emo18" in (out / "transfer.md").read_text()
    page = (out / "transfer.html").read_text()
    assert "As published, on elsewhere" in page
    assert page.count("<tr>") == page.count("</tr>") == 3 + 3
    lines = list(csv.DictReader((out / "transfer.csv").read_text().splitlines()))
    assert all(line["stoi"] == "nan" for line in lines)  # of a tenth of a second
    assert [line["victim"] for line in lines] == [str(threat), str(other)] * 2

    speech = load_speech(AttackCommandConfig(victim=threat, split="test"))
    x = np.asarray(speech.inputs[speech.places])
    generator = jaxser.load_generator(trained)
    made = {
        "PGD": jaxser.run_attack(
            speech.victim,
            x,
            None,
            jaxser.attacks.PGD(steps=3),
            [0.2],
            ids=[utterance.id for utterance in speech.utterances],
        ).x_adv[0],
        "STAA-Net": x + np.asarray(generator.perturbation(x, np.full(len(x), 0.2, np.float32))),
    }
    for line in lines:
        victim = jaxser.load_victim(line["victim"])
        fooled = predict(victim, made[line["attack"]].clip(-1, 1)) != predict(victim, x)
        assert float(line["asr"]) == pytest.approx(fooled.mean())
        assert float(line["asr_low"]) <= fooled.mean() <= float(line["asr_high"])
    assert float(lines[0]["asr"]) > 0
    files = [path for path in (threat / "attacks").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert transfer.main(argv) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.long
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tiny_corpus: Path, threat: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = tiny(tiny_corpus, threat, tmp_path / "run")
    check, epochs = loop._end_epoch, []

    def stopped(*arguments):  # type: ignore[no-untyped-def]
        epochs.append(arguments[0])
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return check(*arguments)

    monkeypatch.setattr(loop, "_end_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        train.main(argv)
    monkeypatch.setattr(loop, "_end_epoch", check)
    assert train.main(argv) == 0
    before, after = (jaxser.load_generator(run).variables for run in (trained, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.long
def test_it_goes_on_from_a_trained_one(
    tiny_corpus: Path,
    threat: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At a rate of almost nothing it stays what it was; another network is refused."""
    more = ["--generator.start", str(trained), "--training.epochs", "1"]
    still = [*more, "--training.learning_rate", "1e-12"]
    assert train.main(tiny(tiny_corpus, threat, tmp_path / "on", *still)) == 0
    before, after = (jaxser.load_generator(run).variables for run in (trained, tmp_path / "on"))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-9), before, after)
    wider = [*more, "--generator.widths", "8", "24"]
    argv = tiny(tiny_corpus, threat, tmp_path / "wide", *wider)
    assert report_errors(lambda: train.main(argv)) == 2
    assert "is another network" in capsys.readouterr().err


@pytest.mark.long
def test_one_generator_for_all_targets_and_a_range_of_epsilon(
    tiny_corpus: Path, threat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ["--generator.target", "all", "--generator.epsilon", "0.1", "0.4"]
    more += ["--threat", str(threat), str(threat), "--training.epochs", "1"]
    more += ["--generator.keep_sparsity", "0.3", "--generator.keep_snr", "10"]
    assert train.main(tiny(tiny_corpus, threat, out, *more)) == 0
    results = json.loads((out / "results.json").read_text())
    assert {"0.1", "0.2", "0.4"} <= set(results["test"])
    argv = ["--victim", str(threat), "--attack", "staanet", "--params", f"generator={out}"]
    assert attack.main([*argv, "--target", "low"]) == 0
    assert "towards low" in capsys.readouterr().out
    assert report_errors(lambda: attack.main(argv)) == 2
    assert "give that target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--corpus.seconds", "0.2"], "reads 0.1 s of speech, but corpus.seconds is 0.2"),
        (["--corpus.sample_rate", "16000"], "hears 8000 Hz, but corpus.sample_rate is 16000"),
        (["--corpus.labels", "high", "low"], "knows the labels high, low, noise, but csv has"),
        (["--generator.epsilon", "0"], "must be one positive number"),
        (["--generator.epsilon", "0.2", "0.1"], "must be one positive number"),
        (["--generator.keep_sparsity", "1"], "less than 1"),
        (["--generator.keep_sparsity", "0"], "greater than 0"),
        (["--generator.target", "hihg"], "did you mean 'high'"),
        (["--training.monitor", "uar"], "a generator has no UAR"),
        (["--training.mixup", "0.4"], "training.mixup is for victims"),
        (["--training.schedule", "plateau"], "training.schedule plateau is for victims"),
        (
            ["--generator.keep_sparsity", "0.1", "--generator.factorised", "false"],
            "needs locations",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    tiny_corpus: Path,
    threat: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    sentence: str,
) -> None:
    assert report_errors(lambda: train.main(tiny(tiny_corpus, threat, tmp_path / "run", *more)))
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_a_generator_is_no_victim_and_a_victim_no_generator(
    trained: Path, threat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_errors(lambda: attack.main(["--victim", str(trained)])) == 1
    assert "holds a generator of adversarial speech" in capsys.readouterr().err
    argv = ["--victim", str(threat), "--attack", "staanet"]
    assert report_errors(lambda: attack.main([*argv, "--params", f"generator={threat}"])) == 1
    assert "holds a victim, not a generator" in capsys.readouterr().err
    assert report_errors(lambda: attack.main(argv)) == 2
    assert "needs a trained generator" in capsys.readouterr().err


def test_what_diverges_stops_and_names_the_last_good_checkpoint(
    trained: Path, tmp_path: Path
) -> None:
    metrics = GeneratorMetrics.zeros()
    losses = {**metrics.losses, "loss": np.float32("nan")}
    state = SimpleNamespace(metrics=metrics.replace(losses=losses))
    settings = loop.LoopSettings.of(TrainingConfig(batch_size=6), 30)
    for folder, kept in (
        (trained / "checkpoints", f"the last good checkpoint is {trained}/checkpoints/last/40"),
        (tmp_path, "there is no checkpoint yet"),
    ):
        with contextlib.closing(Checkpoints(folder)) as checkpoints:
            sentence = re.escape(
                f"became nan in epoch 2; use a smaller training.learning_rate ({kept}"
            )
            with pytest.raises(InputError, match=sentence):
                loop._check_finite(6, state, checkpoints, settings)


def test_a_run_stays_what_it_is(
    tiny_corpus: Path, trained: Path, threat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_errors(lambda: train.main(tiny(tiny_corpus, threat, threat))) == 2
    assert "holds the run of a victim" in capsys.readouterr().err
    argv = [*SPEECH, "--corpus.root", str(tiny_corpus), "--corpus.seconds", "0.1"]
    assert report_errors(lambda: train.main([*argv, "--out", str(trained)])) == 2
    assert "holds the run of a generator" in capsys.readouterr().err


def test_a_victim_without_numbers_is_named(
    tiny_corpus: Path, threat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = generator_run.load_victim

    def broken(folder):  # type: ignore[no-untyped-def]
        victim = load(folder)
        head = victim.variables["params"]["Dense_0"]
        head["bias"] = head["bias"] * float("nan")
        return victim

    monkeypatch.setattr(generator_run, "load_victim", broken)
    config = parse_command(TrainConfig, "t", "t", tiny(tiny_corpus, threat, tmp_path / "run"))
    with pytest.raises(InputError, match=r"gives logits that are not finite for 0\d"):
        generator_run.train_generator(config)
