"""Corpora that cannot be had freely: made-up trees in their layouts, trained on by the commands."""

import json
from collections import Counter
from pathlib import Path

import miniature
import numpy as np
import pytest
from short_and_long import short_and_long
from tiny_networks import use_tiny_networks

from jaxser import attack, train
from jaxser.results.reading import read_rows
from jaxser.victims.run_folder import read_run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Two of what is excited, of what is happy, and so on, in the five sessions of the release.
TURNS = {
    f"Session{number}": {"ang": 2, "exc": 1, "hap": 2, "neu": 3, "sad": 2, "oth": 2}
    for number in range(1, 6)
}
SPEAKERS = [("f", 2), ("m", 1), ("f", 23), ("m", 34), ("f", 7), ("m", 69), ("f", 9), ("m", 12)]
ROMANIAN = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
EMOTIONS = ("rab", "dis", "pau", "col", "gio", "tri", "sor")


def demos(root: Path) -> Path:
    """Eight speakers with the seven emotions, and what is neutral beside them."""
    names = [
        f"DEMOS/{('NP', 'PR')[number % 2]}_{gender}_{number:02d}_{code}00a.wav"
        for gender, number in SPEAKERS
        for code in EMOTIONS
    ]
    return miniature.write_all(root, [*names, "NEU/m_34_neu03b.wav"])


def iemocap(root: Path) -> Path:
    return miniature.iemocap(root, TURNS, with_audio=True)


def emo_iit(root: Path) -> Path:
    """Eight speakers with the seven emotions, and what is irritated beside them."""
    names = [
        f"{('female', 'male')[number % 2]}/{label}/B3{number:02d}fJa.wav"
        for number in range(8)
        for label in (*ROMANIAN, "irritation")
    ]
    return miniature.write_all(root, names)


TREES = {"demos": demos, "iemocap": iemocap, "emo_iit": emo_iit}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


def trained(name: str, config: str, tmp_path: Path, *more: str) -> Path:
    """One epoch of a shipped config on a made-up tree."""
    root, out = TREES[name](tmp_path / "speech"), tmp_path / "run"
    argv = [str(CONFIGS / f"{config}_{name}.yaml"), "--corpus.root", str(root), "--out", str(out)]
    assert train.main([*argv, "--training.epochs", "1", *more]) == 0
    return out


def check(name: str, run: Path) -> None:
    """Labels, parts and figures are those of the corpus."""
    config, facts = read_run(run)
    results = json.loads((run / "results.json").read_text())
    lines = [line.split(",") for line in (run / "split.csv").read_text().splitlines()[1:]]
    parts = Counter(line[1] for line in lines)
    if name == "iemocap":
        assert facts["labels"] == ["anger", "happiness", "neutral", "sadness"]
        # Ten turns of a session are of the four classes; 1 2 5, 4 and 3.
        assert parts == {"train": 30, "val": 10, "test": 10}
        assert all("Session3" in line[0] for line in lines if line[1] == "test")
        # One of what is excited and two of what is happy.
        assert np.sum(results["test"]["confusion"], axis=1).tolist() == [2, 3, 3, 2]
    else:
        assert len(facts["labels"]) == 7
        assert sum(parts.values()) == 56
        if name == "demos":
            speakers = {line[0].split("_")[2]: line[1] for line in lines}
        else:
            speakers = {line[0].partition("/")[2][:4]: line[1] for line in lines}
            assert facts["labels"] == list(ROMANIAN)
        # Whole speakers, each with the seven emotions.
        assert parts == {p: 7 * c for p, c in Counter(speakers.values()).items()}
        assert set(parts) == {"train", "val", "test"}
    assert config.corpus.split == "standard"
    for part in ("val", "test"):
        assert results[part]["utterances"] == parts[part]
        assert 0 <= results[part]["uar"]["value"] <= 1


@pytest.mark.parametrize("name", short_and_long(TREES, ["demos"]))
def test_a_config_trains_and_its_victim_is_attacked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny_networks(monkeypatch)
    run = trained(name, "emo18", tmp_path, "--corpus.seconds", "0.1")
    check(name, run)
    argv = ["--victim", str(run), "--attack", "fgsm", "--epsilon", "0.01", "--by", "gender"]
    assert attack.main([*argv, "--out", str(tmp_path / "rows")]) == 0
    assert "female" in capsys.readouterr().out
    rows = read_rows(tmp_path / "rows")
    assert len(rows) == json.loads((run / "results.json").read_text())["test"]["utterances"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "config"), [("demos", "emo18"), ("iemocap", "zhao19"), ("emo_iit", "emo18")]
)
def test_the_networks_of_the_paper_train_on_it(name: str, config: str, tmp_path: Path) -> None:
    """Nothing changed but the number of epochs: batches of 8 of 3, 6 and 8.7 s."""
    run = trained(name, config, tmp_path)
    check(name, run)
    settings, _ = read_run(run)
    assert settings.corpus.seconds == {"demos": 6.0, "iemocap": 8.7, "emo_iit": 3.0}[name]
