"""``python -m jaxser.report``: its figures are those of the tables, and its page can be read."""

import csv
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_rows import BY_HAND, columns, table
from scipy.stats import binomtest

from jaxser import report
from jaxser.reporting.certificates import certificate_text, certified_table, curve_cells
from jaxser.reporting.figures.compared import Curve, compared_figure
from jaxser.reporting.html import page
from jaxser.reporting.html import table as html_table
from jaxser.reporting.loading import load
from jaxser.reporting.page import sections
from jaxser.reporting.pairs import same_settings
from jaxser.reporting.rows import split_by
from jaxser.reporting.warnings import warnings_of
from jaxser.results.cells import constant_columns, interval, number
from jaxser.results.certificates import CERTIFICATES, KIND
from jaxser.results.estimate import Estimate
from jaxser.results.history import history_text
from jaxser.results.intervals import paired_difference
from jaxser.results.reading import read_rows
from jaxser.results.summary import summarise
from jaxser.results.units import Units
from jaxser.results.writing import RowWriter
from jaxser.runtime.errors import report_errors
from jaxser.runtime.files import write_text
from jaxser.runtime.text import file_stem


def certificate_columns(radius: float, **changes: object) -> dict[str, list[object]]:
    """Three utterances with the same radius, two of them right."""
    values = {
        **{"victim": "v", "victim_fingerprint": "f", "defence": None, "corpus": "Made up"},
        **{"language": "none", "synthetic": True, "notes": [], "split": "test"},
        **{"domain": "waveform", "label": "joy", "clean_prediction": "joy", "p_lower": 0.9},
        **{"radius": radius, "radius_snr": 60.0, "input_norm": 20.0, "selection_counts": [9, 1, 0]},
        **{"counts": [900, 100, 0], "classes": ["joy", "sad"], "sigma": 0.01, "samples0": 10},
        **{"samples": 1000, "alpha": 0.001, "seed": 0, "passes": 1010, "device": "cpu"},
        **{"seconds": 1.0, "gender": "female", **changes},
    }
    answers = ["joy", "joy", "sad"]
    made = {name: [value] * 3 for name, value in values.items()}
    names = [f"u{i}" for i in range(3)]
    own = {"utterance": names, "source": names, "speaker": names}
    return made | own | {"prediction": answers, "certified": answers}


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
    settings = {(s.facts["victim"], s.label, s.facts["epsilon"]): s for s in rows.settings}
    assert len(settings) == 11
    setting = settings["other", "pgd steps 3", 0.1]
    (line,) = summarise(table())
    before, after = setting.figures["accuracy"]
    assert (before, after) == (line.clean_accuracy, line.robust_accuracy)
    assert setting.figures["UAR"] == (line.clean_uar, line.robust_uar)
    assert setting.fooled == line.fooling_rate
    assert setting.on_correct == line.success_on_correct
    assert np.isnan(setting.reached)  # there is no target
    assert setting.means["sparsity"] == pytest.approx(line.sparsity)
    assert setting.means["snr_peak"] == pytest.approx(line.snr_peak_mean)
    assert np.isnan(setting.means["stoi"])
    assert setting.transferred
    assert setting.after.sum() == setting.before.sum() == 7
    assert setting.classes[-1] == "none"  # logits that are not finite
    assert setting.queries == (3, 3, 3, 3)
    # The strongest comes last.
    strengths = [s.facts["epsilon"] for s in rows.settings if s.facts["attack"] == "noise"]
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
    pictures = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert all(attributes["aria-label"] for attributes in pictures)
    for what in ("Robust accuracy of", "Robust UAR of", "Class flow", "Confusion matrix",
                 "Rows per second", "Share fooled"):  # fmt: skip
        assert any((each["aria-label"] or "").startswith(what) for each in pictures), what
    # The answer, its picture, what to know of it, the rest, and last what was run.
    words = " ".join(reader.words)
    headings = [words.index(each) for each in (
        "How robust", "Accuracy over ε", "Before any attack", "What was run jaxser"
    ) if each in words]  # fmt: skip
    assert headings == sorted(headings)
    told = words.index("Robust accuracy ")
    for warning in (
        "speech is synthetic",
        "made up",
        "7 of 77 rows are flagged: zero gradient",
        "bim on v: no memory",
        "pgd on v: a lost machine",
    ):
        assert headings[1] < words.index(warning) < told
        assert words.count(warning) == 1
    assert {path.name for path in tables.iterdir()} == {
        f"{name}{suffix}"
        for name in (
            *("answer", "robust_accuracy", "clean", "robustness", "attack_pairs", "class_flow_1"),
            *("by_gender", "by_class", "by_speaker", "queries", "speed", "transfer"),
        )
        for suffix in (".csv", ".md", ".tex")
    }
    lines = list(csv.DictReader((tables / "robustness.csv").read_text().splitlines()))
    assert len(lines) == 8
    (line,) = [each for each in lines if each["attack"] == "deepfool"]
    assert float(line["fooled"]) == pytest.approx(5 / 7)
    assert line["epsilon"] == "inf"
    assert (tables / "by_gender.md").read_text().startswith("## By gender")
    latex = (tables / "speed.tex").read_text()
    for part in (r"\toprule", r"\caption{Speed (victim emo18 runs/x, ", r"\label{tab:speed}"):
        assert part in latex


