"""What the pages tell to type exists: commands, their flags, config files and links."""

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import jaxser
from jaxser.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands with commands of their own -> where they are.
SPLIT = {"jaxser.corpora": "jaxser.corpora.__main__"}
LINE = re.compile(r"^ {4}(?:python -m )?((?:jaxser|benchmarks|scripts)[. ][\w]+)([^\n]*)", re.M)
NAMED = re.compile(r"\b(?:configs|examples|scripts|benchmarks/results)/[\w./-]+\.\w+")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def commands(page: Path) -> Iterator[tuple[str, list[str], str]]:
    """Module, flags and text of every command that stands on a page as a block."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in LINE.findall(text):
        module = name.replace(" ", ".")
        if module.startswith("jaxser.") and module.removeprefix("jaxser.") not in COMMANDS:
            continue
        if module in SPLIT:
            module += " " + rest.split()[0]
        yield module, re.findall(r"(?<!\S)--[\w.-]+", rest.partition(" #")[0]), f"{name}{rest}"


@functools.cache
def known_flags(module: str) -> frozenset[str]:
    module, *part = module.split()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as left:
        importlib.import_module(SPLIT.get(module, module)).main([*part, "--help"])
    assert left.value.code == 0
    return frozenset(re.findall(r"--[\w.-]*\w", said.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_flag_exists(page: Path) -> None:
    for module, flags, text in commands(page):
        if module.startswith("scripts."):
            continue
        unknown = set(flags) - known_flags(module)
        assert not unknown, f"{text}: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_exists(page: Path) -> None:
    for name in NAMED.findall(page.read_text(encoding="utf-8")):
        assert "NAME" in name or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor[1:] in {_anchor(heading) for heading in headings}, f"{target}{anchor}"


def _anchor(heading: str) -> str:
    """As the manual and code hosts name a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def test_what_pages_call_by_its_folder_is_had_from_jaxser_alone() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    called = set(re.findall(r"\bjaxser\.([a-z_]+)\.([A-Za-z_]+)\(", text))
    called = {(folder, name) for folder, name in called if f"import jaxser.{folder}" not in text}
    assert {("attacks", "PGD"), ("victims", "from_torch")} <= called
    for folder, name in called:
        # Not by getattr(jaxser, ...): another test's import would have put the folder there.
        assert hasattr(jaxser.__getattr__(folder), name), f"jaxser.{folder}.{name}"


def test_the_version_to_cite_is_this_one() -> None:
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["version"] == jaxser.__version__
