"""What results say of the machine they were made on."""

import re
from pathlib import Path

import pytest

from jaxser.provenance import device_name


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks the kernel for the processor")
def test_processors_of_one_name_are_told_apart() -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    name = device_name()
    for field in ("model name", "cpu family", "model"):
        found = re.search(rf"^{field}\s*: (.+)$", cpuinfo, re.MULTILINE)
        if found:  # other architectures have other fields
            assert found[1] in name
