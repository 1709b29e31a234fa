"""Tables in the layout of papers: which rows are of a line, and what it says of them."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_rows import BY_HAND, columns
from scipy.stats import binomtest

from jaxser import report
from jaxser.attacks import from_parameters, parameters
from jaxser.papers.defence import load_defence_table
from jaxser.papers.table import Attacked
from jaxser.reporting.loading import load
from jaxser.reporting.paper_tables.defence_matrix import matrix_sections
from jaxser.reporting.paper_tables.paper import Paper
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import report_errors

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "configs" / "tables"


def made(name: str, values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Rows of an attack whose bounds are the victim's."""
    told = json.dumps(parameters(from_parameters(name, {**values, "bounds": (-3.0, 7.0)})))
    return columns(attack=name, parameters=told, **changes)


def lines_of(path: Path) -> list[dict[str, str]]:
    """Of a table in Markdown, as people read it."""
    found = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    header, *lines = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in found)
    return [dict(zip(header, line, strict=True)) for line in lines]


def write_report(tmp_path: Path, table: Path, *more: str) -> Path:
    """Tables of the rows in ``tmp_path/run``; their folder."""
    out = ["--out", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "md")]
    assert report.main([str(tmp_path / "run"), *out, "--table", str(table), *more]) == 0
    return tmp_path / "md"


def test_genders_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    features = {"domain": "features", "label_source": "prediction", "corpus": "EmoDB, made"}
    source = {
        "config": {"victim": "runs/x"},
        "corpus": {
            "name": "emodb",
            "title": "EmoDB, made",
            "fingerprint": "f" * 64,
            "split": ["standard", 0, 0],
        },
        "environment": {
            "jaxser": "1",
            "git_revision": None,
            "python": "3",
            "packages": {"jax": "0"},
        },
    }
    stronger = [(*row[:2], "sad" if row[0] != "sad" else "joy", *row[3:]) for row in BY_HAND]
    with RowWriter(tmp_path / "run", source) as writer:
        writer.add(made("fgsm", {}, epsilon=0.5, **features))
        writer.add(
            {**made("fgsm", {}, epsilon=1.25, **features), "prediction": [r[2] for r in stronger]}
        )
        # Not of the table: another ε, another goal, another hyper-parameter.
        writer.add(made("fgsm", {}, epsilon=0.6, **features))
        writer.add(made("fgsm", {}, epsilon=1.0, **{**features, "label_source": "truth"}))
        writer.add(made("bim", {"steps": 3}, epsilon=0.5, **features))
        # Of the line on probabilities, and not of that on logits.
        jsma = {"theta": 1.0, "gamma": 1.0, "compat": "art", "target": "random", "steps": 20000}
        given = {"output": "probabilities"}
        given |= dict.fromkeys(("victim", "threat"), "emo18[softmax] runs/x")
        writer.add(made("jsma", jsma, epsilon=9.0, epsilon_norm="l0", **given, **features))
    folder = write_report(tmp_path, TABLES / "systematic_table5.yaml")
    before, _, line, saturated = lines_of(folder / "systematic_table5_accuracy.md")
    assert (saturated["attack"], saturated["paper: all"]) == ("JSMA, softmax", "1.3%")
    assert saturated["setting"].endswith("ε 9 samples")
    assert (before["attack"], before["paper: all"]) == ("original", "90.9%")
    assert before["all"] == f"{4 / 7:.1%}"
    assert (line["attack"], line["setting"]) == ("FGSM", "fgsm from prediction, ε 1.25 L∞")
    assert (line["all"], line["female"], line["male"]) == ("0.0%", "0.0%", "0.0%")
    assert line["paper: female"] == "12.1%"
    line, _ = lines_of(folder / "systematic_table5_mean_abs.md")
    assert (line["all"], line["paper: all"]) == ("0.1", "1.07")


