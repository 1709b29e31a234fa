"""Tables of attacks: grids, the best setting, figures by gender, and going on."""

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser import evaluate
from jaxser.attacks import ATTACKS, from_parameters
from jaxser.config import load_yaml
from jaxser.corpora import Utterance
from jaxser.experiments import evaluate as attacked
from jaxser.papers.table import Attacked, load_table, settings
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import report_errors


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_networks(monkeypatch)


@pytest.fixture(scope="module")
def untrained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("evaluate"))


CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_grid_is_every_combination() -> None:
    entry = Attacked(grid={"steps": [1, 5], "theta": [-1.0, 1.0]})
    assert list(settings(entry)) == [
        {"steps": 1, "theta": -1.0},
        {"steps": 1, "theta": 1.0},
        {"steps": 5, "theta": -1.0},
        {"steps": 5, "theta": 1.0},
    ]
    assert list(settings(Attacked())) == [{}]


@pytest.mark.parametrize(
    "path",
    [CONFIGS / "tables" / f"systematic_{name}.yaml" for name in ("table5", "waveform")],
    ids=lambda p: p.stem,
)
def test_every_setting_of_the_tables_is_a_valid_attack(path: Path) -> None:
    table = load_table(path)
    assert table.attacks
    for entry in table.attacks:
        name, parameters = entry.attack, {}
        if entry.attack.endswith(".yaml"):
            content = load_yaml(CONFIGS.parent / entry.attack)
            name, parameters = content["name"], content.get("parameters", {})
        assert name in ATTACKS
        for setting in settings(entry):
            from_parameters(name, {**parameters, **entry.parameters, **setting})


