"""``run.json`` of a run folder: what was recorded, read as what it must be.

facts = read_facts(Path("runs/demo/run.json"))
facts["labels"]                                # ["anger", "joy", ...]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxser.runtime.errors import InputError
from jaxser.runtime.files import read_json

__all__ = ["read_facts"]

_ADVICE = "restore it from a copy, or train again"


def read_facts(path: Path) -> dict[str, Any]:
    """What a run recorded; what victims are made of is checked, the rest is as it is.

    Raises:
      InputError: it is not JSON, or lacks labels or what is known of the corpus.
    """
    facts = read_json(path, _ADVICE)
    problem = _problem(facts)
    if problem:
        raise InputError(f"{path} is not what training wrote there ({problem}); {_ADVICE}.")
    found: dict[str, Any] = facts
    return found


def _problem(facts: Any) -> str:
    """What is wrong with them, or ""."""
    if not isinstance(facts, Mapping):
        return "it holds no facts"
    labels, corpus = facts.get("labels"), facts.get("corpus")
    if not _is_names(labels) or not labels or len(set(labels)) < len(labels):
        return "its labels are no list of different names"
    if not isinstance(corpus, Mapping):
        return "it has no corpus"
    if not isinstance(corpus.get("fingerprint"), str) or not _is_names(corpus.get("notes")):
        return "its corpus has no fingerprint or no notes"
    return ""


def _is_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)
