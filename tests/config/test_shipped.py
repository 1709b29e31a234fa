"""Config files that come with jaxser are found from any folder, and out of a wheel."""

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


@pytest.mark.long
def test_a_wheel_has_all_that_commands_read(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, _ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("jaxser-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert set(map(str, _SHIPPED)) <= {n.removeprefix("jaxser/") for n in archive.namelist()}
        assert "jaxser/py.typed" in archive.namelist()
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = (
        "from pathlib import Path; from jaxser.config import load_yaml, shipped; "
        "print(shipped.__file__); print(load_yaml(Path('configs/emo18_emodb.yaml'))['out'])"
    )
    site = str(tmp_path / "site")
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=elsewhere,
        env={"PYTHONPATH": site},
        capture_output=True,
        text=True,
    )
    where, out = run.stdout.split()
    assert where.startswith(site)
    assert out == "runs/emo18_emodb"
