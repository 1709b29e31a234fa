"""Config files that come with jaxser are found from any folder, and out of a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxser.config import load_yaml
from jaxser.runtime.errors import UsageError

_ROOT = Path(__file__).parents[2]
_SHIPPED = sorted(path.relative_to(_ROOT) for path in (_ROOT / "configs").rglob("*.yaml"))


def test_a_config_is_found_from_any_folder(tmp_path, monkeypatch):
    expected = load_yaml(_ROOT / "configs/emo18_emodb.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_yaml(Path("configs/emo18_emodb.yaml")) == expected


def test_ones_own_file_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/emo18_emodb.yaml").write_text("out: mine\n")
    assert load_yaml(Path("configs/emo18_emodb.yaml")) == {"out": "mine"}


@pytest.mark.parametrize(
    "path",
    [
        "configs/nothing.yaml",
        "emo18_emodb.yaml",
        "configs/../pyproject.toml",
        "/configs/emo18_emodb.yaml",
    ],
)
def test_nothing_else_is_looked_for(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no config file"):
        load_yaml(Path(path))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, _ROOT], check=True, capture_output=True)
    (built,) = folder.glob("jaxser-*.whl")
    return built


@pytest.mark.long
def test_a_wheel_has_all_that_commands_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"jaxser/{path}" for path in _SHIPPED} <= names
    assert "jaxser/py.typed" in names


@pytest.mark.long
def test_the_demo_runs_from_a_wheel_in_an_empty_folder(wheel, tmp_path):
    """In an environment of its own, where there is no repository; a short demo."""
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pinned = ["--constraint", _ROOT / "constraints.txt", wheel]
    # Most of an installation is the compilation of modules that a short demo never imports.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    install = subprocess.run([*pip, *pinned], capture_output=True, text=True)
    if install.returncode != 0:
        pytest.skip(f"what jaxser needs cannot be installed here: {install.stderr[-300:]}")

    def jaxser(*arguments):
        settings = {**os.environ, "JAXSER_CACHE": str(tmp_path / "cache")}
        # As a user has it: not with the two devices of the tests.
        for name in ("PYTHONPATH", "XLA_FLAGS"):
            settings.pop(name, None)
        command = [environment / "bin" / "jaxser", *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    small = ("--corpus.seconds", "0.25", "--training.epochs", "1")
    assert "everything is in runs/demo" in jaxser("train", *small)
    attack = ("--attack", "configs/attacks/systematic_fgsm.yaml", "--epsilon", "0.001")
    assert "rows in runs/demo" in jaxser("attack", "--victim", "runs/demo", *attack, "--limit", "8")
    planned = jaxser("sweep", "configs/sweeps/demo.yaml", "--dry_run", "--limit", "4")
    assert "PGD-10 on runs/demo (seed 0): 4 utterances" in planned
    assert "report of 8 rows" in jaxser("report", "runs/demo", "--out", "report.html")
