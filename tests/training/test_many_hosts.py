"""Several processes train one network on all their devices: the parameters are those of one."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from training_processes import ENVIRONMENT, command, parameters, run

from jaxser import load_generator, train
from jaxser.runtime.errors import report_errors

# Batches of six: four devices have two, two, one and one of them.
SETTINGS = [
    *("--corpus.name", "csv", "--corpus.split", "given", "--corpus.sample_rate", "8000"),
    *("--corpus.seconds", "0.1", "--training.batch_size", "6", "--training.random_shift"),
]


def arguments(corpus: Path, out: Path, epochs: int) -> list[str]:
    given = ["--corpus.root", str(corpus), "--out", str(out), "--training.epochs", str(epochs)]
    return [*SETTINGS, *given]


def start_two(arguments: list[str], cache: Path) -> list[subprocess.Popen[str]]:
    """Two processes with two devices each."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAXSER_CACHE": str(cache),
    }
    where = ["--coordinator", f"localhost:{port}", "--processes", "2", "--process"]
    return [
        subprocess.Popen(
            command([*arguments, *where, str(index)]),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]


def start_one(arguments: list[str], cache: Path) -> subprocess.Popen[str]:
    environment = {**ENVIRONMENT, "JAXSER_CACHE": str(cache)}
    return subprocess.Popen(
        command(arguments), env=environment, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    return [(p.returncode, text) for p, text in zip(processes, outputs, strict=True)]


def assert_near(mine: Path, theirs: Path) -> None:
    """In parameters and statistics, and in what they make of the test part."""
    for ours, others in zip(parameters(mine), parameters(theirs), strict=True):
        np.testing.assert_allclose(ours, others, rtol=0, atol=2e-4)
    tests = [json.loads((out / "results.json").read_text())["test"] for out in (mine, theirs)]
    assert tests[0]["loss"] == pytest.approx(tests[1]["loss"], abs=1e-3)
    assert tests[0]["confusion"] == tests[1]["confusion"]


@pytest.mark.long
def test_two_processes_train_as_one(tiny_corpus: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(arguments(tiny_corpus, tmp_path / "one", 2), cache)
    (first, told), (second, silent) = ended(
        start_two(arguments(tiny_corpus, tmp_path / "two", 2), cache)
    )
    assert (first, second) == (0, 0), told + silent
    assert "test" in told
    assert "epoch" not in silent  # process 0 tells how far it is
    assert_near(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
def test_two_processes_train_a_generator_as_one(tiny_corpus: Path, tmp_path: Path) -> None:
    cache, threat = tmp_path / "cache", tmp_path / "threat"
    run(arguments(tiny_corpus, threat, 1), cache)

    def generator(out: Path) -> list[str]:
        given = ["--threat", str(threat), "--generator.widths", "8", "16"]
        given += ["--training.monitor", "last", "--training.learning_rate", "0.001"]
        speech = arguments(tiny_corpus, out, 2)
        speech.remove("--training.random_shift")
        return [*speech, *given]

    run(generator(tmp_path / "one"), cache)
    (first, told), (second, silent) = ended(start_two(generator(tmp_path / "two"), cache))
    assert (first, second) == (0, 0), told + silent
    assert "epoch" not in silent
    one, two = (load_generator(tmp_path / name).variables for name in ("one", "two"))
    for ours, others in zip(*map(jax.tree.leaves, (one, two)), strict=True):
        np.testing.assert_allclose(ours, others, rtol=0, atol=2e-4)
    assert (tmp_path / "two" / "results.json").is_file()
    assert (tmp_path / "two" / "example_test").is_dir()


@pytest.mark.long
def test_all_stop_where_one_is_told_to_and_another_number_goes_on(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    both = start_two(arguments(tiny_corpus, tmp_path / "out", 50), tmp_path / "cache")
    assert both[0].stdout is not None
    assert any(line.startswith("epoch 2") for line in both[0].stdout)
    both[1].send_signal(signal.SIGTERM)
    for status, text in ended(both):
        assert status == 128 + signal.SIGTERM, text
        assert "stopped after" in text
    history = (tmp_path / "out" / "history.csv").read_text()
    alone = start_one(arguments(tiny_corpus, tmp_path / "out", 50), tmp_path / "cache")
    assert alone.stdout is not None
    first = next(line for line in alone.stdout if line.startswith("epoch "))
    alone.kill()
    alone.communicate()
    assert int(first.split()[1].split("/")[0]) == len(history.splitlines())  # the one after these


def test_mistaken_flags_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, words in (
        ("--process 1", "give all three"),
        ("--coordinator here:1234", "needs --processes N and --process I"),
    ):
        argv = ["--out", str(tmp_path / "none"), *flags.split()]
        assert report_errors(lambda argv=argv: train.main(argv)) == 2
        assert words in capsys.readouterr().err
