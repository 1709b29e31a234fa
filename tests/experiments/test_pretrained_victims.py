"""Published models as victims of the commands: a folder or a name, their labels, their length."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_pretrained import make_pretrained
from untrained_run import LABELS, RATE, write_corpus

from jaxser import attack, evaluate, report, sweep, transfer
from jaxser.experiments.pretrained import home_of
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import report_errors
from jaxser.victims.loading import is_hub_name, is_pretrained

TEST_ROWS = 6
SADNESS = 2  # of the test part
SECONDS = "0.1"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech") / "table"
    write_corpus(folder, LABELS)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pretrained(tmp_path_factory.mktemp("models") / "tiny", ("ang", "JOY", "neu"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXSER_CACHE", str(tmp_path / "cache"))


def asked(victim: Any, speech: Path, *more: Any) -> list[str]:
    corpus = ["--corpus.name", "csv", "--corpus.root", speech, "--corpus.split", "given"]
    noise = ["--attack", "noise", "--epsilon", "0.01", "--corpus.seconds", SECONDS]
    return [str(each) for each in ("--victim", victim, *corpus, *noise, *more)]


def test_labels_are_found_by_name_and_what_is_left_out_is_said(
    folder: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack.main(asked(folder, speech, "--out", tmp_path / "rows")) == 0
    out = capsys.readouterr().out
    assert "note: the victim's labels and those of table: ang=anger JOY=joy" in out
    assert "note: left out, as the victim has no such label: sadness (4 utterances" in out
    assert "note: labels of the victim that table has not: neu" in out
    rows = read_rows(tmp_path / "rows").to_pylist()
    assert len(rows) == TEST_ROWS - SADNESS
    assert {row["label"] for row in rows} == {"ang", "JOY"}
    assert any("ang=anger" in note for note in rows[0]["notes"])
    assert report.main([str(tmp_path / "rows"), "--out", str(tmp_path / "report.html")]) == 0
    assert "ang=anger" in (tmp_path / "report.html").read_text()


def test_labels_are_what_somebody_says(
    folder: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "rows", "--labels", "neu=sadness", "ang=joy"]
    assert attack.main(asked(folder, speech, *out)) == 0
    assert "neu=sadness" in capsys.readouterr().out
    rows = read_rows(tmp_path / "rows").to_pylist()
    assert {row["label"] for row in rows} == {"ang", "neu"}  # anger is another's now


def test_a_name_on_the_hub_is_a_victim_like_its_folder(
    folder: Path,
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub

    looked: list[str] = []

    def snapshot(name: str, **_: Any) -> str:
        looked.append(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    # A second run of the same finds the rows of the first, and the name is no folder here then.
    for _ in range(2):
        assert attack.main(asked("someone/tiny-er", speech)) == 0
        assert is_hub_name("someone/tiny-er")
    assert "were there already" in capsys.readouterr().out
    assert set(looked) == {"someone/tiny-er"}
    rows = read_rows(tmp_path / "runs" / "tiny-er" / "attacks").to_pylist()
    assert {row["victim"] for row in rows} == {"tiny-er someone/tiny-er"}
    # What is mistyped under runs, or beside folders that are there, is looked for nowhere else.
    looked.clear()
    for typed in ("runs/typo", "tiny", "a/b/c", "../x/y"):
        status = report_errors(lambda typed=typed: attack.main(asked(typed, speech)))
        assert status == 1
        assert "is not a run folder" in capsys.readouterr().err
    assert looked == []


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("superb/hubert-base-superb-er")
    assert is_pretrained(Path("superb/hubert-base-superb-er"))
    (tmp_path / "superb").mkdir()
    assert not is_hub_name("superb/hubert-base-superb-er")
    for path in ("runs/demo", "model", "/a/b", "./a", "a b/c", "a/../b"):
        assert not is_hub_name(path)
    assert home_of(Path("a/b")) == home_of(Path("runs/b")) == Path("runs/b")


def test_sweep_evaluate_and_transfer_take_it(
    folder: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = {"name": "csv", "root": str(speech), "split": "given", "seconds": float(SECONDS)}
    content = {
        "out": str(tmp_path / "swept"),
        "victims": [str(folder)],
        "attacks": ["noise"],
        "epsilon": [0.01],
        "corpora": [corpus],
        "labels": ["neu=sadness"],
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    assert sweep.main([str(file)]) == 0
    assert len(read_rows(tmp_path / "swept")) == TEST_ROWS

    table = tmp_path / "table.yaml"
    entry = {"attack": "noise", "epsilon": [0.01]}
    table.write_text(yaml.safe_dump({"title": "T", "attacks": [entry], "published": {}}))
    given = ["--corpus", f"csv={speech}", "--labels", "neu=sadness", "--seconds", SECONDS]
    capsys.readouterr()
    assert evaluate.main([str(table), "--victim", str(folder), *given]) == 0
    assert "noise" in capsys.readouterr().out
    table.write_text(
        yaml.safe_dump({"title": "T", "attacks": [entry], "published": {}, "layout": "transfer"})
    )
    heard = ["--threat", str(folder), "--victim", str(folder), "--split", "test"]
    assert transfer.main([str(table), *heard, *given]) == 0
    assert str(folder) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--labels", "ang"], "VICTIM=CORPUS"),
        (["--labels", "angry=anger"], "the victim has no label 'angry'; did you mean 'ang'"),
        (["--corpus.seconds", "0.001"], "give more seconds than 0.001"),
        (["--domain", "features"], "has no features to attack"),
    ],
)
def test_mistakes_are_one_sentence(
    folder: Path,
    speech: Path,
    more: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = asked(folder, speech)
    # Of a flag that is there twice, the last one counts.
    assert report_errors(lambda: attack.main([*argv, *more])) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err


def test_a_model_that_knows_none_of_the_labels(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_pretrained(tmp_path / "other", ("x", "y"))
    assert report_errors(lambda: attack.main(asked(folder, speech))) == 1
    err = capsys.readouterr().err
    assert "none of the labels of csv (anger, joy, sadness) is one of the victim" in err
    assert RATE == 8_000
