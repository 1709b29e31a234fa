"""A torch module as a victim, beside the same network in JAX."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims
from golden_scripts import load_script

import jaxser
from jaxser.attacks import PGD, DeepFool, Square
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.provenance import fingerprint_of
from jaxser.victims import from_torch

pytestmark = pytest.mark.peers

torch = pytest.importorskip("torch")
COUNT = 6


def module(kind: str) -> Any:
    return load_script("golden_victims").twin(kind, small_victims.WEIGHTS[kind]())


@pytest.fixture(scope="module", params=["linear", "conv", "spectrogram"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any, np.ndarray]:
    own = small_victims.small_victim(request.param)
    wrapped = from_torch(module(request.param), own.input_shape, own.labels, bounds=own.bounds)
    return wrapped, own, small_victims.inputs(request.param, COUNT)


def test_logits_and_gradients_are_equal(pair: tuple[Any, Any, np.ndarray]) -> None:
    wrapped, own, x = pair
    np.testing.assert_allclose(wrapped.logits(x), own.logits(x), rtol=2e-4, atol=2e-4)

    def margin(victim: Any, x: Any) -> Any:
        logits = victim.logits(x)
        return (logits[:, 0] - 2 * logits[:, 3]).sum()

    found, expected = (jax.jit(jax.grad(lambda x, v=v: margin(v, x)))(x) for v in (wrapped, own))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-4)


def test_pgd_makes_the_same(pair: tuple[Any, Any, np.ndarray]) -> None:
    wrapped, own, x = pair
    epsilons = [0.01, 0.05]
    found, expected = (
        jaxser.run_attack(victim, x, None, PGD(steps=5), epsilons) for victim in (wrapped, own)
    )
    np.testing.assert_array_equal(found.prediction, expected.prediction)
    np.testing.assert_array_equal(found.success, expected.success)
    # A gradient of about zero may have either sign.
    same = np.isclose(found.x_adv, expected.x_adv, atol=1e-4)
    assert same.mean() > 0.999


@pytest.mark.parametrize("attack", [DeepFool(), Square(queries=20)])
def test_other_kinds_of_attacks_run(attack: Any) -> None:
    own, x = small_victims.small_victim("conv"), small_victims.waveforms(3)
    wrapped = from_torch(module("conv"), own.input_shape, own.labels)
    epsilons = [0.05, 5.0]
    found, expected = (
        jaxser.run_attack(victim, x, None, attack, epsilons) for victim in (wrapped, own)
    )
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_allclose(found.measures["l2"], expected.measures["l2"], rtol=1e-2)


def test_under_vmap_the_rows_of_all_are_one_batch() -> None:
    own, x = small_victims.small_victim("conv"), small_victims.waveforms(6).reshape(3, 2, -1)
    seen: list[tuple[int, ...]] = []

    class Watched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module("conv")

        def forward(self, x: Any) -> Any:
            seen.append(tuple(x.shape))
            return self.inner(x)

    wrapped = from_torch(Watched(), own.input_shape)
    seen.clear()

    def loss(victim: Any) -> Any:
        return jax.vmap(lambda x: jax.value_and_grad(lambda x: victim.logits(x)[:, 1].sum())(x))

    found, expected = jax.jit(loss(wrapped))(x), loss(own)(x)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-3, atol=1e-3)
    scale = np.abs(expected[1]).max()
    np.testing.assert_allclose(found[1] / scale, expected[1] / scale, atol=1e-3)
    assert set(seen) == {(6, 64)}


def test_what_a_wrapped_module_is() -> None:
    class Output:
        def __init__(self, logits: Any) -> None:
            self.logits = logits

    class OfTransformers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.dropout = module("linear"), torch.nn.Dropout(0.5)

        def forward(self, x: Any) -> Any:
            return Output(self.inner(self.dropout(x)))

    network = OfTransformers().train()
    victim = from_torch(network, (64,), tuple("abcde"), name="mine")
    assert not network.training
    assert repr(victim) == "Victim(mine: inputs [64] -> 5 labels, a b c d e)"
    x = jnp.asarray(small_victims.waveforms(2))
    np.testing.assert_allclose(
        victim.logits(x), small_victims.small_victim("linear").logits(x), rtol=1e-4, atol=1e-4
    )
    other = from_torch(module("conv"), (64,))
    assert fingerprint_of(victim.variables) != fingerprint_of(other.variables)
    result = jaxser.benchmark(victim, x, [0, 1], labels=victim.labels, shown=False)
    assert "PyTorch module" in result.rows["notes"][0].as_py()[0]


def test_mistakes_are_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"wrap it with jaxser\.victims\.from_torch"):
        jaxser.run_attack(module("linear"), np.zeros((1, 64)), [0], PGD(), 0.1)
    # A checker of annotations, where the tests run under one, would answer first.
    unchecked = inspect.unwrap(from_torch)
    with pytest.raises(UsageError, match=r"takes a torch\.nn\.Module"):
        from_torch(lambda x: x, (64,))
    with pytest.raises(InputError, match=r"fails on inputs float32\[2, 63\] .*check input_shape"):
        from_torch(module("linear"), (63,))
    with pytest.raises(InputError, match="returns 5 logits but labels are 2 names"):
        from_torch(module("linear"), (64,), ("a", "b"))
    with pytest.raises(InputError, match=r"logits \[2, classes\].* returns \[2, 8, 58\]"):
        from_torch(
            torch.nn.Sequential(torch.nn.Unflatten(1, (1, 64)), torch.nn.Conv1d(1, 8, 7)), (64,)
        )
    for shape in (64, (-1,), (64.0,), ()):
        with pytest.raises(UsageError, match="input_shape must be the sizes"):
            unchecked(module("linear"), shape)
    with pytest.raises(UsageError, match="low < high"):
        from_torch(module("linear"), (64,), bounds=(1, -1))
    own = module("linear")
    with pytest.raises(InputError, match="NumPy or torch"):
        jaxser.run_attack(lambda x: own(x), small_victims.waveforms(2), None, PGD(), 0.1)