def test_attacks_on_fewer_utterances_have_a_table_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each below the accuracy of its own utterances before any attack."""
    monkeypatch.chdir(ROOT)
    features = {"domain": "features", "label_source": "prediction"}
    few = [row for row in BY_HAND if row[-1] == "female"]
    with RowWriter(tmp_path / "run") as writer:
        writer.add(made("fgsm", {}, epsilon=1.25, **features))
        bim = made("bim", {"steps": 10}, epsilon=1.25, **features)
        writer.add({name: values[: len(few)] for name, values in bim.items()})
    (tmp_path / "table.yaml").write_text(
        "title: T\ndomain: features\ny: prediction\nattacks: [{attack: fgsm, epsilon: [1.25]}, "
        "{attack: bim, parameters: {steps: 10}, epsilon: [1.25]}]"
    )
    folder = write_report(tmp_path, tmp_path / "table.yaml")
    before, line = lines_of(folder / "table_accuracy.md")
    assert (line["attack"], line["rows"], before["rows"]) == ("fgsm", "7", "7")
    assert (before["all"], line["all"]) == (f"{4 / 7:.1%}", f"{2 / 7:.1%}")
    before, line = lines_of(folder / "table_accuracy_2.md")
    assert (line["attack"], line["rows"], before["rows"]) == ("bim", "3", "3")
    assert (before["all"], line["all"]) == (f"{2 / 3:.1%}", f"{1 / 3:.1%}")


def test_transfer_in_the_layout_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    values = {"steps": 20, "relative_step_size": 0.25, "count": 4500, "random_start": True}
    common = {"epsilon": 0.05, "label_source": "prediction"}
    with RowWriter(tmp_path / "run") as writer:
        writer.add(made("sparsepgd", values, **common))
        writer.add(made("sparsepgd", values, victim="other", victim_fingerprint="o", **common))
        writer.add(made("sparsepgd", {**values, "count": 9}, **common))
    folder = write_report(tmp_path, TABLES / "staa_net_table4.yaml")
    (line,) = lines_of(folder / "staa_net_table4_1.md")
    assert (line["attack"], line["part"], line["n"]) == ("PGD", "test", "7")
    # Those that succeeded: 30, 20 and 10 dB, and one without.
    assert line["SNR dB"] == "20.00"
    assert line["ASR x"].startswith(f"{5 / 7:.1%} (")
    assert line["ASR other"].startswith(f"{5 / 7:.1%} (")
    assert "6,140 samples" in (tmp_path / "r.html").read_text()
    printed = lines_of(folder / "staa_net_table4_published.md")
    assert printed[0]["ASR Zhao19"] == "67.1%"


def test_a_generator_is_of_the_line_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with RowWriter(tmp_path / "run") as writer:
        for name in ("dense", "sparse"):
            told = json.dumps({"generator": f"runs/{name} 1a2b", "targeted": False})
            changes = {"attack": "staanet", "parameters": told, "label_source": "prediction"}
            writer.add(columns(epsilon=0.05, **changes))
    table = TABLES / "staa_net_table6.yaml"
    folder = write_report(tmp_path, table)
    assert not (folder / "staa_net_table6_1.md").exists()
    folder = write_report(tmp_path, table, "--line", "without sparsity loss=runs/dense")
    (line,) = lines_of(folder / "staa_net_table6_1.md")
    assert line["attack"] == "without sparsity loss"


@pytest.fixture
def defended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two victims of one architecture, the second of which keeps more."""
    monkeypatch.chdir(ROOT)
    kept = [(*row[:2], row[0], *row[3:]) for row in BY_HAND]
    attacks = {
        "fgsm": {},
        "square": {"queries": 200, "restarts": 1},
        "pixle": {
            "x_dimensions": [20, 50],
            "y_dimensions": [20, 50],
            "restarts": 1,
            "iterations": 1,
        },
    }
    with RowWriter(tmp_path / "run") as writer:
        for name, values in attacks.items():
            for split in ("train", "test"):
                for victim, rows in (("cnn runs/plain", BY_HAND), ("cnn runs/hard", kept)):
                    changes = {"victim": victim, "threat": victim, "victim_fingerprint": victim}
                    common = {"domain": "image", "split": split, "epsilon": 0.1254901961}
                    whole = made(name, values, **common, **changes)
                    # The utterances of the parts are not the same.
                    whole["utterance"] = [f"{split}{u}" for u in whole["utterance"]]
                    whole["source"] = whole["utterance"]
                    writer.add({**whole, "prediction": [row[2] for row in rows]})
    return tmp_path