def test_norms_do_not_share_an_axis(tmp_path: Path) -> None:
    """As many pictures of curves as there are norms."""
    with RowWriter(tmp_path) as writer:
        for epsilon in (0.1, 0.2):
            writer.add(columns(epsilon=epsilon))
            writer.add(columns(epsilon=epsilon, attack="deepfool", epsilon_norm="l2"))
    pictures = [each for made in sections(load([tmp_path]), {}) for each in made.pictures]
    over = [each.words for each in pictures if each.name.startswith("accuracy_over_epsilon")]
    assert ["(L∞)" in text for text in over].count(True) == 1
    assert ["(L2)" in text for text in over].count(True) == 1


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "run") as writer:
        for epsilon in (0.1, 0.2):
            changes = {"victim": EVIL, "threat": EVIL, "corpus": EVIL, "notes": [EVIL]}
            writer.add(columns(epsilon=epsilon, **changes))
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    reader = Reader((tmp_path / "r.html").read_text())
    assert [tag for tag, _ in reader.tags].count("script") == 1  # the page's own
    assert EVIL in "".join(reader.words)


def test_labels_and_utterances_stay_text(tmp_path: Path) -> None:
    label = 'a&b"<'
    hostile = [(label, label, *row[2:]) for row in BY_HAND[:3]] + BY_HAND[3:]
    with RowWriter(tmp_path / "run") as writer:
        for epsilon in (0.1, 0.2):
            names = [f"<script>alert({i})</script>.wav" for i in range(len(hostile))]
            writer.add({**columns(hostile, epsilon=epsilon), "utterance": names, "speaker": names})
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    reader = Reader((tmp_path / "r.html").read_text())
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "<script>alert(0)</script>.wav" in "".join(reader.words)
    assert label in "".join(reader.words)
    alts = [attributes["aria-label"] or "" for tag, attributes in reader.tags if tag == "svg"]
    assert any(f"{label} 0 of" in alt or f"{label} 1 of" in alt for alt in alts)


def test_names_in_markdown_and_latex_stay_text(tmp_path: Path) -> None:
    name = "<b>a|b</b> & 50%_\nx"
    with RowWriter(tmp_path / "run") as writer:
        writer.add(columns(victim=name, threat=name))
    argv = [str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]
    folders = [str(tmp_path / "t")] * 2
    assert report.main([*argv, "--markdown", folders[0], "--latex", folders[1]]) == 0
    markdown = (tmp_path / "t" / "clean.md").read_text()
    assert "| &lt;b&gt;a\\|b&lt;/b&gt; &amp; 50%_ x |" in markdown
    latex = (tmp_path / "t" / "clean.tex").read_text()
    assert r"\textless{}b\textgreater{}a\textbar{}b\textless{}/b\textgreater{} \& 50\%\_" in latex


def test_labels_say_what_tells_attacks_apart(tmp_path: Path) -> None:
    """Not what goes along with it, nor bounds, which are the victim's."""
    told = [
        {"steps": 3, "bounds": [-1, 1], "step_size": 0.1, "norm": "linf"},
        {"steps": 5, "bounds": [-1, 1], "step_size": 0.2, "norm": "linf"},
        {"steps": 3, "bounds": [-3, 7], "step_size": 0.1, "norm": "linf"},
    ]
    victims = ["a", "a", "b"]
    for folder, names in (("victims", victims), ("one", ["a"] * 3)):
        with RowWriter(tmp_path / folder) as writer:
            for name, values in zip(names, told, strict=True):
                changes = {"victim": name, "threat": name, "victim_fingerprint": name}
                writer.add(columns(parameters=json.dumps(values), **changes))
    labels = load([tmp_path / "victims"]).labels
    assert sorted(labels.values()) == ["pgd steps 3", "pgd steps 3", "pgd steps 5"]
    labels = load([tmp_path / "one"]).labels
    assert len(set(labels.values())) == 3


