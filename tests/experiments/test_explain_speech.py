"""What a victim of spectrograms is given and made of: an utterance cut, its layers, its classes."""

import csv
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
import yaml
from untrained_run import make_tiny_run

from jaxser import explain, models
from jaxser.config import CorpusConfig, FeaturesConfig, ModelConfig, TrainConfig, to_mapping
from jaxser.corpora.selection import prepared_speech
from jaxser.experiments import explain_speech as module
from jaxser.experiments.explain_speech import class_correlation, principal_components
from jaxser.models.cnn_lstm_layers import cnn_lstm_layers
from jaxser.runtime.errors import UsageError
from jaxser.victims.module import build_module
from jaxser.victims.run_folder import read_run

RATE = 8_000
SILENCE, LENGTH = 1_000, 2_400


def speech(root: Path) -> Path:
    """24 files of two low tones, a high one and noise; silence, 0.5 s of sound, silence."""
    rng, lines = np.random.default_rng(0), ["file,label,speaker,gender,split"]
    root.mkdir()
    time = np.arange(4_000) / RATE
    for i in range(24):
        label = ("low", "lower", "high", "noise")[i % 4]
        hertz = {"low": 210, "lower": 200, "high": 2_500, "noise": 0}[label]
        x = np.sin(2 * np.pi * hertz * time) if hertz else rng.uniform(-1, 1, len(time))
        x = np.pad(0.5 * x, SILENCE) + 1e-4 * rng.normal(size=6_000)
        soundfile.write(root / f"u{i:02d}.wav", x, RATE)
        lines.append(f"u{i:02d}.wav,{label},s{i // 4},female,train")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training writes before it begins; the victim knows three of the four classes."""
    folder = tmp_path_factory.mktemp("speech")
    labels = ("high", "low", "noise")
    config = TrainConfig(
        out=folder / "run",
        corpus=CorpusConfig(
            name="csv",
            root=speech(folder / "speech"),
            split="given",
            labels=labels,
            sample_rate=RATE,
            seconds=LENGTH / RATE,
            chunks=True,
            cache_dir=folder / "cache",
        ),
        features=FeaturesConfig(kind="log_mel", n_fft=64, hop_length=16, n_mels=26, ref="min"),
        model=ModelConfig(name="cnn_lstm_m1"),
    )
    (folder / "run").mkdir()
    facts = {"labels": list(labels), "corpus": {"notes": [], "fingerprint": ""}}
    (folder / "run" / "run.json").write_text(json.dumps(facts))
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(to_mapping(config)))
    return folder / "run"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of the figures, whose pictures are made all the same."""
    found: dict[str, Any] = {}
    for name in ("preparation_figure", "layers_figure", "classes_figure"):
        draw = getattr(module, name)

        def keep(*arguments: Any, draw: Any = draw, name: str = name) -> Any:
            found[name] = arguments
            return draw(*arguments)

        monkeypatch.setattr(module, name, keep)
    return found


