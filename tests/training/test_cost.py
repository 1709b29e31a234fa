"""What a training took: passes by closed forms, and seconds that add up over its starts."""

import functools
import time
from typing import Any

import jax
import pytest

from jaxser.attacks import APGD, EOTPGD, FGSM, PGD, Attack
from jaxser.results.training_facts import TrainingFacts
from jaxser.training import cost
from jaxser.training.adversarial import Defence
from jaxser.training.cost import Stopwatch, passes_per_step


def defence(attack: Attack, **fields: Any) -> Defence:
    return Defence(attack, lambda variables, x: x, **fields)


@pytest.mark.parametrize(
    ("trained_against", "passes"),
    [
        (None, (8, 8)),
        # One gradient for each of four rows, and the update's for all.
        (defence(FGSM(), share=0.5), (4 + 8, 4 + 8)),
        (defence(PGD(steps=3)), (3 * 8 + 8, 3 * 8 + 8)),
        # It stops at rows that it has; the program goes on.
        (defence(PGD(steps=3, early_stop=True)), (3 * 8 + 8, 3 * 8 + 8)),
        # Whose samples are all the same of a network without noise, and one pass.
        (defence(EOTPGD(steps=3, samples=2)), (3 * 8 + 8, 3 * 8 + 8)),
        # A look at the clean rows, and an update of clean and of attacked rows.
        (defence(PGD(steps=3), loss="trades"), (8 + 24 + 16, 24 + 16)),
        (defence(PGD(steps=3), loss="mart"), (24 + 16, 24 + 16)),
        (defence(PGD(steps=3), awp=0.01), (24 + 16, 24 + 16)),
        (defence(FGSM(), replays=4), (32, 32)),
    ],
)
def test_passes_of_a_step(trained_against: Defence | None, passes: tuple[int, int]) -> None:
    assert passes_per_step(trained_against, 8) == passes


def test_passes_are_as_many_as_a_network_is_asked_for() -> None:
    """APGD has a gradient of its own at the start; what a network is asked is counted here."""
    attack, asked = APGD(steps=3), []
    x, label = jax.numpy.zeros((2, 4)), jax.numpy.zeros(2, int)

    def logits(x: jax.Array) -> jax.Array:
        asked.append(len(x))
        return jax.numpy.stack([x.sum(axis=1) + 1, -x.sum(axis=1)], axis=1)

    keys = jax.random.split(jax.random.key(0), 2)
    start = functools.partial(attack.init, logits)
    state = jax.eval_shape(start, keys, x, label, jax.numpy.full(2, 1e-3))
    for _ in range(attack.max_steps):
        jax.eval_shape(functools.partial(attack.step, logits), state)
    queries, _ = passes_per_step(defence(attack), 2)
    assert queries == sum(asked) + 2


def test_seconds_are_those_of_all_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(cost.time, "monotonic", lambda: now[0])

    def spend(seconds: float) -> float:
        now[0] += seconds
        return seconds

    record = {"seconds": 0.0, "compile_seconds": 0.0}
    for compiling, running in ((5.0, 20.0), (3.0, 7.0)):
        watch = Stopwatch(record)
        assert watch.first(spend, compiling) == compiling
        spend(running)
        watch.note(record)
        spend(50.0)  # after the last checkpoint: done again by the next start
    assert record == {"seconds": 27.0, "compile_seconds": 8.0}
    # A start that did not count makes the sum unknown, not small.
    record = {"seconds": None, "compile_seconds": None}
    Stopwatch(record).note(record)
    assert record == {"seconds": None, "compile_seconds": None}


def test_programs_of_the_looks_between_the_steps_are_compilation() -> None:
    """Whatever compiles: a look at the end of an epoch counted as training."""

    def slow_to_trace(x: jax.Array) -> jax.Array:
        time.sleep(0.3)
        return inner(x) + 1

    def slower(x: jax.Array) -> jax.Array:
        time.sleep(0.1)
        return x * 2

    inner = jax.jit(slower)
    record = {"seconds": 0.0, "compile_seconds": 0.0}
    watch = Stopwatch(record)
    began = time.monotonic()
    look = jax.jit(slow_to_trace)
    for _ in range(3):
        look(jax.numpy.ones(2)).block_until_ready()
    time.sleep(0.05)
    watch.note(record)
    took = time.monotonic() - began
    # What is traced within another is not counted twice.
    assert 0.4 <= record["compile_seconds"] <= took - 0.05
    assert record["seconds"] + record["compile_seconds"] == pytest.approx(took, abs=0.02)


def test_what_it_took_in_words() -> None:
    facts = TrainingFacts(seconds=1234.56, compile_seconds=7, device="a chip", queries=4000)
    assert facts.cost() == ""
    known = TrainingFacts(
        seconds=1234.56, compile_seconds=7, device="a chip", queries=4000, gradients=1000
    )
    passes = "4,000 forward and 1,000 backward passes of an utterance"
    assert known.cost() == f"1,234.6 s after 7.0 s of compilation on a chip, {passes}"
    assert TrainingFacts(queries=4000, gradients=1000).cost() == passes
