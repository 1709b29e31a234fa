"""What a code host runs is understood by actionlint, and tests the versions that are promised."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def test_the_oldest_versions_and_the_newest_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = next(text for text in project["dependencies"] if text.startswith("jax>="))
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    runs = [
        (run["python"], run["install"]) for run in jobs["test"]["strategy"]["matrix"]["include"]
    ]
    oldest_python = project["requires-python"].removeprefix(">=")
    assert any(
        python == oldest_python and f"jax=={oldest.removeprefix('jax>=')}" in install
        for python, install in runs
    )
    assert any(python == "3.13" and "--upgrade jax" in install for python, install in runs)


def test_every_part_of_the_check_is_there() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    ours = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = set(re.findall(r"make ([\w-]+)", text))
    assert asked >= {"test", "test-long", "test-peers", "docs"}
    assert all(re.search(rf"^{target}:", ours, re.M) for target in asked)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="there is no actionlint here")
def test_actionlint_has_nothing_to_say() -> None:
    done = subprocess.run(["actionlint", WORKFLOW], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
