"""The one switch between the forms for a CPU and those for accelerators."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxser
from jaxser.runtime.forms import forms_for, on_cpu, on_gpu


def test_the_backend_decides_and_a_choice_decides_before_it():
    assert (on_cpu(), on_gpu()) == (True, False)
    with forms_for("gpu"):
        assert (on_cpu(), on_gpu()) == (False, True)
        with forms_for("tpu"):
            assert (on_cpu(), on_gpu()) == (False, False)
        assert on_gpu()
    with pytest.raises(ZeroDivisionError), forms_for("gpu"):
        raise ZeroDivisionError
    assert on_cpu()


def test_no_compiled_program_has_the_forms_of_another_platform():
    """Neither ``jit`` nor the loops and derivatives inside, whose traces JAX keeps too."""

    @jax.custom_jvp
    def slope_of_form(x):
        return x * on_cpu()

    @slope_of_form.defjvp
    def _jvp(primals, tangents):
        return slope_of_form(*primals), tangents[0] * (10.0 + on_cpu())

    def step(x):
        return slope_of_form(x) + x

    @jax.jit
    def run(x):
        return jax.lax.map(step, x), jax.lax.map(jax.grad(step), x)

    def found():
        return [float(each[0]) for each in run(jnp.ones(2))]

    assert found() == [2.0, 12.0]
    with forms_for("gpu"):
        assert found() == [1.0, 11.0]
    assert found() == [2.0, 12.0]


def test_nobody_else_asks_jax_for_its_backend():
    """A layer that did would keep its form where another is chosen. Provenance notes what runs."""
    package = Path(jaxser.__file__).parent
    asking = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "default_backend" in path.read_text(encoding="utf-8")
    }
    assert asking == {"runtime/forms.py", "runtime/provenance.py"}
