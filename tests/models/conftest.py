"""Double precision for comparisons of a layer with its textbook form."""

import jax
import pytest


@pytest.fixture
def double():
    """Formulas that are equal agree to 1e-12 or so; near-ties cannot blur a comparison."""
    with jax.enable_x64(True):
        yield
