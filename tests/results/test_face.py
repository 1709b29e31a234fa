"""The faces of packages: every name is there, and imported no sooner than it is used."""

import subprocess
import sys
from types import ModuleType

import pytest

import jaxser.reporting.figures
import jaxser.results


@pytest.mark.parametrize("face", [jaxser.results, jaxser.reporting.figures])
def test_every_name_of_a_face_is_there(face: ModuleType) -> None:
    names = face.__all__
    assert names
    assert all(getattr(face, name) is not None for name in names)
    assert set(names) <= set(dir(face))
    with pytest.raises(AttributeError, match="no attribute 'rows_of'"):
        _ = face.rows_of


def test_metrics_do_not_wait_for_pyarrow_nor_bars_for_jax() -> None:
    code = (
        "import sys, jaxser.results.metrics; assert 'pyarrow' not in sys.modules\n"
        "import jaxser.reporting.figures.bars; assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