def test_different_targets_are_not_pooled(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        for target in ("joy", "sad"):
            changes = {"label_source": "target", "targeted": True}
            writer.add({**columns(**changes), "attacked_label": [target] * len(BY_HAND)})
        writer.add(columns(label_source="prediction"), columns())
    settings = load([tmp_path]).settings
    assert {setting.label for setting in settings} == {
        *("pgd → joy", "pgd → sad", "pgd from prediction", "pgd from truth"),
    }
    assert {len(setting.where) for setting in settings} == {len(BY_HAND)}


def test_attacks_on_probabilities_are_told_from_those_on_logits(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        writer.add(columns())
        writer.add(columns(output="probabilities", victim_fingerprint="p"))
    rows = load([tmp_path])
    assert {setting.label for setting in rows.settings} == {"pgd", "pgd, given probabilities"}
    (warning,) = [text for text in warnings_of(rows) if text.startswith("Gradients are masked")]
    assert "pgd on emo18 runs/x (p) with Made up, test were given its probabilities" in warning


def test_runs_on_logits_and_on_probabilities_have_nothing_to_compare(tmp_path: Path) -> None:
    for name, output in (("a", "logits"), ("b", "probabilities")):
        with RowWriter(tmp_path / name) as writer:
            writer.add(columns(output=output))
    a, b = (load([tmp_path / name]) for name in ("a", "b"))
    assert len(list(same_settings(a, a))) == 1
    assert not list(same_settings(a, b))


def test_a_victim_that_was_trained_again_is_another(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        for fingerprint in ("0123456789", "abcdefghij"):
            writer.add(columns(victim_fingerprint=fingerprint))
        writer.add(columns(victim="other", victim_fingerprint="x"))
    rows = load([tmp_path])
    assert rows.distinct("victim") == (
        "emo18 runs/x (01234567)",
        "emo18 runs/x (abcdefgh)",
        "other",
    )
    assert [setting.transferred for setting in rows.settings] == [False, False, True]
    assert rows.repeated == 0


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "first") as writer:
        writer.add(columns(flags=["zero gradient"]))
    with RowWriter(tmp_path / "second") as writer:
        writer.add(columns(stoi=0.5, flags=["zero gradient"]), columns(seed=1))
    rows = load([tmp_path])
    assert (len(rows), rows.repeated) == (14, 7)
    assert rows.flags == {"zero gradient": 7}
    assert "7 rows were there more than once, and are counted once." in warnings_of(rows)


def test_a_victim_that_says_the_same_of_all_speech_is_named_once(tmp_path: Path) -> None:
    rows = [(label, "fear", "fear", *row[3:]) for label, row in zip("abcd", BY_HAND, strict=False)]
    with RowWriter(tmp_path) as writer:
        for epsilon in (0.1, 0.01):
            writer.add(columns(rows, epsilon=epsilon))
        writer.add(columns(victim="other"))
    (found,) = (text for text in warnings_of(load([tmp_path])) if "does not tell" in text)
    assert "answers fear to all 4 clean inputs" in found


def test_signs_of_gradient_masking(tmp_path: Path) -> None:
    """Noise fools all and PGD none; PGD does better with less."""
    nothing, everything = (
        [(*row[:2], row[0] if kept else "fear", *row[3:]) for row in BY_HAND * 4]
        for kept in (True, False)
    )
    names = [f"u{i}" for i in range(len(nothing))]
    with RowWriter(tmp_path) as writer:
        for rows, changes in (
            (everything, {"epsilon": 0.1, "attack": "noise", "gradients": 0}),
            (nothing, {"epsilon": 0.1}),
            (everything, {"epsilon": 0.01}),
        ):
            writer.add({**columns(rows, **changes), "utterance": names})
    found = [text for text in warnings_of(load([tmp_path])) if text.startswith("Gradients may be")]
    assert len(found) == 2
    assert "at ε 0.1 L∞, noise leaves 0.0% accuracy and pgd 100.0%" in found[0]
    assert "pgd leaves 0.0% accuracy at ε 0.01 L∞ and 100.0% at 0.1 L∞" in found[1]


def test_attacks_that_weaken_accuracy_are_no_sign(run: Path) -> None:
    assert not any("masked" in text for text in warnings_of(load([run])))


def source_of(cut: str | None, title: str = "Made up") -> dict[str, Any]:
    """What made some rows; None of an older version, which did not tell how speech was cut."""
    corpus = {"name": "made", "title": title, "fingerprint": "0" * 64, "split": ["file", 0, 0]}
    told = {} if cut is None else {"cut": cut}
    environment = {"jaxser": "9.9", "git_revision": None, "python": "3.11", "packages": {}}
    return {"config": {}, "corpus": corpus | told, "environment": environment}


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("windows of 1 s, one every 500 ms", "windows of 1 s, one every 1000 ms", False),
        ("chunks of 2 s", "chunks of 3 s", False),
        ("windows of 1 s, one every 500 ms", "windows of 1 s, one every 500 ms", True),
        ("windows of 1 s, one every 500 ms", None, True),
        ("", "", True),
    ],
)
def test_windows_of_one_name_may_be_other_speech(
    first: str, second: str | None, alike: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, cut in (("a", first), ("b", second)):
        with RowWriter(tmp_path / name, source_of(cut)) as writer:
            writer.add(columns())
    argv = [
        "--compare",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "--out",
        str(tmp_path / "c.html"),
    ]
    assert report_errors(lambda: report.main(argv)) == (0 if alike else 1)
    refused = f"is of {first} of Made up, and {tmp_path / 'b'} of {second}, which are other speech"
    assert (refused in capsys.readouterr().err.replace("\n", " ")) != alike


def test_what_was_run_is_told_by_the_files(tmp_path: Path) -> None:
    for steps in (3, 4):
        source = {
            "config": {"attack": "pgd", "params": [f"steps={steps}"], "out": None},
            "corpus": {
                "name": "made",
                "title": "Made up",
                "fingerprint": "0123456789abcdefgh",
                "split": ["loso", 7, 2],
            },
            "environment": {
                "jaxser": "9.9",
                "git_revision": "fedcba9876543210",
                "python": "3.11",
                "packages": {"jax": "0.10.2"},
            },
        }
        with RowWriter(tmp_path / "run", source) as writer:
            writer.add(columns(epsilon=0.01 * steps))
    assert report.main([str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    words = Reader((tmp_path / "r.html").read_text()).words
    assert "Made up: 0123456789abcdef, split loso (seed 7, fold 2)" in words
    assert "jaxser 9.9 (fedcba9876), Python 3.11, jax 0.10.2" in words
    assert "Configs: attack pgd." in words
    assert {"params", "steps=3", "steps=4"} <= set(words)
    assert "steps 3" in words


def test_queries_are_pictured_where_rows_differ(tmp_path: Path) -> None:
    for name, counts in (("same", [3] * 7), ("other", [1, 5, 10, 50, 100, 500, 900])):
        with RowWriter(tmp_path / name) as writer:
            writer.add({**columns(), "queries": counts})
        (section,) = [s for s in sections(load([tmp_path / name]), {}) if s.name == "queries"]
        assert len(section.pictures) == (name == "other")
    assert "pgd 2.2 to 780, median 50" in section.pictures[0].words


def test_most_speakers_and_no_more(tmp_path: Path) -> None:
    """A page stays small however many speakers there are."""
    rows = BY_HAND * 50
    with RowWriter(tmp_path / "run") as writer:
        names = [f"u{i}" for i in range(len(rows))]
        writer.add({**columns(rows), "utterance": names, "speaker": names})
    (section,) = [s for s in sections(load([tmp_path / "run"]), {}) if s.name == "by_speaker"]
    assert len(section.cells) == 1 + 100
    assert "the 100 with most rows" in section.text


def test_columns_of_words_and_of_numbers() -> None:
    cells = [["name", "ε", "share"], ["a", "0.1", "–"], ["b", "0.2", "1.5% (0–2)"]]
    reader = Reader(page("t", [html_table(cells, "c")]))
    kinds = [attributes.get("class") for tag, attributes in reader.tags if tag == "th"]
    assert kinds == ["text", None, None]


def test_what_all_lines_say_stands_once_above_them() -> None:
    same = [number(3, "d"), "–"]
    lines = [[name, "v", interval(Estimate(0.5, 0.4, 0.6)), *same] for name in "ab"]
    cells = [["attack", "victim", "robust", "rows", "STOI"], *lines]
    reader = Reader(page("t", [html_table(cells, "c")]))
    text = " ".join(reader.words)
    assert "victim v; rows 3; not measured: STOI" in text
    # Figures with intervals stay: that two are alike is a result.
    assert [tag for tag, _ in reader.tags].count("th") == 2
    # Of one line the figures stay, too.
    assert constant_columns(cells[:2]) == (
        {"attack": "a", "victim": "v", "STOI": "–"},
        [["robust", "rows"], ["50.0% (40.0%–60.0%)", "3"]],
    )


def test_every_section_has_a_table_or_a_picture(run: Path) -> None:
    for section in sections(load([run]), {}):
        assert section.pictures or len(section.cells) > 1
        assert len({len(row) for row in section.cells}) <= 1


def test_differences_are_of_pairs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 4000)) < [[0.3], [0.5]]
    units = Units.of(np.arange(4000))
    found = paired_difference(first, second, units)
    assert found.value == pytest.approx(second.mean() - first.mean())
    # The standard error of a mean of differences.
    error = (second.astype(float) - first).std() / 4000**0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    # Pairs that all agree do not say that every pair would: Wilson's bound of 0 of 4000.
    bound = binomtest(0, 4000).proportion_ci(method="wilson").high
    same = paired_difference(first, first, units)
    assert (same.value, same.low, same.high) == pytest.approx((0, -bound, bound))


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
    assert (line["pairs"], line["utterances"]) == ("6", "6")
    sides = [file_stem(f"robust accuracy {tmp_path / name}") for name in ("a", "b")]
    assert [float(line[side]) for side in sides] == pytest.approx([1 / 6, 3 / 6])
    assert float(line["difference_in_robust_accuracy"]) == pytest.approx(2 / 6)
    # Six pairs that agree leave room for 39 % that do not.
    bound = binomtest(0, 6).proportion_ci(method="wilson").high
    told = [float(line[f"difference_in_accuracy_before{end}"]) for end in ("", "_low", "_high")]
    assert told == pytest.approx([0, -bound, bound])
    # Both rows that it put right are of women, and of anger.
    gained = {}
    for part in ("class", "gender", "speaker"):
        text = (tmp_path / "t" / f"comparison_by_{part}.csv").read_text()
        for each in csv.DictReader(text.splitlines()):
            cell = f"{float(each['difference_in_robust_accuracy']):+.1%}"
            gained[each[part]] = (each["utterances"], cell)
    assert gained["female"] == gained["anger"] == ("2", "+100.0%")
    assert gained["male"] == ("4", "+0.0%")
    assert gained["joy"] == gained["sad"] == ("2", "+0.0%")
    # Utterances 1 and 2 are of two speakers; of the first the second run lacks the other one.
    assert (gained["s0"], gained["s1"]) == (("1", "+100.0%"), ("2", "+50.0%"))


def test_a_defended_run_beside_an_undefended_one(tmp_path: Path) -> None:
    """What each was trained against and what that took, and both in one picture."""
    hardened = [(*row[:2], row[0], False, *row[4:]) for row in BY_HAND]
    common = {"training_device": "a chip", "training_compile_seconds": 3.0}
    plain = {**common, "training_seconds": 100.0, "training_queries": 50, "training_gradients": 50}
    hard = {
        **{"victim": "emo18 runs/h", "threat": "emo18 runs/h", "victim_fingerprint": "h"},
        **{**common, "defence": "trained against pgd, ε 0.002 (trades)"},
        **{"training_seconds": 820.0, "training_queries": 500, "training_gradients": 400},
    }
    for name, rows, changes in (("a", BY_HAND, plain), ("b", hardened, hard)):
        with RowWriter(tmp_path / name / "attacks") as writer:
            for epsilon in (0.01, 0.1):
                writer.add(columns(rows, **changes, epsilon=epsilon))
    watched = {"watched_accuracy": 0.9, "robust_accuracy": 0.5, "val_robust_accuracy": 0.25}
    history = [{"epoch": epoch, "step": epoch, **watched} for epoch in (1, 2)]
    write_text(tmp_path / "b" / "history.csv", history_text(history))
    write_text(tmp_path / "a" / "history.csv", history_text([{"epoch": 1, "loss": 2.0}]))
    argv = ["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--csv", str(tmp_path / "t")]
    assert report.main([*argv, "--out", str(tmp_path / "c.html")]) == 0
    first, second = csv.DictReader((tmp_path / "t" / "victims.csv").read_text().splitlines())
    assert (first["victim"], first["training"]) == ("emo18 runs/x", "undefended")
    assert second["training"] == "trained against pgd, ε 0.002 (trades)"
    assert (second["training_s"], second["backward_passes"]) == ("820.0", "400")
    assert (second["times_s"], second["times_backward_passes"]) == ("8.2", "8.0")
    text = (tmp_path / "c.html").read_text()
    # Of all seven rows four were right before, and two after.
    assert f"pgd, {tmp_path / 'a'}: 29% to 29%; pgd, {tmp_path / 'b'}: 100% to 100%" in text
    assert (
        f"Right under PGD after the last epoch: {tmp_path / 'b'} 50% of the training rows and 25% "
        "of the validation rows"
    ) in text
    assert f"{tmp_path / 'a'} 50%" not in text
    assert "emo18 runs/h (trained against pgd, ε 0.002 (trades))" in text
    # Rows alone, of both in one page; what nobody has recorded is no line of its own.
    assert report.main([str(tmp_path / "b"), "--out", str(tmp_path / "b.html")]) == 0
    assert "trained against pgd, ε 0.002 (trades)" in (tmp_path / "b.html").read_text()
    write_text(tmp_path / "b" / "history.csv", "epoch,step\n2,7\n")
    assert report_errors(lambda: report.main(argv)) == 1


def test_two_runs_under_every_attack(tmp_path: Path) -> None:
    """The second withstands PGD and not Square; what it is worth is the worst of both."""
    held = [(*row[:2], row[0], False, *row[4:]) for row in BY_HAND]
    with RowWriter(tmp_path / "a") as writer:
        for attack in ("pgd", "square"):
            writer.add(columns(attack=attack), columns(attack=attack, epsilon=0.001))
    changes = {"victim": "hard", "threat": "hard", "victim_fingerprint": "h"}
    with RowWriter(tmp_path / "b") as writer:
        writer.add(columns(held, **changes), columns(attack="square", **changes))
    argv = ["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--csv", str(tmp_path / "t")]
    assert report.main([*argv, "--out", str(tmp_path / "c.html")]) == 0
    matrix = (tmp_path / "t" / "comparison_matrix_1.csv").read_text()
    plain, hard = csv.DictReader(matrix.splitlines())
    assert [plain["run"], hard["run"]] == [str(tmp_path / "a"), str(tmp_path / "b")]
    # Of seven four are right before, one of which stays so under PGD as under Square.
    told = ("no_attack", "pgd_epsilon_0_01_l", "square_epsilon_0_01_l", "worst_case")
    assert [float(plain[each]) for each in told] == pytest.approx([4 / 7, 2 / 7, 2 / 7, 1 / 7])
    assert [float(hard[each]) for each in told] == pytest.approx([4 / 7, 1, 2 / 7, 1 / 7])
    text = (tmp_path / "c.html").read_text()
    # Square leaves less of the second run than PGD; one of its rows has no answer.
    assert "before, and after square, ε 0.01 L∞" in text
    for run in ("a", "b"):
        assert f"Confusion matrix of {tmp_path / run}, before: UAR 55.6%" in text
        assert f"Confusion matrix of {tmp_path / run}, after: UAR 27.8%" in text


def test_curves_of_two_runs_have_their_own_intervals() -> None:
    low = [Estimate(0.5, 0.3, 0.7), Estimate(0.2, 0.1, 0.4)]
    high = [Estimate(0.6, 0.4, 0.8), Estimate(0.5, 0.3, 0.7)]
    curves = [
        Curve("pgd, plain", [0.01, 0.1], low, colour=0, dashed=True, level=Estimate(0.9, 0.8, 1)),
        Curve("pgd, defended", [0.01, 0.1], high, colour=0, dashed=False),
    ]
    (axes,) = compared_figure("title", "ε (linf)", curves, log=True).axes
    drawn = {line.get_label(): line for line in axes.lines}
    for curve in curves:
        line = drawn[curve.name]
        assert list(line.get_ydata()) == [each.value for each in curve.accuracies]
        assert line.get_linestyle() == ("--" if curve.dashed else "-")
    assert drawn["pgd, plain"].get_color() == drawn["pgd, defended"].get_color()
    for band, curve in zip(axes.collections, curves, strict=True):
        heights = set(band.get_paths()[0].vertices[:, 1].round(6))
        assert heights == {y for each in curve.accuracies for y in (each.low, each.high)}
    assert [0.9, 0.9] in [list(line.get_ydata()) for line in axes.lines]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    ("sources", "counted", "share"),
    [
        (["u0", "u1", "u2"], "test: 3 utterances, 3 speakers;", "of utterances"),
        (["a", "a", "b"], "test: 3 inputs of 2 utterances, 3 speakers;", "of inputs"),
    ],
)
def test_certified_windows_are_not_called_utterances(
    sources: list[str], counted: str, share: str
) -> None:
    columns = certificate_columns(0.01) | {"source": sources}
    text = certificate_text(pa.table(columns, schema=CERTIFICATES))
    assert counted in " ".join(text.split())
    assert re.search(rf"clean speech +{share}\n", text)
    # Its table and the points of its curve count the same.
    found = pa.table(columns, schema=CERTIFICATES)
    assert share.removeprefix("of ") == curve_cells(found)[0][-1]
    assert share.removeprefix("of ") in certified_table([found], "utterance", group="").cells[0]


