"""Speed beside peers: every benchmark's file as the same kind of comparison."""

import json
from pathlib import Path

import pytest

from jaxser import report
from jaxser.reporting.benchmarks import read_comparisons
from jaxser.runtime.errors import report_errors

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def test_all_benchmarks_are_read() -> None:
    comparisons, others = read_comparisons(RESULTS)
    assert "refilling_0.5s.json" in others
    assert {each.peer for each in comparisons} == {
        *("art", "foolbox", "scipy", "torchattacks", "torch, torchattacks"),
        *("torch", "torch eager", "torch sdpa", "torch compiled"),
        *("librosa", "librosa, one at a time", "librosa, matplotlib, torch", "torch.stft"),
    }
    for each in comparisons:
        low, high = each.spread
        assert 0 < low <= each.ratio <= high


def test_figures_are_those_of_the_files() -> None:
    comparisons, _ = read_comparisons(RESULTS)
    (found,) = [each for each in comparisons if each.work.startswith("carlinilinf")]
    (report_,) = json.loads((RESULTS / "attacks_art_2s_carlinilinf.json").read_text())[
        "comparisons"
    ]
    assert found.spread == (min(report_["ratios"]), max(report_["ratios"]))
    assert found.rows_per_s == pytest.approx(sum(report_["rows_per_s"]) / 2)
    assert found.compile_s == report_["compile_s"]
    assert (found.model, found.seconds, found.queries) == ("emo18_emodb", 2.0, 110.0)


@pytest.mark.parametrize("corpus", ["emodb", "emovo"])
def test_settings_of_a_line_are_added_up(corpus: str) -> None:
    """As the systematic evaluation's table beside ART has them."""
    report_ = json.loads((RESULTS / f"systematic_table5_{corpus}.json").read_text())
    comparisons, _ = read_comparisons(RESULTS)
    (found,) = [
        each
        for each in comparisons
        if (each.work, each.model) == ("FGSM, 5 settings", report_["victim"])
    ]
    cells = [cell for cell in report_["cells"] if cell["attack"] == "FGSM"]
    theirs, own = (sum(cell[key] for cell in cells) for key in ("peer_seconds", "seconds"))
    assert found.ratio == pytest.approx(theirs / own)


def test_a_side_is_beside_every_peer_of_its_turn(tmp_path: Path) -> None:
    """The second run of a task is not compared with the peers of the first."""
    sides = [
        ("torch", 1.0),
        ("jaxser a", 2.0),
        ("jaxser b", 3.0),
        ("torch", 10.0),
        ("jaxser a", 5.0),
    ]
    measured = [
        {"task": "forward", "side": side, "batch": 1, "rows_per_s": [rate]} for side, rate in sides
    ]
    write(tmp_path / "generator.json", seconds=6.0, measured=measured)
    comparisons, _ = read_comparisons(tmp_path)
    assert [(each.work, each.ratio) for each in comparisons] == [
        ("forward, a, batch 1", 2.0),
        ("forward, b, batch 1", 3.0),
        ("forward, a, batch 1", 0.5),
    ]


def test_a_report_of_speed_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = Path(__file__).resolve().parents[2] / "configs" / "tables"
    argv = ["--speed", str(RESULTS), "--out", str(tmp_path / "r.html")]
    argv += ["--markdown", str(tmp_path), "--table", str(tables / "staa_net_table4.yaml")]
    assert report.main(argv) == 0
    assert f"report in {tmp_path / 'r.html'}" in capsys.readouterr().out
    lines = (tmp_path / "speed_peers.md").read_text().splitlines()
    (line,) = [each for each in lines if each.startswith("| sparsefool")]
    assert "8.33–90.64 s per utterance, hardware not named (Chang et al., Table 4)" in line
    page = (tmp_path / "r.html").read_text()
    assert "<h1>Speed report</h1>" in page
    assert page.count("<svg") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no *.json of benchmarks"),
        ("{", "results.json is damaged"),
        ('{"comparisons": [{"attack": "pgd"}], "environment": {"device": "x"}}', "is not what a"),
        ('{"environment": {"device": "x"}, "measured": []}', "no comparison with a peer"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    argv = ["--speed", str(tmp_path), "--out", str(tmp_path / "r.html")]
    assert report_errors(lambda: report.main(argv))
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def write(path: Path, **content: object) -> None:
    environment = {"device": "cpu", "threads": 1}
    path.write_text(json.dumps({"environment": environment, **content}))
