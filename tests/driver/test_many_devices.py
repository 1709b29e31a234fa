"""The driver's programs on eight devices, as the compiler says."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
sys.path.insert(0, "tests/support")
import jax
import small_victims
from jaxser.attacks import FGSM, PGD
from jaxser.driver.machine import make_machine
from jaxser.driver.program_shapes import ProgramShapes
from jaxser.driver.shared_direction import shares_direction
from jaxser.runtime.sharding import make_mesh

assert len(jax.devices()) == 8
for attack in (FGSM(), PGD(steps=2), PGD(steps=2, early_stop=True)):
    machine = make_machine(
        small_victims.small_victim("conv"), (64,), attack=attack, mesh=make_mesh(), slots=16,
        score_rows=16, loop="device",
    )
    shared = shares_direction(attack)
    for program, arguments in ProgramShapes(machine, (64,)).programs(shared_direction=shared):
        program.prepare(*arguments)
        print(sum(f"{name}(" in program.text() for name in (
            "all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"
        )))
"""


@pytest.mark.long
def test_no_program_has_a_collective() -> None:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # A score for all, two of FGSM beside it, and of the others their start, step and way out.
    assert done.stdout.split() == ["0"] * (3 + 4 + 4)
