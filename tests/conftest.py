"""Test settings: strict JAX, two virtual CPU devices, and the real corpora where present."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path

# Prepared audio and compiled programs of the tests stay out of the user's own cache.
os.environ["JAXSER_CACHE"] = str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "jaxser")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

CORPORA = Path(
    os.environ.get("JAXSER_CORPORA", Path(__file__).resolve().parents[2] / "shared" / "corpora")
)


def corpus_root(name: str) -> Path:
    """Folder of a real corpus; the test is skipped where it is absent."""
    root = CORPORA / name
    if not root.is_dir():
        pytest.skip(f"no real speech at {root}; set JAXSER_CORPORA to a folder that holds {name}/")
    return root


@pytest.fixture
def emodb_root() -> Path:
    return corpus_root("emodb")


@pytest.fixture
def emovo_root() -> Path:
    return corpus_root("emovo")


@pytest.fixture
def ravdess_root() -> Path:
    return corpus_root("ravdess")
