"""How many rows go at a time, and what happens when they do not fit."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from toy_attacks import Jump, Waiting

import jaxser.driver.memory
from jaxser import run_attack
from jaxser.attacks import FGSM, PGD
from jaxser.driver.ahead_of_time import Program, compile_count
from jaxser.driver.machine import make_machine
from jaxser.driver.memory import choose_score_rows, choose_slots, is_out_of_memory, rows_in_memory
from jaxser.driver.run import clean_pass
from jaxser.runtime.errors import InputError
from jaxser.runtime.sharding import make_mesh

ONE_DEVICE = jax.devices()[:1]
FULL = "RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."


class FewRows:
    """A victim that has no room for more than ``most`` rows at a time, in steps or scores."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.refused: list[int] = []
        self.victim = small_victims.small_victim("conv")

    def __call__(self, x: jax.Array) -> jax.Array:
        # Raised while the program is traced, as the compiler does where a program cannot fit.
        if x.shape[0] > self.most:
            self.refused.append(x.shape[0])
            raise self.error
        return self.victim.logits(x)


def attack_with(victim: Any, attack: Any = FGSM(), **options: Any) -> Any:  # noqa: B008
    x = small_victims.waveforms(21)
    settings: dict[str, Any] = {"batch_size": 16, "devices": ONE_DEVICE, **options}
    return run_attack(victim, x, small_victims.labels(21), attack, [0.02, 0.1], **settings)


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError(FULL), MemoryError()], ids=repr)
def test_a_batch_that_does_not_fit_is_halved(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory runs out in the midst of the run: what is finished stays, the rest starts again."""
    attack = PGD(steps=4, early_stop=True)
    expected = attack_with(small_victims.small_victim("conv"), attack)
    real, steps = Program.__call__, []

    def limited(program: Any, *arguments: Any) -> Any:
        if program._jitted.__name__ == "advance":
            rows = jax.tree.leaves(arguments[-1])[0].shape[0]
            steps.append(rows)
            if rows > 4 and len(steps) > 5:
                raise error
        return real(program, *arguments)

    monkeypatch.setattr(Program, "__call__", limited)
    with caplog.at_level(logging.WARNING):
        result = attack_with(small_victims.small_victim("conv"), attack)
    assert {16, 8, 4} == set(steps)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 16 rows at a time: going on with 8",
        "out of memory with 8 rows at a time: going on with 4",
    ]
    np.testing.assert_allclose(result.x_adv, expected.x_adv, atol=1e-5)
    np.testing.assert_array_equal(result.queries, expected.queries)
    assert result.throughput.rows == 42
    # Steps of rows that started again were for nothing.
    useful = result.throughput.row_steps - result.throughput.wasted_row_steps
    assert useful == result.steps.sum()


def test_the_clean_pass_is_halved_too(caplog: pytest.LogCaptureFixture) -> None:
    victim = FewRows(4, jax.errors.JaxRuntimeError(FULL))
    x = small_victims.waveforms(20)
    with caplog.at_level(logging.WARNING):
        clean = clean_pass(victim, x, batch_size=16, devices=ONE_DEVICE)
    assert set(victim.refused) == {16, 8}
    expected = clean_pass(victim.victim, x, batch_size=5, devices=ONE_DEVICE)
    np.testing.assert_array_equal(clean.prediction, expected.prediction)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2)], ids=str)
def test_no_room_for_one_row_is_one_sentence(attack: Any, caplog: Any) -> None:
    with pytest.raises(InputError, match="no memory for a single row") as caught:
        attack_with(FewRows(0, jax.errors.JaxRuntimeError(FULL)), attack)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_it() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(jax.errors.JaxRuntimeError(FULL))
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: a defect"))
    assert not is_out_of_memory(RuntimeError(FULL))
    broken = FewRows(4, RuntimeError("a defect"))
    with pytest.raises(InputError, match=r"fails on inputs .* \(RuntimeError: a defect\)"):
        attack_with(broken)


def test_slots_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, victim = make_mesh(ONE_DEVICE), small_victims.small_victim("conv")
    monkeypatch.setattr(jaxser.driver.memory, "available_cores", lambda: 2)

    def slots(attack: Any, rows: int, mesh: Any = mesh) -> int:
        return choose_slots(victim, attack, (64,), rows=rows, score_rows=16, mesh=mesh, loop=None)

    # Powers of two; the largest whose last batch is not too empty.
    assert [slots(PGD(), rows) for rows in (1000, 107, 100, 99, 16, 14)] == [16] * 6
    assert [slots(PGD(), rows) for rows in (11, 8, 7, 5, 3, 1)] == [4, 8, 8, 2, 1, 1]
    assert slots(Jump(population=10), 1000) == 1
    assert slots(Jump(population=400), 1000) == 1
    # Rows that finish one by one: few slots for few rows.
    assert slots(Waiting(), 256) == 4
    assert slots(Waiting(), 32) == 2
    assert slots(Waiting(), 5000) == 16
    assert slots(PGD(), 1000, make_mesh(jax.devices()[:2])) == 32
    assert choose_score_rows(1000, mesh) == 16
    assert choose_score_rows(5, make_mesh(jax.devices()[:2])) == 8


@pytest.mark.parametrize("attack", [PGD(steps=3), PGD(steps=3, early_stop=True)], ids=str)
def test_slots_by_the_memory_that_is_free(attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator that says what it has."""
    mesh, victim = make_mesh(ONE_DEVICE), small_victims.fresh(small_victims.small_victim("conv"))
    machine = make_machine(victim, (64,), attack=attack, mesh=mesh, slots=8, score_rows=8)
    row = 64 * 4
    # A row is 64 floats: x and x_adv go in and out in place, and some more is at work.
    fit = rows_in_memory(machine, (64,), 10_000_000)
    assert 10_000_000 / (200 * row) < fit < 10_000_000 / (2 * row)
    assert rows_in_memory(machine, (64,), 20_000_000) == pytest.approx(2 * fit, rel=0.01)
    assert rows_in_memory(machine, (64,), 1) == 1
    monkeypatch.setattr(jaxser.driver.memory, "on_cpus", lambda _: False)

    def slots(free: int, rows: int) -> int:
        monkeypatch.setattr(jaxser.driver.memory, "free_bytes", lambda _: free)
        return choose_slots(victim, attack, (64,), rows=rows, score_rows=8, mesh=mesh, loop="host")

    before = compile_count()
    most = slots(10_000_000_000, 256)
    assert most in (128, 256)
    step = make_machine(victim, (64,), attack=attack, mesh=mesh, slots=most, score_rows=8)
    assert step.attack.advance.ready
    fit = rows_in_memory(step, (64,), 10_000_000)
    assert slots(10_000_000 * 40 // fit, 256) == 32  # of 40 that fit
    assert slots(1, 256) == 1
    # The step that the run takes, and no other for the sake of the question.
    assert compile_count() == before + 1


def test_variables_are_put_on_the_devices_once_for_all_attacks() -> None:
    """A sweep plans runs beside the one that is under way, each with a machine of its own."""
    victim, mesh = small_victims.small_victim("conv"), make_mesh(jax.devices()[:2])
    made = [
        make_machine(victim, (64,), attack=attack, mesh=mesh, slots=2, score_rows=2).variables
        for attack in (PGD(steps=2), PGD(steps=3), None)
    ]
    for leaves in zip(*map(jax.tree.leaves, made), strict=True):
        assert len(leaves[0].sharding.device_set) == 2
        assert all(leaf is leaves[0] for leaf in leaves)
    # Arrays that can be changed are looked at anew.
    numbers = dataclasses.replace(victim, variables=jax.tree.map(np.array, victim.variables))
    first, second = (
        make_machine(numbers, (64,), attack=None, mesh=mesh, slots=2, score_rows=2).variables
        for _ in range(2)
    )
    assert jax.tree.leaves(first)[0] is not jax.tree.leaves(second)[0]
