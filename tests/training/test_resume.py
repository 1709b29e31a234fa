"""A killed run, started again, ends as one that was never stopped: real processes, real kills."""

import shlex
import signal
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from training_processes import (
    ENVIRONMENT,
    assert_same_run,
    command,
    interrupt,
    last_state,
    run,
)

import jaxser
from jaxser.config import TrainConfig, parse_command
from jaxser.training.run import train_victim

EPOCHS = 6


def arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--corpus.name", "csv", "--corpus.root", str(corpus), "--corpus.split", "given"),
        *("--corpus.sample_rate", "8000", "--corpus.seconds", "0.1", "--out", str(out)),
        *("--training.epochs", str(EPOCHS), "--training.batch_size", "6"),
        *("--training.checkpoint_minutes", "0.001", "--training.random_shift"),
        *more,
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    run(arguments(tiny_corpus, out), cache)
    return out


@pytest.mark.long
def test_killed_at_several_points(
    undisturbed: Path, tiny_corpus: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    # At once after an epoch (often within a save), and a little into a later one; that no other
    # moment is different is proven by the faults of every write.
    for epochs, delay in ((1, 0.0), (2, 0.02)):
        assert (
            interrupt(arguments(tiny_corpus, out), cache, epochs, delay, signal.SIGKILL)
            == -signal.SIGKILL
        )
    run(arguments(tiny_corpus, out), cache)
    assert_same_run(out, undisturbed)


@pytest.mark.long
def test_a_killed_training_against_an_attack(
    tiny_corpus: Path, cache: Path, tmp_path: Path
) -> None:
    """Weights that are perturbed, budgets that are drawn and grow, and attacks of random starts:
    what each draws is of the seed and the step."""
    of = "--training.adversarial."
    more = [of + "attack", "pgd", of + "params", "steps=2", of + "epsilon", "0.002", "0.02"]
    more += [of + "loss", "trades", of + "awp", "0.01", of + "warmup_epochs", "2.5"]
    more += [of + "watch_rows", "6", "--training.noise", "0.001", "--training.epochs", "4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(arguments(tiny_corpus, whole, *more), cache)
    argv = arguments(tiny_corpus, killed, *more)
    assert interrupt(argv, cache, 2, 0.1, signal.SIGKILL) == -signal.SIGKILL
    run(argv, cache)
    assert_same_run(killed, whole)


@pytest.mark.long
def test_sigterm_saves_and_says_so(
    undisturbed: Path, tiny_corpus: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    assert interrupt(arguments(tiny_corpus, out), cache, 2, 0.0, signal.SIGTERM) == 143
    assert not (out / "results.json").exists()
    run(arguments(tiny_corpus, out), cache)
    assert_same_run(out, undisturbed)


@pytest.mark.long
def test_finished_run_is_shown_again(undisturbed: Path, tiny_corpus: Path, cache: Path) -> None:
    before = last_state(undisturbed)
    assert "test" in run(arguments(tiny_corpus, undisturbed), cache)
    assert last_state(undisturbed) == before


@pytest.mark.long
def test_one_and_two_devices_agree(
    tiny_corpus: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has two virtual devices; the same run on one of them gives the same victim."""
    monkeypatch.setenv("JAXSER_CACHE", str(cache))
    logits = []
    for count in (1, 2):
        monkeypatch.setattr(jax, "devices", lambda *_, n=count: jax.local_devices()[:n])
        out = tmp_path / str(count)
        config = parse_command(
            TrainConfig, "p", "d", arguments(tiny_corpus, out, "--training.learning_rate", "1e-4")
        )
        assert train_victim(config).finished
        victim = jaxser.load_victim(out)
        x = np.random.default_rng(0).normal(0, 0.1, (4, 800)).astype(np.float32)
        logits.append(np.asarray(victim.logits(x)))
    np.testing.assert_allclose(logits[0], logits[1], rtol=2e-3, atol=2e-3)


@pytest.mark.long
def test_full_disk_loses_nothing(
    undisturbed: Path, tiny_corpus: Path, cache: Path, tmp_path: Path
) -> None:
    """A run on a disk that holds one checkpoint but not two, then on the same disk made larger."""
    disk, keep = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    train = shlex.join(command(arguments(tiny_corpus, disk / "run")))
    script = (
        f"mount -t tmpfs -o size=26m tmpfs {disk} || exit 99\n"
        f"{train}; echo status $?\n"
        f"ls {disk}/run/checkpoints/last\n"
        f"mount -o remount,size=200m {disk} && {train}; echo status $?\n"
        f"cp -r {disk}/run {keep}\n"
    )
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
            env={**ENVIRONMENT, "JAXSER_CACHE": str(cache)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this system")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no disk of our own can be mounted here: {done.stderr.strip()}")
    assert [line for line in done.stdout.splitlines() if line.startswith("status")] == [
        "status 1",
        "status 0",
    ], done.stdout + done.stderr
    assert "error: the disk is full while writing" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same_run(keep, undisturbed)