def test_undefended_beside_defended(defended: Path) -> None:
    more = ["--line", "FGSM=runs/hard"]
    folder = write_report(defended, TABLES / "benchmark_table2a.yaml", *more)
    clean, line = lines_of(folder / "benchmark_table2a.md")
    assert (clean["model"], clean["attack"]) == ("cnn", "none")
    assert clean["accuracy, test"] == wilson(4, 7)
    assert clean["accuracy, train and test"] == wilson(8, 14)
    assert clean["accuracy taken, test"] == clean["defended: accuracy, test"] == "–"
    assert (line["model"], line["attack"]) == ("cnn", "FGSM")
    # 4 of 7 right before and 2 after, in both parts alike.
    assert line["accuracy, test"] == wilson(2, 7)
    assert line["accuracy, train and test"] == wilson(4, 14)
    assert line["defended: accuracy before, test"] == wilson(4, 7)
    assert line["defended: accuracy, train and test"] == wilson(14, 14)
    for name, value in (("", 1 - 2 / 4), ("defended: ", 1 - 7 / 4)):
        own, both = (
            [float(each) / 100 for each in re.findall(r"(-?[\d.]+)%", line[f"{name}{column}"])]
            for column in ("accuracy taken, test", "accuracy taken, train and test")
        )
        assert own[0] == both[0] == pytest.approx(value, abs=6e-4)
        assert own[1:] == pytest.approx(taken_by_hand(name != "", 1), abs=0.12)
        assert both[1:] == pytest.approx(taken_by_hand(name != "", 2), abs=0.12)
        assert both[2] - both[1] < own[2] - own[1]


def wilson(right: int, of: int) -> str:
    found = binomtest(right, of).proportion_ci(method="wilson")
    return f"{right / of:.1%} ({found.low:.1%}–{found.high:.1%})"


def taken_by_hand(kept: bool, parts: int) -> list[float]:
    """Of utterances that are drawn one by one; draws without any that was right have no share."""
    rng = random.Random(0)
    rows = [(row[1] == row[0], kept or row[2] == row[0]) for row in BY_HAND] * parts
    shares = []
    for _ in range(4000):
        before, after = (sum(side) for side in zip(*rng.choices(rows, k=len(rows)), strict=True))
        if before:
            shares.append(1 - after / before)
    return np.percentile(shares, [2.5, 97.5]).tolist()


def test_the_paper_s_lines_are_those_that_are_asked_for() -> None:
    table = load_defence_table(TABLES / "benchmark_table2a.yaml")
    vgg = table.only(["VGG16"], ["FGSM", "PGD"])
    assert [line[:2] for line in vgg.published] == [
        [n, a] for n, a in (("VGG16", "none"), ("VGG16", "FGSM"), ("VGG16", "PGD"))
    ]
    assert [line[0].split()[0] for line in vgg.readings] == ["VGG16", "VGG16"]
    assert vgg.remarks == table.remarks
    assert not table.only(["Other"], ["FGSM"]).published
    titles = [entry.title for entry in table.lines]
    everything = table.only(list(table.victims), titles)
    assert (everything.published, everything.readings) == (table.published, table.readings)
    over = load_defence_table(TABLES / "benchmark_table2b.yaml").only(["AlexNet"], ["BIM"])
    assert [line[1] for line in over.published] == ["BIM"] * 6


