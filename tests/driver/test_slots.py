"""Slots, batches and calls: whatever the devices are kept busy by, rows are what they are."""

import re
from typing import Any

import jax
import numpy as np
import pytest
import small_victims
from toy_attacks import Waiting

import jaxser.driver.inputs
import jaxser.driver.memory
import jaxser.driver.single_attack
import jaxser.driver.slots
import jaxser.driver.stream
from jaxser import run_attack
from jaxser.attacks import FAB, FGSM, PGD, AutoAttack, DeepFool
from jaxser.driver.machine import make_machine
from jaxser.driver.memory import choose_score_rows, choose_slots
from jaxser.driver.plan import planned_programs
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.driver.shared_direction import shares_direction
from jaxser.runtime.sharding import make_mesh

DEVICES = jax.devices()[:2]
EARLY = PGD(steps=12, early_stop=True)
COLLECTIVE = re.compile("all-reduce|all-gather|all-to-all|collective|reduce-scatter")


def attacked(attack: Any, count: int = 24, **options: Any) -> Any:
    settings = {"batch_size": 8, "devices": DEVICES, "seed": 3, **options}
    x = small_victims.waveforms(count)
    return run_attack(small_victims.small_victim("conv"), x, None, attack, [0.01, 0.06], **settings)


def same_rows(result: Any, expected: Any) -> None:
    np.testing.assert_allclose(result.x_adv, expected.x_adv, atol=1e-5)
    for name in ("steps", "queries", "success", "flags"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


@pytest.fixture(scope="module")
def early() -> Any:
    return attacked(EARLY)


@pytest.mark.parametrize(
    ("loop", "refill"),
    [("host", True), ("device", True), pytest.param("host", False, marks=pytest.mark.long)],
)
def test_a_host_that_looks_one_call_behind_sees_the_same_rows(
    early: Any, loop: Any, refill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator. A row that is seen late has waited, and nothing else."""
    for module in (jaxser.driver.slots, jaxser.driver.stream):
        monkeypatch.setattr(module, "calls_in_flight", lambda *_: 2)
    late = attacked(EARLY, loop=loop, refill=refill)
    same_rows(late, early)
    cost = late.throughput
    assert cost.row_steps - cost.wasted_row_steps == late.steps.sum()
    assert cost.wasted_row_steps > early.throughput.wasted_row_steps


@pytest.mark.parametrize(
    "attack", [EARLY, FGSM(), pytest.param(PGD(steps=3), marks=pytest.mark.long)], ids=str
)
def test_inputs_that_stay_on_the_devices_make_the_same_rows(
    attack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = attacked(attack)
    sent: list[int] = []
    real = jaxser.driver.inputs.Source.batch

    def noted(source: Any, rows: np.ndarray) -> Any:
        sent.append(len(rows))
        return real(source, rows)

    monkeypatch.setattr(jaxser.driver.inputs, "_room", lambda _: 1e9)
    same_rows(attacked(attack), expected)
    monkeypatch.setattr(jaxser.driver.inputs.Source, "batch", noted)
    attacked(attack)
    # All were read to be checked, and once for each of the clean pass and the devices.
    assert sum(sent) <= 5 * 24


def test_few_rows_that_are_left_go_on_in_few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of 48 rows take long; the devices would go on with all of their slots."""
    attack = Waiting(mean=4.0, tail=0.7)
    monkeypatch.setattr(jaxser.driver.slots, "_GONE_BEFORE", 20)
    monkeypatch.setattr(jaxser.driver.single_attack, "slots_of", lambda *_, **__: 8)
    with_fewer = attacked(attack, batch_size=None)
    asked = attacked(attack, batch_size=8).throughput
    monkeypatch.setattr(jaxser.driver.slots, "_WORTH_A_PROGRAM", 10**9)
    without = attacked(attack, batch_size=None)
    # Who asks for a size has all rows computed in batches of it, to the bit the same.
    assert asked.row_steps == attacked(attack, batch_size=8).throughput.row_steps
    same_rows(with_fewer, without)
    for result in (without, with_fewer):
        cost = result.throughput
        assert cost.row_steps - cost.wasted_row_steps == result.steps.sum()
    assert with_fewer.throughput.wasted_row_steps < 0.7 * without.throughput.wasted_row_steps


def test_a_state_may_hold_an_array_without_an_entry() -> None:
    """The compiler gives every device the whole of it, rows come and go all the same."""
    few = FAB(norm="linf", steps=2, search_steps=1)  # keeps no other classes to aim at
    victim = small_victims.small_victim("linear")
    settings = {"batch_size": 4, "devices": DEVICES, "refill": False}
    result = run_attack(victim, small_victims.waveforms(9), None, few, [0.5], **settings)
    assert result.success.shape == (1, 9)


@pytest.mark.parametrize(
    "attack",
    [
        EARLY,
        FGSM(),
        *(pytest.param(each, marks=pytest.mark.long) for each in (PGD(steps=2), DeepFool(steps=3))),
    ],
    ids=str,
)
def test_what_is_planned_is_what_runs(attack: Any) -> None:
    """A run finds compiled whatever was compiled for it from shapes alone."""
    plain = small_victims.small_victim("conv")
    victim = small_victims.fresh(plain)
    planned = list(planned_programs(victim, attack, utterances=24, epsilons=2, devices=DEVICES))
    for program, arguments in planned:
        program.prepare(*arguments)
    x = small_victims.waveforms(24)
    result = run_attack(victim, x, None, attack, [0.01, 0.06], devices=DEVICES)
    assert result.throughput.compile_count == 0
    assert result.throughput.compile_seconds == 0
    assert result.success.shape == (2, 24)
    assert len(planned) == (3 if shares_direction(attack) else 4)


@pytest.mark.parametrize(
    "attack",
    [EARLY, *(pytest.param(each, marks=pytest.mark.long) for each in (PGD(steps=2), FGSM()))],
    ids=str,
)
def test_no_row_moves_between_devices(attack: Any) -> None:
    """As the compiler says, of every program."""
    machine = make_machine(
        small_victims.small_victim("conv"),
        (64,),
        attack=attack,
        mesh=make_mesh(DEVICES),
        slots=16,
        score_rows=8,
    )
    shapes = ProgramShapes(machine, (64,))
    for program, arguments in shapes.programs(shared_direction=shares_direction(attack)):
        program.prepare(*arguments)
        assert not COLLECTIVE.search(program.text()), program
    if attack is EARLY:
        state, along = shapes.state, shapes.advance[2].done.sharding
        index, real = (jax.ShapeDtypeStruct((4,), kind, sharding=along) for kind in ("int32", bool))
        packed = machine.attack.packed(4)
        packed.prepare(state, index, real)
        assert not COLLECTIVE.search(packed.text())


def test_sizes_on_an_accelerator_are_powers_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxser.driver.memory, "on_cpus", lambda _: False)
    monkeypatch.setattr(jaxser.driver.memory, "free_bytes", lambda _: None)
    mesh, victim = make_mesh(DEVICES[:1]), small_victims.small_victim("conv")

    def slots(attack: Any, rows: int, mesh: Any = mesh) -> int:
        return choose_slots(
            victim, attack, (64,), rows=rows, score_rows=64, mesh=mesh, loop="device"
        )

    # As many as there are: a step of 128 costs what one of 99 does.
    assert [slots(PGD(), rows) for rows in (3, 99, 100, 107)] == [4, 128, 128, 128]
    # Beyond that, as many as leave the last batch full enough.
    assert [slots(PGD(), rows) for rows in (300, 1000, 1100, 2000, 10**6)] == [
        *(256, 1024, 256, 1024, 1024)
    ]
    # Rows that finish one by one are through soonest with fewer slots than rows.
    assert [slots(EARLY, rows) for rows in (3, 20, 99, 100, 107, 1000, 10**4, 10**6)] == [
        *(4, 32, 128, 128, 128, 256, 1024, 1024)
    ]
    assert slots(PGD(), 100, make_mesh(DEVICES)) == 128
    assert [choose_score_rows(each, mesh) for each in (3, 99, 107, 10**4)] == [64, 128, 128, 256]


def test_members_of_a_sequence_on_few_survivors_share_programs() -> None:
    """Runs of other numbers of rows find all programs compiled."""
    victim = small_victims.fresh(small_victims.small_victim("conv"))

    def planned(count: int) -> set[Any]:
        programs = planned_programs(
            victim, AutoAttack(), utterances=count, epsilons=1, devices=DEVICES[:1]
        )
        return {program for program, _ in programs}

    assert planned(130) == planned(140) == planned(137)
    # The score, the way out, and the start and step of four members.
    assert len(planned(137)) == 10
