"""Whole runs against attacks on what victims of spectrograms and of images read, and on speech."""

import csv
from pathlib import Path

import numpy as np
import pytest
from image_runs import FLAGS, use_shallow_network, write_speech

import jaxser
from jaxser import train
from jaxser.attacks import PGD
from jaxser.corpora.selection import label_indices, select, split_rows, spread_rows
from jaxser.victims.run_folder import read_run

pytestmark = pytest.mark.long

WATCHED = 12


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


def against(domain: str, epsilon: float, *more: str) -> list[str]:
    return [
        *("--training.adversarial.attack", "pgd", "--training.adversarial.params", "steps=2"),
        *("--training.adversarial.epsilon", str(epsilon)),
        *("--training.adversarial.domain", domain),
        *("--training.adversarial.watch_rows", str(WATCHED), *more),
    ]


def assert_as_the_driver_finds(out: Path, domain: str, epsilon: float) -> None:
    """The last epoch's figures are those of ``jaxser attack`` on the same rows, but for starts."""
    config = read_run(out)[0]
    assert config.training.monitor == "last"
    with (out / "history.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    prepared = select(config.corpus)
    victim = jaxser.load_victim(out, domain)  # type: ignore[arg-type]
    labels = label_indices(prepared.corpus)
    for part, prefix in (("train", ""), ("val", "val_")):
        rows = split_rows(prepared.corpus, part)  # type: ignore[arg-type]
        rows = rows[spread_rows(len(rows), WATCHED)]
        x = np.array(prepared.waveforms[rows])
        if domain != "waveform":
            method = victim.front_end.features
            x = np.asarray(method(victim.variables, x))
        found = jaxser.run_attack(victim, x, labels[rows], PGD(steps=10), [epsilon])
        clean = (found.clean_prediction == labels[rows]).mean()
        robust = (found.prediction[0] == labels[rows]).mean()
        assert float(last[f"{prefix}watched_accuracy"]) == pytest.approx(clean)
        assert float(last[f"{prefix}robust_accuracy"]) == pytest.approx(robust, abs=2 / len(rows))


@pytest.mark.parametrize(
    ("domain", "more"),
    [
        ("image", ["--training.image_augmentation"]),
        ("spectrogram", []),
        ("waveform", ["--training.adversarial.share", "1"]),
    ],
)
def test_a_victim_of_images(
    domain: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_shallow_network(monkeypatch)
    root, out = write_speech(tmp_path / "speech"), tmp_path / "run"
    argv = [*FLAGS, "--corpus.root", str(root), "--corpus.split", "speaker", "--out", str(out)]
    argv += ["--training.epochs", "1", *against(domain, 0.02, *more)]
    assert train.main(argv) == 0
    assert_as_the_driver_finds(out, domain, 0.02)


@pytest.mark.parametrize("domain", ["features", "waveform"])
def test_a_victim_of_spectrograms(domain: str, tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    argv = [
        *("--corpus.name", "csv", "--corpus.root", str(tiny_corpus), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--features.kind", "log_mel", "--features.n_fft", "64", "--features.hop_length", "16"),
        *("--features.n_mels", "26", "--features.bounds", "-8", "8", "--model.name", "cnn_lstm_m1"),
        *("--training.epochs", "1", "--training.batch_size", "6", "--training.monitor", "last"),
        *("--training.class_weights", *against(domain, 0.01)),
    ]
    assert train.main(argv) == 0
    assert_as_the_driver_finds(out, domain, 0.01)
