"""Synthetic speech that is soon made, for what runs as a reader types it."""

import inspect
from pathlib import Path

import pytest

from jaxser.corpora.synthetic.folder import generate


def use_little_speech(monkeypatch: pytest.MonkeyPatch, folder: Path, utterances: int) -> None:
    """Run in ``folder`` with a cache of its own; six speakers say each emotion so many times."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAXSER_CACHE", str(folder / "cache"))
    few = {"speakers": 6, "utterances_per_speaker_and_emotion": utterances}
    made = inspect.unwrap(generate)  # where annotations are checked, the name is of the check
    monkeypatch.setattr(made, "__kwdefaults__", {**(made.__kwdefaults__ or {}), **few})
