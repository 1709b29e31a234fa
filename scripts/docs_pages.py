"""Pages of the manual that are made when it is built; MkDocs calls the functions (``make docs``).

README, CONTRIBUTING and CHANGELOG lie beside ``docs/`` and become pages of it; the page of all
public Python names is made from what the package exports.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]

# Page of the manual -> the file that it is.
_BESIDE = {
    "start.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}

# Heading of the page of public names -> the package whose names stand there.
_PUBLIC = {
    "Running attacks": (
        "jaxser",
        ("run_attack", "benchmark", "load_victim", "load_generator", "Victim"),
    ),
    "Attacks": ("jaxser.attacks", None),
    "Models": ("jaxser.models", None),
    "Victims": ("jaxser.victims", None),
    "Corpora": ("jaxser.corpora", None),
}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages that are no files of ``docs/``."""
    for page, source in _BESIDE.items():
        content = _within_docs((_ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=content))
    files.append(File.generated(config, "reference.md", content=_reference()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links from ``docs/`` to the files beside it lead to their pages."""
    for page, source in _BESIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


def _within_docs(text: str) -> str:
    text = re.sub(r"\]\(docs/", "](", text)
    for page, source in _BESIDE.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text


def _reference() -> str:
    """Every public name under the heading of its package."""
    import importlib

    lines = ["# Public Python names", "", "Submodules and functions are imported on first use.", ""]
    for heading, (package, names) in _PUBLIC.items():
        module = importlib.import_module(package)
        lines += [f"# {heading}", ""]
        for name in names or module.__all__:
            value = getattr(module, name)
            where = getattr(value, "__module__", None)
            if where is None or not callable(value):
                continue
            lines += [f"::: {where}.{value.__qualname__}", ""]
    return "\n".join(lines)