def test_an_utterance_is_drawn_trimmed_cut_and_repeated(
    run: Path, tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--victim", str(run), "--show", "preparation", "--out", str(tmp_path)]
    assert explain.main([*argv, "--utterance", "u02"]) == 0
    assert "u02 trimmed, cut and repeated" in capsys.readouterr().out
    title, stages = drawn["preparation_figure"]
    assert title == "u02 (high)"
    names, spectrograms, seconds = zip(*stages, strict=True)
    assert names == (
        *("as recorded", "silence trimmed", "chunk 0: cut", "chunk 1: cut"),
        "chunk 1: trimmed and repeated to 0.3 s",
    )
    # 0.5 s of sound, found by frames of 512 samples; 0.3 s of it, and the rest.
    assert seconds == pytest.approx((0.75, 0.5, 0.3, 0.2, 0.3), abs=512 / RATE + 0.01)
    assert seconds[1] == pytest.approx(seconds[2] + seconds[3])
    for values, length in zip(spectrograms, seconds, strict=True):
        assert values.shape == (1 + round(length * RATE) // 16, 26)
    # What is drawn last is what the network is given, but for what is 0 dB.
    config, _ = read_run(run)
    prepared = prepared_speech(config.corpus)
    (place,) = (i for i, u in enumerate(prepared.corpus.utterances) if u.id == "u02.1")
    front_end = build_module(config, 3).front_end  # type: ignore[attr-defined]
    expected = jax.jit(front_end)(np.asarray(prepared.waveforms[place : place + 1]))[0]
    shift = spectrograms[-1][:-4] - expected[:-4]
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-2)
    assert abs(shift.mean()) > 1
    # That is the same for all: trimming and cutting make nothing louder.
    assert spectrograms[0].max() == pytest.approx(spectrograms[1].max(), abs=1)
    assert spectrograms[1].max() == pytest.approx(spectrograms[2].max(), abs=1)
    assert (tmp_path / "preparation.png").stat().st_size > 5_000
    # Without a name one that is cut in two; and nothing was attacked, as there are no weights.
    assert explain.main(argv) == 0
    assert drawn["preparation_figure"][0] == "u00 (low)"
    # The end of an id is enough where it is of one alone.
    assert explain.main([*argv, "--utterance", "10"]) == 0
    assert drawn["preparation_figure"][0] == "u10 (high)"
    with pytest.raises(UsageError, match=r"--utterance 'u2' is not in csv"):
        explain.main([*argv, "--utterance", "u2"])
    with pytest.raises(UsageError, match=r"--utterance '0' may be any of 3 utterances, such as"):
        explain.main([*argv, "--utterance", "0"])
    with pytest.raises(UsageError, match=r"--utterance 'u02' names what --show preparation draws"):
        explain.main(["--victim", str(run), "--show", "architecture", "--utterance", "u02"])


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.long)])
def test_all_classes_are_placed_and_the_most_alike_named(
    real: bool,
    run: Path,
    tmp_path: Path,
    drawn: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not real:  # scikit-learn takes seconds to import
        monkeypatch.setattr(module, "tsne", lambda points, *_: points[:, :2])
    argv = ["--victim", str(run), "--show", "classes", "--out", str(tmp_path)]
    assert explain.main([*argv, "--perplexity", "5"]) == 0
    printed = capsys.readouterr().out
    assert "most alike: low and lower" in printed or "most alike: lower and low" in printed
    _, planes, labels, names = drawn["classes_figure"]
    # The class that the victim does not know is there, too: two chunks of each of 24 utterances.
    assert sorted(names) == ["high", "low", "lower", "noise"]
    assert np.bincount(labels).tolist() == [12] * 4
    assert all(points.shape == (48, 2) for points in planes.values())
    assert (tmp_path / "classes.png").stat().st_size > 5_000
    lines = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert [line["all"] for line in lines] == ["12"] * 4
    assert all(float(line[line["class"]]) == 1 for line in lines)
    with pytest.raises(UsageError, match="a perplexity of 30 needs more than 8 spectrograms"):
        explain.main([*argv, "--limit", "8"])


def test_principal_components_and_correlations_are_numpys() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 9))
    features -= features.mean(axis=0)
    places, shares = principal_components(features, 3)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    np.testing.assert_allclose(shares, values[::-1][:3] / values.sum())
    expected = features @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-9)
    labels = np.arange(40) % 3
    means = [features[labels == index].mean(axis=0) for index in range(3)]
    found = class_correlation(features, labels, 4)
    np.testing.assert_allclose(found[:3, :3], np.corrcoef(means))
    assert np.isnan(found[3]).all()


def test_the_layers_are_those_of_the_paper() -> None:
    """Its figure 3, and 3,960,389 parameters in all."""
    layers = cnn_lstm_layers(models.build("cnn_lstm", 5), 261, 128)  # type: ignore[arg-type]
    assert sum(layer.parameters for layer in layers) == 3_960_389
    shapes = {layer.name: layer.output for layer in layers}
    assert shapes["slices of 29 frames"] == (9, 29, 128, 1)
    assert shapes["convolution 5 × 5, ReLU"] == (9, 25, 124, 16)
    assert shapes["max-pool 4 × 4, stride 2"] == (9, 11, 61, 16)
    assert shapes["max-pool 2 × 2, stride 1"] == (9, 1, 26, 64)
    assert shapes["flatten"] == (9, 1664)
    assert shapes["bidirectional LSTM, 256 units, input dropout 0.2"] == (512,)
    held = {layer.name: layer.parameters for layer in layers}
    assert (held["batch norm"], held["dense: logits"]) == (64, 512 * 5 + 5)
    # One without dropout of the slices, in one direction, and with four blocks.
    last = cnn_lstm_layers(models.build("cnn_lstm_m6", 5), 261, 128)  # type: ignore[arg-type]
    assert not any(layer.name.startswith("dropout") for layer in last)
    assert sum(layer.name.startswith("convolution") for layer in last) == 4
    assert last[-2].output == (6,)


def test_the_network_is_drawn(
    run: Path, tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--victim", str(run), "--show", "architecture", "--out", str(tmp_path)]
    assert explain.main(argv) == 0
    title, layers = drawn["layers_figure"]
    assert title.startswith("cnn_lstm_m1: ")
    assert layers[0] == ("log-mel", "151 × 26", "")
    assert layers[-1][1] == "3"
    assert (tmp_path / "architecture.png").stat().st_size > 5_000
    assert "cnn_lstm_m1, 12 layers" in capsys.readouterr().out


def test_a_victim_of_waveforms_has_none_of_it(tmp_path: Path) -> None:
    victim = make_tiny_run(tmp_path)
    with pytest.raises(UsageError, match="--show preparation is for victims of spectr"):
        explain.main(["--victim", str(victim), "--show", "preparation"])
