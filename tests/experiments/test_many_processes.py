"""Sweeps in several processes and on Ray: the rows are those of one process, each once."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_sweep import TEST_ROWS, plain, sweep_file
from untrained_run import make_run

from jaxser import sweep
from jaxser.results.outcomes import read_outcomes
from jaxser.runtime import sharding
from jaxser.runtime.errors import InputError, report_errors
from jaxser.runtime.locks import held
from jaxser.runtime.sharding import WHOLE, Share, join_processes

# One batch shape for all, so that rows are the same bit for bit.
SAME_SHAPES = {"batch_size": 4}
ATTACKS = ["fgsm", {"name": "slow", "attack": "pgd", "parameters": {"steps": 20}}]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="without Ray")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a victim and a sweep file."""
    root = tmp_path_factory.mktemp("many")
    sweep_file(root / "s.yaml", [make_run(root)], attacks=ATTACKS, **SAME_SHAPES)
    return root


@pytest.fixture(scope="module")
def made(given: Path) -> Path:
    """The same with the rows that one process makes, under ``whole``."""
    assert sweep.main([str(given / "s.yaml"), "--out", str(given / "whole")]) == 0
    return given


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def start(made: Path, out: str, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jaxser.sweep", made / "s.yaml", "--out", made / out, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_all(made: Path, out: str, count: int, *flags: str) -> list[subprocess.Popen[str]]:
    where = ["--coordinator", f"localhost:{free_port()}", "--processes", str(count)]
    return [start(made, out, *where, "--process", str(i), *flags) for i in range(count)]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit status and output of each."""
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    return [(p.returncode, text) for p, text in zip(processes, outputs, strict=True)]


def assert_same_rows(made: Path, out: str) -> None:
    found, whole = plain(made / out), plain(made / "whole")
    assert len(whole) == len(ATTACKS) * 2 * TEST_ROWS
    for name in ("clean_logits", "logits"):  # their last bits depend on how many share a batch
        each = [np.array([row.pop(name) for row in rows]) for rows in (found, whole)]
        np.testing.assert_allclose(*each, rtol=0, atol=1e-5)
    np.testing.assert_equal(found, whole)  # NaN equals NaN here


def wait_for_rows(folder: Path, count: int = 1) -> None:
    end = time.monotonic() + 600
    while len(list(folder.rglob("rows-*.parquet"))) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.long
def test_processes_make_the_rows_of_one(made: Path) -> None:
    """Four share six utterances, so their shares are not of one size."""
    out, count = "shared", 4
    for i, (status, text) in enumerate(ended(start_all(made, out, count))):
        assert status == 0, text
        assert f"of process {i} of {count}" in text
        assert ("1 of 2: fgsm" in text) == (i == 0)  # one of them tells how far it is
    assert_same_rows(made, out)
    assert len(list((made / out).glob("sweep*.json"))) == count
    assert sum(each.rows for each in read_outcomes(made / out)) == 2 * 2 * TEST_ROWS


@pytest.mark.long
def test_one_that_is_killed_holds_up_no_other_and_others_finish_its_rows(made: Path) -> None:
    """Process 0 dies, which the others do not notice; another number of them does the rest."""
    first, second = start_all(made, "killed", 2)
    wait_for_rows(made / "killed")
    first.send_signal(signal.SIGKILL)
    (_, (status, text)) = ended([first, second])
    assert status == 0, text
    there = plain(made / "killed")
    assert 2 * TEST_ROWS <= len(there) < 4 * TEST_ROWS
    assert [status for status, _ in ended([start(made, "killed")])] == [0]
    assert_same_rows(made, "killed")
    assert [path.name for path in (made / "killed").glob("sweep*.json")] == ["sweep.json"]


@pytest.mark.long
def test_what_fails_is_noted_by_each(made: Path, tmp_path: Path) -> None:
    square = {"compat": "torchattacks"}
    bad = {"name": "cannot", "attack": "pixle", "parameters": square, "epsilon": [100]}
    sweep_file(tmp_path / "s.yaml", [made / "run"], attacks=[bad, "fgsm"], epsilon=[0.1])
    for status, text in ended(start_all(tmp_path, "out", 2)):
        assert status == 1
        assert "failed: cannot on" in text
    outcomes = read_outcomes(tmp_path / "out")
    assert sorted(each.rows for each in outcomes) == [0, 0, 3, 3]
    assert sum("square inputs only" in each.reason for each in outcomes) == 2


@pytest.mark.long
def test_a_folder_in_use_is_refused_to_all(made: Path) -> None:
    with held(made / "busy", "swept", shared=True):
        (first, told), (second, why) = ended(start_all(made, "busy", 2))
    assert (first, second) == (1, 1)
    assert "is being swept by another process" in told
    assert "process 0 may not sweep" in why
    assert not list((made / "busy").rglob("*.parquet"))


@pytest.mark.long
def test_those_that_share_a_folder_keep_out_one_that_wants_it_alone(tmp_path: Path) -> None:
    with (
        held(tmp_path, "swept", shared=True),
        held(tmp_path, "swept", shared=True),
        pytest.raises(InputError, match="is being swept"),
        held(tmp_path, "swept"),
    ):
        pass
    with (
        held(tmp_path, "swept"),
        pytest.raises(InputError, match="is being swept"),
        held(tmp_path, "swept", shared=True),
    ):
        pass


MEETING = """
import os, signal, sys
from jaxser.runtime.sharding import join_processes, leave_processes, same_everywhere

share = join_processes(sys.argv[1], 2, int(sys.argv[2]))
print(same_everywhere(share, f"from {share.index}"), flush=True)
leave_processes()
os.kill(os.getpid(), signal.SIGTERM)
print("still there")
"""


@pytest.mark.long
def test_after_they_have_met_each_ends_when_told_to() -> None:
    where = f"localhost:{free_port()}"
    command = [sys.executable, "-c", MEETING, where]
    both = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(2)
    ]
    assert ended(both) == [(-signal.SIGTERM, "from 0\n")] * 2


@pytest.mark.long
def test_all_are_given_the_same_sweep(made: Path) -> None:
    where = ["--coordinator", f"localhost:{free_port()}", "--processes", "2", "--limit"]
    first = start(made, "unlike", *where, "2", "--process", "0")
    second = start(made, "unlike", *where, "3", "--process", "1")
    (status, _), (other, why) = ended([first, second])
    assert (status, other) == (0, 2)
    assert "given another sweep than process 0" in why


def test_shares_are_the_whole() -> None:
    for total in (0, 3, 7):
        for count in (1, 2, 5):
            parts = [Share(i, count).rows(total) for i in range(count)]
            assert sorted(np.concatenate(parts)) == list(range(total))
    assert WHOLE.rows(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--process 1", "give all three"),
        ("--processes 4", "give all three"),
        ("--coordinator here:1234", "needs --processes N and --process I"),
        ("--coordinator here:1234 --processes 4", "needs --processes N and --process I"),
        ("--coordinator here:1234 --processes 2 --process 2", "2 processes end at 1"),
        ("--coordinator here:1234 --processes 0 --process 0", "at least 1, not 0"),
        ("--coordinator here --processes 2 --process 1", "must be HOST:PORT"),
        ("--coordinator auto --process 1", "give all three"),
        ("--coordinator auto", "JAX could not detect the processes"),
        ("--workers 2", "--engine ray"),
        ("--engine ray --processes 2", "finds its own processes"),
    ],
)
def test_mistakes_are_one_sentence(
    given: Path, capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    argv = [str(given / "s.yaml"), "--out", str(given / "none"), *flags.split()]
    assert report_errors(lambda: sweep.main(argv)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (given / "none").exists()


def test_a_coordinator_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "_SECONDS_TO_JOIN", 0)
    with pytest.raises(InputError, match="process 0 does not answer at localhost"):
        join_processes(f"localhost:{free_port()}", 2, 1)


@pytest.mark.parametrize(
    ("environment", "together"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # a batch script, before srun
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_what_counts_as_started_together(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], together: bool
) -> None:
    """Where it does, JAX is asked; elsewhere a sweep is one process and waits for nobody."""
    joined = []
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sharding, "_join_detected", lambda: joined.append(True))
    assert join_processes() == WHOLE
    assert bool(joined) == together
    joined.clear()
    assert join_processes(processes=1) == WHOLE
    assert not joined


# --- on Ray --------------------------------------------------------------------------------------


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.long
@needs_ray
@pytest.mark.usefixtures("no_cluster")
def test_a_worker_that_is_killed_is_replaced(made: Path) -> None:
    """SIGKILL in the middle of a task: the others go on, and every row is there once."""
    process = start(made, "ray", "--engine", "ray", "--workers", "2")
    wait_for_rows(made / "ray", 3)
    workers = list(workers_of(process.pid))
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    ((status, text),) = ended([process])
    assert status == 0, text
    assert_same_rows(made, "ray")
    (first, second) = json.loads((made / "ray/sweep.json").read_text())
    assert first["state"] == second["state"] == "done"
    assert first["rows"] == second["rows"] == 2 * TEST_ROWS


def workers_of(driver: int) -> Iterator[int]:
    """Processes below the driver that are actors of a sweep, by the name that Ray gives them."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    for process in parents:
        above = process
        while above in parents and above != driver:
            above = parents[above]
        if above == driver and "_Worker" in Path(f"/proc/{process}/cmdline").read_text():
            yield process


@pytest.mark.long
@needs_ray
@pytest.mark.usefixtures("no_cluster")
def test_no_workers_are_none(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(made / "s.yaml"), "--out", str(made / "none"), "--engine", "ray", "--workers", "0"]
    assert report_errors(lambda: sweep.main(argv)) == 2
    assert "--workers must be at least 1" in capsys.readouterr().err


def test_without_ray(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jaxser.experiments import ray_engine

    monkeypatch.setattr(ray_engine, "ray", None)
    argv = [str(given / "s.yaml"), "--out", str(given / "absent"), "--engine", "ray"]
    assert report_errors(lambda: sweep.main(argv)) == 2
    assert "jaxser[ray]" in capsys.readouterr().err
