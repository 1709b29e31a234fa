"""Pages of the manual that are made when it is built; MkDocs calls the functions (``make docs``).

README, CONTRIBUTING and CHANGELOG lie beside ``docs/`` and become pages of it; the page of all
public Python names is made from what the package exports.
"""

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]

# Page of the manual -> the file that it is.
_BESIDE = {
    "start.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}

_TO_CODE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")

# Headings of the page of public names, and the packages whose ``__all__`` stands there.
PUBLIC = {
    "Running attacks": ("jaxser",),
    "Attacks": ("jaxser.attacks",),
    "Losses": ("jaxser.attacks.losses", "jaxser.training.robust_losses"),
    "Models": ("jaxser.models",),
    "Front ends": (
        "jaxser.speech.features",
        "jaxser.speech.images",
        "jaxser.speech.colours",
        "jaxser.speech.constant_q",
        "jaxser.speech.mel",
        "jaxser.speech.stft",
    ),
    "Victims": ("jaxser.victims",),
    "Corpora": ("jaxser.corpora",),
    "Rows": ("jaxser.results",),
    "Metrics": (
        "jaxser.results.metrics",
        "jaxser.results.perturbation",
        "jaxser.results.intelligibility",
    ),
}

_BEFORE = """# Public Python names

Submodules and functions are imported on first use. `make test` runs every example: in a folder that
holds `speech/table.csv`, a [table of recordings](corpora.md#a-table-of-your-own), `runs/demo`, what
`jaxser train` left, and `attacked`, rows of `jaxser attack`.
"""


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the pages that are no files of ``docs/``."""
    from mkdocs.structure.files import File

    for page, source in _BESIDE.items():
        content = _within_docs((_ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=content))
    files.append(File.generated(config, "reference.md", content=_reference()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links from ``docs/`` to the files beside it lead to their pages; of code the name is left."""
    for page, source in _BESIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return _TO_CODE.sub(r"\1", markdown)


def _within_docs(text: str) -> str:
    text = re.sub(r"\]\(docs/", "](", text)
    for page, source in _BESIDE.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text


def public(package: str) -> Iterator[tuple[str, Any]]:
    """Names of a package and what they are, of those that are classes or functions."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


@functools.cache
def places() -> dict[str, str]:
    """By every name that has a place on the page of public names: the one that it has there."""
    found: dict[str, str] = {}
    for package in (package for packages in PUBLIC.values() for package in packages):
        for name, value in public(package):
            place = f"{value.__module__}.{value.__qualname__}"
            found |= {f"{package}.{name}": place, place: place}
    return found


def _reference() -> str:
    """Every public name once, under the heading of its package."""
    lines, shown = [_BEFORE], set[str]()
    for heading, packages in PUBLIC.items():
        lines += [f"# {heading}", ""]
        named = [f"{package}.{name}" for package in packages for name, _ in public(package)]
        for place in map(places().__getitem__, named):
            if place not in shown:
                shown.add(place)
                lines += [f"::: {place}", ""]
    return "\n".join(lines)