def test_defences_over_epsilon(defended: Path) -> None:
    more = ["--line", "FGSM=runs/hard"]
    folder = write_report(defended, TABLES / "benchmark_table2b.yaml", *more)
    (line,) = lines_of(folder / "benchmark_table2b.md")
    assert (line["defence"], line["ε"]) == ("FGSM", "0.1255")
    assert line["accuracy, train and test"] == wilson(8, 14)
    for name in (", white-box", " by Pixle", " by Square"):
        cell = line[f"accuracy taken{name}, train and test"]
        assert cell.split()[0] == f"{1 - 7 / 4:.1%}"
        assert cell.count("%") == 3


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        ("layout: square\nattacks: [{attack: fgsm}]", [], "has layout 'square'"),
        ("layout: epsilon\ncolumns: [x]\nattacks: [{attack: fgsm}]", [], "has a column 'x'"),
        ("layout: defended\nattacks: []", [], "must list attacks"),
        (
            "layout: defended\nattacks: [{attack: fgsm}]\npublished: [[a, b]]",
            [],
            "has 2 published figures in the line of a b",
        ),
        ("attacks: [{attack: fgsm}]", ["--line", "fgsm"], "is not of the form LINE=RUN"),
        ("attacks: [{attack: fgsm}]", ["--line", "bim=runs/x"], "is for no line"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, more: list[str], words: str
) -> None:
    (tmp_path / "table.yaml").write_text(table)
    with RowWriter(tmp_path / "run") as writer:
        writer.add(columns())
    argv = [str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]
    argv += ["--table", str(tmp_path / "table.yaml"), *more]
    assert report_errors(lambda: report.main(argv))
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


# What trains victims is for evaluate alone.
TRAINED = ("layout: trained", "layout: models")
REPORTED = [
    path
    for path in sorted(TABLES.glob("*.yaml"))
    if not any(layout in path.read_text() for layout in TRAINED)
]


@pytest.mark.parametrize("path", REPORTED, ids=lambda path: path.stem)
def test_every_table_can_be_asked_for(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with RowWriter(tmp_path / "run") as writer:
        writer.add(columns())
    write_report(tmp_path, path)
    assert "No rows are of the attacks of this table" in (tmp_path / "r.html").read_text()


def defences_by_attacks(defended: Path, attacked: slice) -> list[list[str]]:
    """The matrix where FGSM leaves two of the undefended right and sparse PGD, which attacks some
    of them, another two, one of which is the same."""
    wrong = {"anger": "joy", "joy": "sad", "sad": "anger"}
    others = [row[0] if i in (1, 4) else wrong[row[0]] for i, row in enumerate(BY_HAND)]
    with RowWriter(defended / "run") as writer:
        rows = made(
            "sparsepgd", {}, domain="image", victim="cnn runs/plain", threat="cnn runs/plain"
        )
        rows |= {"victim_fingerprint": ["cnn runs/plain"] * len(BY_HAND)}
        rows["utterance"] = [f"test{u}" for u in rows["utterance"]]
        rows |= {"epsilon": [0.1254901961] * len(BY_HAND), "prediction": others}
        writer.add({name: values[attacked] for name, values in rows.items()})
    table = load_defence_table(TABLES / "benchmark_table2a.yaml")
    attacks = [table.lines[0], Attacked(name="Sparse", attack="sparsepgd")]
    paper = Paper("two", table, {"FGSM": ("runs/hard",)})
    (section,) = matrix_sections(load([defended / "run"]), paper, table, attacks)
    header, *lines = section.cells
    assert header == ["trained against", "no attack", "FGSM", "Sparse", "worst"]
    return [[cell.split()[0] for cell in line[1:]] for line in lines]


def test_the_worst_case_of_a_defence_is_of_utterances(defended: Path) -> None:
    plain, hard = defences_by_attacks(defended, slice(None))
    assert plain == [f"{4 / 7:.1%}", f"{2 / 7:.1%}", f"{2 / 7:.1%}", f"{1 / 7:.1%}"]
    assert hard == [f"{4 / 7:.1%}", "100.0%", "–", "100.0%"]


def test_the_worst_case_of_a_defence_is_of_what_all_attacks_attacked(defended: Path) -> None:
    # FGSM leaves one of the last three right, which sparse PGD has not attacked.
    plain, hard = defences_by_attacks(defended, slice(0, 4))
    assert plain == [f"{4 / 7:.1%}", f"{2 / 7:.1%}", f"{1 / 4:.1%}", "0.0%"]
    assert hard == [f"{4 / 7:.1%}", "100.0%", "–", "100.0%"]
