"""``python -m jaxser.report``: its figures are those of the tables, and its page can be read."""

import csv
import html.parser
from pathlib import Path

import numpy as np
import pytest
from made_rows import BY_HAND, columns, table

from jaxser import report
from jaxser.errors import report_errors
from jaxser.html_page import page
from jaxser.html_page import table as html_table
from jaxser.report_compare import paired_difference
from jaxser.report_data import load, settings_of, split_by
from jaxser.report_page import sections
from jaxser.results import RowWriter, read_rows, summarise

EVIL = '<script>alert(1)</script> & "co"'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two attacks at three ε, one at no limit, and another victim that hears the first."""
    folder = tmp_path / "sweep" / "rows" / "pgd"
    with RowWriter(folder) as writer:
        for epsilon in (0.1, 0.001, 0.01):
            writer.add(columns(epsilon=epsilon, seed=1), columns(epsilon=epsilon, attack="noise"))
            writer.add(columns(epsilon=epsilon, victim="other", victim_fingerprint="o"))
        writer.add(columns(epsilon=float("inf"), attack="deepfool", flags=["zero gradient"]))
        writer.add(columns(epsilon=0.1, parameters='{"steps": 9}'))
    return tmp_path / "sweep"


class Reader(html.parser.HTMLParser):
    """Tags and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_figures_are_those_of_the_tables(run: Path) -> None:
    rows = load([run])
    assert len(rows) == 7 * 11
    settings = {(s.facts["victim"], s.label, s.facts["epsilon"]): s for s in settings_of(rows)}
    assert len(settings) == 11
    setting = settings["other", "pgd steps 3", 0.1]
    (line,) = summarise(table())
    before, after = setting.figures["accuracy"]
    assert (before, after) == (line.clean_accuracy, line.robust_accuracy)
    assert setting.figures["UAR"] == (line.clean_uar, line.robust_uar)
    assert setting.fooled == line.fooling_rate
    assert setting.on_correct == line.success_on_correct
    assert setting.success == line.success_rate
    assert setting.means["sparsity"] == pytest.approx(line.sparsity)
    assert setting.means["snr_peak"] == pytest.approx(line.snr_peak_mean)
    assert np.isnan(setting.means["stoi"])
    assert setting.transferred
    assert setting.after.sum() == setting.before.sum() == 7
    assert setting.classes[-1] == "none"  # logits that are not finite
    assert setting.queries == (3, 3, 3, 3)
    # The strongest comes last.
    strengths = [s.facts["epsilon"] for s in settings_of(rows) if s.facts["attack"] == "noise"]
    assert strengths == [0.001, 0.01, 0.1]


def test_parts_are_the_rows_of_a_value(run: Path) -> None:
    rows = load([run])
    everything = np.arange(len(rows))
    parts = dict(split_by(rows, "gender", everything))
    assert {name: len(where) for name, where in parts.items()} == {"female": 33, "male": 44}
    assert np.sort(np.concatenate(list(parts.values()))).tolist() == everything.tolist()


def test_a_page_and_its_tables(run: Path, tmp_path: Path) -> None:
    (run / "sweep.json").write_text(
        '[{"cell": "bim on v", "state": "failed", "rows": 0, "reason": "no memory"}]'
    )
    (run / "sweep-1-of-2.json").write_text(
        '[{"cell": "pgd on v", "state": "failed", "rows": 0, "reason": "a lost machine"}]'
    )
    out, tables = tmp_path / "page.html", tmp_path / "tables"
    argv = [str(run), "--out", str(out)]
    for form in ("csv", "markdown", "latex"):
        argv += [f"--{form}", str(tables)]
    assert report.main(argv) == 0
    text = out.read_text()
    assert len(text) < 5e6
    assert "http" not in text.replace("http-equiv", "")
    reader = Reader(text)
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    # Curves of two attacks, two confusion matrices, one heat map.
    assert len(pictures) == 1 + 1 + 1
    assert all(attributes["alt"] for attributes in pictures)
    # Warnings come before any figure.
    words = " ".join(reader.words)
    first = words.index("What was run")
    for warning in (
        "speech is synthetic",
        "made up",
        "7 of 77 rows are flagged: zero gradient",
        "bim on v: no memory",
        "pgd on v: a lost machine",
    ):
        assert words.index(warning) < first
    assert {path.name for path in tables.iterdir()} == {
        f"{name}{suffix}"
        for name in (
            "clean",
            "robustness",
            "by_gender",
            "by_class",
            "by_speaker",
            "queries",
            "speed",
            "transfer",
        )
        for suffix in (".csv", ".md", ".tex")
    }
    lines = list(csv.DictReader((tables / "robustness.csv").read_text().splitlines()))
    assert len(lines) == 8
    (line,) = [each for each in lines if each["attack"] == "deepfool"]
    assert line["fooled"] == f"{5 / 7:.1%}"
    assert (tables / "by_gender.md").read_text().startswith("## By gender")
    assert r"\begin{tabular}" in (tables / "speed.tex").read_text()