def test_certified_curves_of_two_runs(tmp_path: Path) -> None:
    for name, radius in (("a", 0.01), ("b", 0.02)):
        facts = {"defence": "trained with noise of σ 0.01" if name == "b" else None}
        with RowWriter(tmp_path / name, schema=CERTIFICATES, kind=KIND) as writer:
            writer.add(certificate_columns(radius, victim=f"emo18 runs/{name}", **facts))
        with RowWriter(tmp_path / name) as writer:
            writer.add(columns())
    argv = ["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--csv", str(tmp_path / "t")]
    assert report.main([*argv, "--out", str(tmp_path / "c.html")]) == 0
    lines = list(csv.DictReader((tmp_path / "t" / "certified.csv").read_text().splitlines()))
    assert [line["victim"] for line in lines] == [
        "emo18 runs/a",
        "emo18 runs/b (trained with noise of σ 0.01)",
    ]
    # At 1.5 σ of the smaller radius nothing is left, and of the larger all that is right.
    assert [float(line["1_5_sigma"]) for line in lines] == pytest.approx([0, 2 / 3])
    text = (tmp_path / "c.html").read_text()
    first, second = (f"σ 0.01, 1,000 draws, {tmp_path / name}: 67% to 0%" for name in ("a", "b"))
    assert f"Certified accuracy over the L2 radius: {first}; {second}." in text


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
        (["whole", "older"], "is of another version of jaxser: it lacks stoi, threat"),
        (["whole", "newer"], "is of another version of jaxser: it also has loudness"),
        (["nothing"], "it has no rows"),
        (["whole", "--table", "none.yaml"], "there is no config file none.yaml"),
        (["whole", "--epsilon", "0.5"], "no attack was run at epsilon 0.5; give one of 0.01"),
        (["whole", "--line", "a=b"], "give --table too"),
        (["--audio", "1", "--compare", "whole", "other"], "are for one report"),
        (["damaged"], "sweep.json is damaged"),
        (["--compare", "whole", "./whole"], "--compare has whole twice; give two runs"),
        (["--compare", "whole/attacks", "whole"], "lie in one another; give --compare two runs"),
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
    (file,) = (tmp_path / "whole").glob("*.parquet")
    rows = pq.read_table(file)
    for name, table_ in (
        ("older", rows.drop_columns(["stoi", "threat"])),
        ("newer", rows.append_column("loudness", rows["stoi"])),
        ("nothing", rows.slice(0, 0)),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(table_, tmp_path / name / "rows-1.parquet")
    assert report_errors(lambda: report.main(argv)) in (1, 2)
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_rows_are_read_at_any_depth(run: Path) -> None:
    assert len(read_rows(run)) == len(read_rows(run / "rows" / "pgd")) == 77
