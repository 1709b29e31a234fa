"""The peers can be installed beside each other."""

import importlib
import importlib.util

import pytest

pytestmark = pytest.mark.peers


def test_torchvision_is_left_out_or_fits_torch() -> None:
    """One that was built for another torch makes transformers fail wherever it looks for it."""
    if importlib.util.find_spec("torchvision") is not None:
        importlib.import_module("torchvision")


def test_torchattacks_needs_nothing_else() -> None:
    assert importlib.import_module("torchattacks").PGD