def test_norms_do_not_share_an_axis(tmp_path: Path) -> None:
    """As many pictures of curves as there are norms."""
    with RowWriter(tmp_path) as writer:
        for epsilon in (0.1, 0.2):
            writer.add(columns(epsilon=epsilon))
            writer.add(columns(epsilon=epsilon, attack="deepfool", epsilon_norm="l2"))
    words = [each.png[1] for each in sections(load([tmp_path])) if each.png]
    over = [text for text in words if text.startswith("Robust accuracy and UAR over")]
    assert ["(linf)" in text for text in over].count(True) == 1
    assert ["(l2)" in text for text in over].count(True) == 1


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "run") as writer:
        for epsilon in (0.1, 0.2):
            changes = {"victim": EVIL, "threat": EVIL, "corpus": EVIL, "notes": [EVIL]}
            writer.add(columns(epsilon=epsilon, **changes))
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    reader = Reader((tmp_path / "r.html").read_text())
    assert [tag for tag, _ in reader.tags].count("script") == 1  # the page's own
    assert EVIL in "".join(reader.words)


def test_columns_of_words_and_of_numbers() -> None:
    cells = [["name", "ε", "share"], ["a", "0.1", "–"], ["b", "0.2", "1.5% (0–2)"]]
    reader = Reader(page("t", [html_table(cells, "c")]))
    kinds = [attributes.get("class") for tag, attributes in reader.tags if tag == "th"]
    assert kinds == ["text", None, None]


def test_every_section_has_a_table_or_a_picture(run: Path) -> None:
    for section in sections(load([run])):
        assert section.png or len(section.cells) > 1
        assert len({len(row) for row in section.cells}) <= 1


def test_differences_are_of_pairs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 4000)) < [[0.3], [0.5]]
    change, low, high = paired_difference(first, second)
    assert change == pytest.approx(second.mean() - first.mean())
    # The standard error of a mean of differences.
    error = (second.astype(float) - first).std() / 4000**0.5
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert paired_difference(first, first) == (0, 0, 0)


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    """The second puts two rows right, lacks one, and was run on another victim."""
    hardened = [(*row[:2], row[0], False, *row[4:]) for row in BY_HAND[1:3]] + BY_HAND[3:]
    names = [f"u{i}" for i in range(1, 7)]
    with RowWriter(tmp_path / "a") as writer:
        writer.add(columns())
    with RowWriter(tmp_path / "b") as writer:
        changes = {"victim": "hard", "threat": "hard", "victim_fingerprint": "h"}
        writer.add({**columns(hardened, **changes), "utterance": names})
    argv = ["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--csv", str(tmp_path / "t")]
    assert report.main([*argv, "--out", str(tmp_path / "c.html")]) == 0
    (line,) = csv.DictReader((tmp_path / "t" / "comparison.csv").read_text().splitlines())
    values = list(line.values())
    assert values[3] == "6"
    assert line[f"robust accuracy {tmp_path / 'a'}"] == f"{1 / 6:.1%}"
    assert line[f"robust accuracy {tmp_path / 'b'}"] == f"{3 / 6:.1%}"
    assert line["difference in robust accuracy"].startswith(f"{2 / 6:+.1%} (")
    assert line["difference in accuracy before"].startswith("+0.0% (+0.0% to +0.0%)")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], "is not a folder"),
        (["empty"], "holds no rows"),
        (["half"], "is not a file of attack rows"),
        (["empty", "--out", "report.pdf"], "must end in .html"),
        (["empty", "--csv", "file"], "is a file"),
        ([], "give folders that hold rows"),
        (["whole", "--compare", "whole", "whole"], "give folders that hold rows"),
        (["damaged"], "sweep.json is damaged"),
        (["--compare", "whole", "other"], "no utterance, attack and epsilon in common"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with RowWriter(tmp_path / "half") as writer:
        writer.add(columns())
    for name, attack in (("whole", "pgd"), ("other", "bim"), ("damaged", "pgd")):
        with RowWriter(tmp_path / name) as writer:
            writer.add(columns(attack=attack))
    (tmp_path / "damaged" / "sweep.json").write_text("[{")
    (file,) = (tmp_path / "half").glob("*.parquet")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert report_errors(lambda: report.main(argv)) in (1, 2)
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_rows_are_read_at_any_depth(run: Path) -> None:
    assert len(read_rows(run)) == len(read_rows(run / "rows" / "pgd")) == 77
