"""Training in real processes, to be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import jaxser

# One device, as most users have: the runs must agree bit for bit.
ENVIRONMENT = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "jaxser.train", *arguments]


def run(arguments: Sequence[str], cache: Path) -> str:
    """Train to the end; what was printed."""
    environment = {**ENVIRONMENT, "JAXSER_CACHE": str(cache)}
    done = subprocess.run(
        command(arguments), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def interrupt(
    arguments: Sequence[str], cache: Path, epochs: int, delay: float, how: signal.Signals
) -> int:
    """Start the run, wait for so many finished epochs and a moment, and send it a signal."""
    with subprocess.Popen(
        command(arguments),
        env={**ENVIRONMENT, "JAXSER_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += line.startswith("epoch ")
            if seen == epochs:
                break
        assert seen == epochs, "the run ended before it could be interrupted"
        time.sleep(delay)
        process.send_signal(how)
        return process.wait(timeout=60)


def parameters(out: Path) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(jaxser.load_victim(out).variables)]


def last_state(out: Path) -> bytes:
    """The final history and results: they too must agree."""
    return (out / "history.csv").read_bytes() + (out / "results.json").read_bytes()


def assert_same_run(mine: Path, theirs: Path) -> None:
    """Bit for bit, in all that a run ends with."""
    for ours, others in zip(parameters(mine), parameters(theirs), strict=True):
        np.testing.assert_array_equal(ours, others)
    assert last_state(mine) == last_state(theirs)
