"""Programs of a sweep's cells, compiled by threads before they run."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser.config import AttackCommandConfig
from jaxser.experiments import run as of_runs
from jaxser.experiments.attack import attack_missing_rows
from jaxser.experiments.compiling import CompileAhead, programs_of
from jaxser.experiments.preparation import prepare_run
from jaxser.experiments.speech import load_speech
from jaxser.victims.loading import load_victim
from jaxser.victims.victim import evaluation_logits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("compiling"))


@pytest.fixture
def victim(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_networks(monkeypatch)
    return made


def test_a_run_finds_compiled_what_threads_compiled_for_it(
    victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A number of steps that no other test has, so that nothing is compiled yet.
    config = AttackCommandConfig(
        victim=victim, attack="pgd", params=("steps=3",), epsilon=(0.01, 0.02)
    )
    run = prepare_run(config, load_speech(config), tmp_path)
    programs = [program for program, _ in programs_of(run)]
    assert not all(program.ready for program in programs)
    with CompileAhead() as ahead:
        ahead.give(run)
        end = time.monotonic() + 120
        while not all(program.ready for program in programs):
            assert time.monotonic() < end, "nobody compiles"
            time.sleep(0.05)
    assert attack_missing_rows(run, shown=False).compile_count == 0
    assert not list(programs_of(run)), "what is there needs no program"
    assert run.done().all()
    monkeypatch.setattr(of_runs, "read_row_file", None)
    assert not run.missing().any(), "a file of rows is read once"
    for path in tmp_path.rglob("rows-*"):
        path.unlink()
    assert run.missing().all()


def test_victims_that_differ_in_their_weights_share_programs(victim: Path) -> None:
    one, other = load_victim(victim), load_victim(victim)
    assert one.apply is other.apply
    x = np.zeros((1, *one.input_shape), np.float32)
    np.testing.assert_array_equal(one.logits(x), other.logits(x))


def test_a_module_without_a_hash_has_a_function_too() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def apply(self, variables: Any, x: jax.Array, train: bool) -> jax.Array:
            assert not train
            return variables * x

    assert evaluation_logits(Unhashable())(2.0, np.ones(3)).tolist() == [2.0] * 3  # type: ignore[arg-type]