def table_file(path: Path, **changes: object) -> Path:
    content = {
        "title": "A table",
        "y": "prediction",
        "attacks": [
            {"name": "steps", "attack": "bim", "grid": {"steps": [1, 2]}, "epsilon": [0.01, 0.2]},
            {"attack": "deepfool", "parameters": {"steps": 3}},
        ],
        "published": {"csv": {"steps": {"accuracy": [0.1, 0.2, 0.3]}}},
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_table_of_a_victim(
    untrained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_file(tmp_path / "table.yaml", snr=[20, 0])
    out = tmp_path / "report"
    argv = [str(table), "--victim", str(untrained_run), "--out", str(out)]
    assert evaluate.main(argv) == 0
    printed = capsys.readouterr().out
    assert "A table:" in printed
    assert "10.0%/20.0%/30.0%" in printed
    with (out / "settings.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [each["attack"] for each in lines] == ["steps"] * 4 + ["deepfool"]
    assert lines[1]["setting"] == "steps 1 epsilon 0.2"
    # The rows say the same.
    folders = sorted((untrained_run / "attacks").glob("bim-*"))
    assert len(folders) == 2
    rows = [row for folder in folders for row in read_rows(folder).to_pylist()]
    first = [row for row in rows if '"steps": 1,' in row["parameters"] and row["epsilon"] == 0.2]
    female = [row for row in first if row["gender"] == "female"]
    right = sum(row["prediction"] == row["label"] for row in female) / len(female)
    assert float(lines[1]["accuracy_female"]) == pytest.approx(right)
    assert {row["label_source"] for row in rows} == {"prediction"}
    # So does the report; at 0 dB each utterance has the best of all settings.
    report = (out / "report.md").read_text()
    for heading in ("## Victims", "## A table", "Accuracy lost: female less male"):
        assert heading in report
    for picture in re.findall(r"\]\((.*png)\)", report):
        assert (out / picture).stat().st_size > 1_000
    standing = {row["utterance"]: row["clean_prediction"] == row["label"] for row in rows}
    for row in rows:
        standing[row["utterance"]] &= row["prediction"] == row["label"] or row["snr_power"] < 0
    at_zero = sum(standing.values()) / len(standing)
    assert re.search(rf"\| steps \| 6 \| [0-9.]+% \| {at_zero:.1%} \|", report)

    # Again: nothing is attacked twice.
    before = {path: path.stat().st_mtime_ns for path in untrained_run.glob("attacks/*/*")}
    assert evaluate.main([*argv, "--attacks", "steps"]) == 0
    assert {path: path.stat().st_mtime_ns for path in untrained_run.glob("attacks/*/*")} == before
    assert "deepfool" not in capsys.readouterr().out


def test_an_attack_may_have_a_limit_of_its_own(
    untrained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(table_file(tmp_path / "table.yaml"))
    argv = [table, "--victim", str(untrained_run), "--limit", "4", "deepfool=2"]
    assert evaluate.main(argv) == 0
    lines = capsys.readouterr().out.split("\n")
    rows = {line.split()[0]: line for line in lines if line.startswith(("steps", "deepfool"))}
    assert "  4  " in rows["steps"]
    assert rows["deepfool"].split()[1] == "2"
    # Each stands below the accuracy of its own utterances before any attack.
    told = [
        line.split()[:2] for line in lines if line.startswith(("original", "steps", "deepfool"))
    ]
    assert [each[0] for each in told] == ["original", "steps", "original", "deepfool"]
    assert [each[1] for each in told if each[0] == "original"] == ["4", "2"]
    # Limits of attacks that are not asked for are no mistake, nor is a table that lacks them all.
    assert evaluate.main([*argv, "--attacks", "steps"]) == 0
    other = table_file(tmp_path / "other.yaml", title="Other", attacks=[{"attack": "fgsm"}])
    other.write_text(other.read_text().replace("steps", "fgsm"))
    capsys.readouterr()
    assert evaluate.main([str(other), *argv, "--attacks", "steps"]) == 0
    assert "Other" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "more", "sentence"),
    [
        ({"attacks": []}, [], "must list attacks"),
        ({"attacks": [{"atack": "bim"}]}, [], "did you mean 'attack'"),
        ({"titel": "x"}, [], "did you mean 'title'"),
        ({"published": {"csv": {"stepz": {}}}}, [], "did you mean 'steps'"),
        ({"published_seconds": {"stepz": [1, 2]}}, [], "did you mean 'steps'"),
        ({}, ["--attacks", "deepfol"], "did you mean 'deepfool'"),
        ({}, ["--attacks", "steps", "deepfol"], "did you mean 'deepfool'"),
        ({}, ["--attacks", "STEPS"], "did you mean 'steps'"),
        ({}, ["--seeds", "2"], "--seeds means nothing to"),
        ({}, ["--epsilon", "0.1"], "which attacks the victims that it is given; leave it out."),
        ({"layout": "transfer"}, [], "give it to python -m jaxser.transfer."),
        ({"layout": "model"}, [], "has the layout 'model', which is none of genders, models"),
        ({}, ["--limit", "many"], "neither a number nor NAME=number"),
        ({}, ["--limit", "deepfol=3"], "did you mean 'deepfool'"),
        ({"attacks": [{"attack": "deepfol"}], "published": {}}, [], "did you mean 'deepfool'"),
    ],
)
def test_one_sentence_for_each_mistake(
    changes: dict[str, object],
    more: list[str],
    sentence: str,
    untrained_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = table_file(tmp_path / "table.yaml", **changes)
    argv = [str(table), "--victim", str(untrained_run), *more]
    assert report_errors(lambda: evaluate.main(argv)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_ctrl_c_is_one_sentence(
    untrained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attacked, "evaluate_victim", stopped)
    argv = [str(table_file(tmp_path / "table.yaml")), "--victim", str(untrained_run)]
    assert report_errors(lambda: evaluate.main(argv)) == 130
    assert capsys.readouterr().err.startswith("interrupted; the same command goes on")


def test_pictures_are_of_a_known_utterance_of_each_gender_as_spoken() -> None:
    def places(genders: str, variants: str, right: str) -> tuple[int, ...]:
        names = {"f": "female", "m": "male", "?": "unknown"}
        utterances = [
            Utterance(str(i), Path(), "joy", "s", names[g], variant="pitch-3" if v == "v" else "")
            for i, (g, v) in enumerate(zip(genders, variants, strict=True))
        ]
        labels = np.zeros(len(utterances), int)
        clean = SimpleNamespace(prediction=np.array([each != "1" for each in right], int))
        speech = SimpleNamespace(clean=clean, labels=labels, utterances=utterances)
        return attacked._examples(speech)  # type: ignore[arg-type]

    # The first that is right and not augmented; female before male.
    assert places("mfmfmf", "vv----", "111011") == (5, 2)
    # None is right: as spoken all the same. None is as spoken: what there is.
    assert places("fmfm", "v---", "1000") == (2, 1)
    assert places("ff", "vv", "01") == (1,)
    assert places("???", "---", "011") == (1,)
