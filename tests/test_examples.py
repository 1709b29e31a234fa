"""Examples of Python run. Scripts for clusters parse, and their flags and the guide's exist."""

import importlib
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from little_speech import use_little_speech

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".sh", ".yaml"))
SCRIPTS = [path for path in EXAMPLES if path.suffix == ".sh"]
MANIFESTS = [path for path in EXAMPLES if path.suffix == ".yaml"]
SHELL_LINES = re.compile(r"\\\n\s*")
COMMAND = re.compile(r"python -m ((?:jaxser|benchmarks)\.\w+)([^\n]*)")


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Modules that a file runs, with their flags."""
    for module, rest in COMMAND.findall(SHELL_LINES.sub(" ", path.read_text())):
        yield module, re.findall(r"(?<![\w-])--[\w-]+", rest)


def test_there_is_one_for_each_kind_of_cluster() -> None:
    assert [path.name for path in EXAMPLES] == [
        "gke.yaml",
        "kuberay.yaml",
        "ray.sh",
        "slurm.sh",
        "tpu_pod.sh",
    ]
    guide = (ROOT / "docs" / "scaling.md").read_text()
    assert all(f"examples/{path.name}" in guide for path in EXAMPLES)


@pytest.mark.parametrize(
    "path", [*EXAMPLES, ROOT / "docs" / "scaling.md"], ids=lambda path: path.name
)
def test_flags_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(commands(path))
    assert "jaxser.sweep" in {module for module, _ in found}
    for module, flags in found:
        with pytest.raises(SystemExit) as left:
            importlib.import_module(module).main(["--help"])
        assert left.value.code == 0
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert set(flags) <= known, module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", path]).returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_say_what_they_need(path: Path) -> None:
    done = subprocess.run(["bash", path], capture_output=True, text=True)
    assert done.returncode != 0
    assert "give the sweep file" in done.stderr


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_of_kubernetes(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert {"apiVersion", "kind", "metadata", "spec"} <= document.keys()


def test_the_pods_of_the_job_find_the_first_one() -> None:
    """Counts and names stand in several places."""
    service, job = yaml.safe_load_all((ROOT / "examples" / "gke.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"][-1]
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert f"--coordinator {name}-0.{pod['subdomain']}:" in command
    assert f"--processes {spec['completions']} " in command
    assert spec["parallelism"] == spec["completions"]
    assert spec["completionMode"] == "Indexed"
    (volume,) = pod["volumes"]
    assert [each["name"] for each in container["volumeMounts"]] == [volume["name"]]


@pytest.fixture
def small_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to run in, and synthetic speech that is soon made."""
    use_little_speech(monkeypatch, tmp_path, utterances=1)


@pytest.mark.parametrize("name", ["my_attack", "my_victim"])
def test_examples_of_python_run(
    name: str, small_speech: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "examples" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    runpy.run_path(str(path), run_name="__main__")
    said = re.findall(r"AttackResult\((\w+), .* robust accuracy (.*)\)", capsys.readouterr().out)
    accuracy = {attack: [float(x.rstrip("%")) for x in shares.split()] for attack, shares in said}
    assert accuracy["pgd"][-1] < 50
    if name == "my_attack":
        assert accuracy["noise"][-1] > accuracy["loudpgd"][-1] > accuracy["pgd"][-1]


def test_the_notebook_runs(small_speech: None, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    names: dict[str, Any] = {}
    for cell in cells:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert "0.001: 0% are still right" in said
    assert "quick-1 on spectra: 3 attacks" in said
    assert Path("robustness.png").exists()
    assert list(Path("runs/quickstart").rglob("rows-*.parquet"))
