"""A tiny labelled corpus on disk, for runs of the real command."""

from pathlib import Path

import pytest
from tiny_corpus import write_tiny_corpus


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tones and noise in 48 files of 0.1 s at 8 kHz, speaker-disjoint parts in the CSV."""
    return write_tiny_corpus(tmp_path_factory.mktemp("tiny"))
