"""How the package is laid out: thin commands, and no file too long to be read at once."""

from pathlib import Path

import pytest

from jaxser.__main__ import COMMANDS

PACKAGE = Path(__file__).resolve().parents[2] / "jaxser"
ENTRIES = [PACKAGE / "__init__.py", PACKAGE / "__main__.py"]
ROOMS = ("attacks", "corpora")
FILES = [PACKAGE / (f"{c}/__main__.py" if c in ROOMS else f"{c}.py") for c in COMMANDS]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", [*ENTRIES, *FILES], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_command_parses_calls_and_prints(path: Path) -> None:
    assert lines(path) <= 120


def test_no_file_has_more_than_400_lines() -> None:
    long = {str(p.relative_to(PACKAGE)): lines(p) for p in PACKAGE.rglob("*.py") if lines(p) > 400}
    assert not long
