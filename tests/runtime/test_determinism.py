"""Flags by which a GPU computes the same bits in every run; a CPU takes them, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxser import train
from jaxser.runtime.determinism import KERNELS_FILE, be_deterministic
from jaxser.runtime.errors import UsageError, report_errors
from jaxser.training.folder import run_folder


@pytest.fixture(autouse=True)
def flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")


def told() -> list[str]:
    return os.environ["XLA_FLAGS"].split()


def test_the_choice_is_kept_beside_the_run_and_taken_again(tmp_path: Path) -> None:
    kernels = tmp_path.resolve() / KERNELS_FILE
    assert not be_deterministic(tmp_path, asked=False)
    assert told() == ["--xla_cpu_enable_fast_math=false"]
    assert be_deterministic(tmp_path, asked=True)
    assert told() == [
        "--xla_cpu_enable_fast_math=false",
        "--xla_gpu_exclude_nondeterministic_ops=true",
        f"--xla_gpu_dump_autotune_results_to={kernels}",
    ]


def test_a_run_that_was_begun_so_goes_on_so(tmp_path: Path) -> None:
    (tmp_path / KERNELS_FILE).write_text("")
    assert be_deterministic(tmp_path, asked=False)
    assert told()[-1].endswith(f"autotune_results_from={tmp_path.resolve() / KERNELS_FILE}")


def test_each_process_keeps_its_own_choice(tmp_path: Path) -> None:
    """It begins with that of the first one where it has none."""
    own, first = (tmp_path.resolve() / name for name in ("autotuning-2.textproto", KERNELS_FILE))
    assert be_deterministic(tmp_path, asked=True, process=2)
    assert told()[-1] == f"--xla_gpu_dump_autotune_results_to={own}"
    first.write_text("")
    assert be_deterministic(tmp_path, asked=False, process=2)
    assert told()[-2:] == [
        f"--xla_gpu_dump_autotune_results_to={own}",
        f"--xla_gpu_load_autotune_results_from={first}",
    ]
    own.write_text("")
    assert be_deterministic(tmp_path, asked=False, process=2)
    assert told()[-1] == f"--xla_gpu_load_autotune_results_from={own}"
    with run_folder(tmp_path):
        pass  # none of them is a stranger's


def test_the_choice_of_another_run_is_taken(tmp_path: Path) -> None:
    """XLA reads it when it first compiles, and takes no folder or file that is not there."""
    out = tmp_path / "new" / "run"
    assert be_deterministic(out, asked=True)
    assert out.is_dir()
    (out / KERNELS_FILE).write_text("kernels")
    with pytest.raises(KeyError), run_folder(out):
        raise KeyError  # a start that fails leaves nothing of its own
    assert (out / KERNELS_FILE).read_text() == "kernels"


def test_folders_that_xla_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one"):
        be_deterministic(None, asked=True)
    with pytest.raises(UsageError, match="no path with a blank"):
        be_deterministic(tmp_path / "a run", asked=True)
    argv = ["--deterministic", "--out", str(tmp_path / "a run")]
    assert report_errors(lambda: train.main(argv)) == 2


@pytest.mark.long
def test_xla_knows_the_flags(tmp_path: Path) -> None:
    """It ends a process that is given one that it does not know."""
    text = """
from pathlib import Path
from jaxser.runtime.determinism import be_deterministic
be_deterministic(Path("."), asked=True)
import jax
assert jax.jit(lambda x: x + 1)(1) == 2
"""
    subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)
