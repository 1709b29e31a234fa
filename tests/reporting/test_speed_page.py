"""docs/speed.md is what ``python -m benchmarks.page`` writes, with every file that was measured."""

import importlib
import json
import re
import shutil
import statistics
from pathlib import Path

import pytest

from benchmarks.page.__main__ import NOTES, main, page
from benchmarks.page.beside_peers import whole_attacks_table
from benchmarks.page.table import digits, markdown, reach
from jaxser.runtime.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "speed.md"
FILES = sorted(path.name for path in RESULTS.glob("*.json"))
COMMAND = re.compile(r"^python -m (benchmarks\.\w+)(.*)$", re.MULTILINE)


def test_the_page_is_what_the_command_writes(tmp_path: Path) -> None:
    out = tmp_path / "speed.md"
    assert main(["--results", str(RESULTS), "--out", str(out)]) == 0
    assert out.read_text() == PAGE.read_text(), "write it anew: python -m benchmarks.page"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there_with_its_device(name: str) -> None:
    device = json.loads((RESULTS / name).read_text())["environment"]["device"]
    assert f"# {name}: {device}" in PAGE.read_text()


def test_commands_have_the_flags_that_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, set[str]] = {}
    for module, rest in COMMAND.findall(PAGE.read_text()):
        found.setdefault(module, set()).update(re.findall(r"--[\w-]+", rest))
    assert len(found) == 15
    for module, flags in found.items():
        with pytest.raises(SystemExit) as left:
            importlib.import_module(module).main(["--help"])
        assert left.value.code == 0
        assert flags <= set(re.findall(r"--[\w-]+", capsys.readouterr().out)), module


def test_ratios_are_those_of_the_files() -> None:
    """Of a benchmark of attacks, of one with several sides, and of whole attacks."""
    text = PAGE.read_text()
    report = json.loads((RESULTS / "attacks_torchattacks_2s_gradient.json").read_text())
    for each in report["comparisons"]:
        for ratios in filter(None, (each["ratios"], each["making_ratios"])):
            assert f"| {reach(statistics.median(ratios), ratios)} |" in text
    report = json.loads((RESULTS / "generator_6s_h100.json").read_text())
    for each in report["measured"]:
        if each["side"].startswith("jaxser") and min(each["ratios"]) != max(each["ratios"]):
            assert f"| {reach(statistics.median(each['ratios']), each['ratios'])} |" in text
    table = whole_attacks_table([report])
    assert [line[2:5] for line in table[1:]] == [
        ["STAA-Net", "PGD-20 on emo18", "1 (1)"],
        ["STAA-Net", "PGD-20 on emo18", "32 (32)"],
    ]


def test_a_file_without_a_place_and_a_place_without_a_file(tmp_path: Path) -> None:
    shutil.copytree(RESULTS, tmp_path / "results")
    shutil.copy(RESULTS / "rows.json", tmp_path / "results" / "made_up.json")
    with pytest.raises(UsageError, match=r"made_up\.json of .* has no place on the page"):
        page(tmp_path / "results")
    for place in ("{{rows absent.json}}", "{{nothing rows.json}}"):
        with pytest.raises(UsageError, match="and the tables are attacks, systematic"):
            page(RESULTS, NOTES.read_text() + place)
    with pytest.raises(InputError, match="holds no"):
        page(tmp_path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (float("nan"), "–"),
        (2.8149, "2.81"),
        (42.03, "42.0"),
        (177_169.4, "177,169"),
        (0.00867, "0.00867"),
        (0.005, "0.005"),
    ],
)
def test_three_digits(value: float, shown: str) -> None:
    assert digits(value) == shown


def test_columns_without_figures_are_left_out() -> None:
    table = [["a", "|b|", "c"], ["1", "2", "–"], ["", "3", "–"]]
    assert markdown(table) == "| a | \\|b\\| |\n| --- | --- |\n| 1 | 2 |\n|  | 3 |"
