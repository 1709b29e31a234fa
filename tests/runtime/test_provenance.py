"""What results say of the machine they were made on."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from jaxser.runtime.provenance import device_name, environment


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks the kernel for the processor")
def test_processors_of_one_name_are_told_apart() -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    name = device_name()
    for field in ("model name", "cpu family", "model"):
        found = re.search(rf"^{field}\s*: (.+)$", cpuinfo, re.MULTILINE)
        if found:  # other architectures have other fields
            assert found[1] in name


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks run without what reads speech."""
    version = importlib.metadata.version

    def without_soxr(name: str) -> str:
        if name == "soxr":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_soxr)
    packages = environment()["packages"]
    assert isinstance(packages, dict)
    assert packages["jax"] == version("jax")
    assert "soxr" not in packages
