"""What is handed to a run: samples in any unit, and mistakes that libraries would complain of."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_victims

from jaxser import load_victim, run_attack
from jaxser.attacks import FGSM, PGD, DeepFool, Square
from jaxser.driver import memory, single_attack
from jaxser.driver.run import attack_rows, clean_pass, predict
from jaxser.driver.samples import scaled
from jaxser.driver.source import Source
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.victim import Victim

OPTIONS: dict[str, Any] = {"batch_size": 4, "devices": jax.devices()[:1]}
FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31}


def conv() -> Victim:
    return small_victims.small_victim("conv")


def integers(dtype: str, count: int = 4) -> np.ndarray:
    return (small_victims.waveforms(count).astype(np.float64) * FULL_SCALE[dtype]).astype(dtype)


# --- samples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
@pytest.mark.parametrize("bare", [True, False])
def test_integer_speech_is_scaled_by_its_type(dtype: str, bare: bool) -> None:
    if dtype == "uint8":
        x = (integers("int8").astype(np.int16) + 128).astype(np.uint8)
        floats = integers("int8") / np.float32(128)
    else:
        x, floats = integers(dtype), integers(dtype) / np.float64(FULL_SCALE[dtype])
    victim: Any = conv().logits if bare else conv()
    found = run_attack(victim, x, None, PGD(steps=2), [0.02], **OPTIONS)
    expected = run_attack(victim, floats, None, PGD(steps=2), [0.02], **OPTIONS)
    np.testing.assert_array_equal(found.x_adv, expected.x_adv)
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_array_equal(predict(victim, x, **OPTIONS), expected.clean_prediction)
    blocks = attack_rows(victim, x, found.labels, FGSM(), [0.1], keep_x_adv=True, **OPTIONS)
    for block in blocks:
        assert np.abs(block.x_adv).max() <= 1


def test_the_full_scale_is_one() -> None:
    for dtype in FULL_SCALE:
        ends = np.array([[np.iinfo(dtype).min, 0, np.iinfo(dtype).max]], dtype)
        np.testing.assert_allclose(scaled(ends, (-1.0, 1.0)), [[-1, 0, 1]], atol=1 / 100)
        assert scaled(ends, (-1.0, 1.0))[0, 0] == -1


def test_other_integers_are_the_numbers_that_they_are() -> None:
    x = np.array([[[0, 255], [3, 4]]], np.uint8)
    np.testing.assert_array_equal(scaled(x, (0.0, 255.0)), x.astype(np.float32))
    np.testing.assert_array_equal(scaled(x, (-1.0, 1.0)), x.astype(np.float32))  # no waveform
    x = integers("int16")
    np.testing.assert_array_equal(scaled(x, (-32768.0, 32767.0)), x.astype(np.float32))


@pytest.mark.parametrize(
    ("x", "bounds", "words"),
    [
        (integers("int16").astype(np.int64), (-1.0, 1.0), "no known full scale"),
        (integers("int16").astype(np.uint16), (-1.0, 1.0), "no known full scale"),
        (integers("int16"), None, "say nothing of their unit"),
        (np.ones((2, 64), bool), (-1.0, 1.0), "floats or integer samples"),
        (np.ones((2, 64), np.complex64), None, "floats or integer samples"),
        (np.full((2, 64), "a"), None, "floats or integer samples"),
        (
            integers("int16").astype(np.float32),
            (-1.0, 1.0),
            r"waveforms\[2\] reaches -16\d+, outside",
        ),
        (small_victims.waveforms(3) * 2.5, (-1.0, 1.0), "outside the bounds"),
        (np.full((2, 64), 1e300), (-1.0, 1.0), "NaN or infinity"),
        (np.full((2, 64), 7.1), (-5.0, 7.0), r"outside the bounds \(-5, 7\)"),
    ],
)
def test_inputs_of_another_unit_are_refused(x: np.ndarray, bounds: Any, words: str) -> None:
    plain = conv()
    victim = Victim(plain.apply, plain.variables, plain.labels, plain.input_shape, bounds=bounds)
    for run in (run_attack, lambda *rest, **options: list(attack_rows(*rest, **options))):
        with pytest.raises(InputError, match=words) as caught:
            run(victim, x, np.zeros(len(x), int), FGSM(), [0.1], **OPTIONS)
        assert "\n" not in str(caught.value)


def test_bounds_that_are_none_or_wider_take_all() -> None:
    plain, x = conv(), 3 * small_victims.waveforms(3)
    free = Victim(plain.apply, plain.variables, plain.labels, plain.input_shape, bounds=None)
    run_attack(free, x, None, FGSM(), [0.1], **OPTIONS)
    run_attack(plain, x, None, FGSM(bounds=(-2.0, 2.0)), [0.1], **OPTIONS)
    # A decoder that divides by 32767 is not punished.
    run_attack(plain, np.full((2, 64), -32768 / 32767), None, FGSM(), [0.1], **OPTIONS)


def test_features_are_held_to_their_own_bounds() -> None:
    victim, x = small_victims.small_victim("spectrogram"), small_victims.spectrograms(3)
    run_attack(victim, x, None, FGSM(), [0.1], **OPTIONS)
    with pytest.raises(InputError, match="outside the bounds"):
        run_attack(victim, x + 9, None, FGSM(), [0.1], **OPTIONS)


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(steps=1), PGD(steps=1, early_stop=True), DeepFool()]
)
def test_a_batch_is_no_larger_than_the_rows(attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    make = memory.make_machine

    def noted(*arguments: Any, **options: Any) -> Any:
        asked.extend((options["slots"], options["score_rows"]))
        return make(*arguments, **options)

    monkeypatch.setattr(single_attack, "make_machine", noted)
    result = run_attack(
        conv(), small_victims.waveforms(3), None, attack, [0.1, 0.2], batch_size=10**7
    )
    assert result.success.shape == (2, 3)
    assert max(asked) <= 6
    assert clean_pass(conv(), small_victims.waveforms(3), batch_size=10**7).prediction.shape == (3,)


# --- mistakes ---------------------------------------------------------------------------------


class Module:
    """As one of torch looks from outside."""

    __module__ = "torch.nn.modules.module"

    def __call__(self, x: Any) -> Any:
        raise TypeError("linear(): argument 'input' must be Tensor, not DynamicJaxprTracer")


class Tensor:
    """As one of torch that wants its gradient."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )


class Unbound(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(x)


def logits(x: Any) -> Any:
    return conv().logits(x)


def looping(x: Any) -> Any:
    return jax.lax.while_loop(lambda z: z.sum() > 1e9, lambda z: z / 2, logits(x))


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an epsilon of text": ({"epsilons": "0.1"}, "a list of numbers, not '0.1'"),
    "an epsilon of truth": ({"epsilons": True}, "a list of numbers, not True"),
    "epsilons of text": ({"epsilons": ["0.1"]}, "a list of numbers"),
    "epsilons of truth": ({"epsilons": [True]}, "a list of numbers"),
    "a table of epsilons": ({"epsilons": [[0.1]]}, r"not an array of shape \(1, 1\)"),
    "no epsilons": ({"epsilons": None}, "must be"),
    "ragged epsilons": ({"epsilons": [0.1, [0.2]]}, "epsilons"),
    "dict": ({"victim": lambda x: {"logits": logits(x)}}, "returns a dict of logits"),
    "tuple": ({"victim": lambda x: (logits(x), x)}, "returns a tuple of 2"),
    "list": ({"victim": lambda x: [logits(x)]}, "returns a list of 1"),
    "nothing": ({"victim": lambda x: None}, "returns a NoneType"),
    "classes": ({"victim": lambda x: logits(x).astype(int)}, r"returns int32\[4, 5\]"),
    "prediction": ({"victim": lambda x: logits(x).argmax(axis=1)}, r"returns int32\[4\]"),
    "numbers": ({"victim": lambda x: logits(x).max(axis=1)}, "at least two classes"),
    "torch": ({"victim": Module()}, "is a torch module.* wrap it with jaxser.victims.from_torch"),
    "a path": ({"victim": "runs/emo18"}, "jaxser.load_victim"),
    "no victim": ({"victim": None}, "must be a jaxser.Victim"),
    "unbound module": ({"victim": Unbound()}, "the victim's function fails"),
    "torch within": ({"victim": lambda x: Module()(x)}, "NumPy or torch.* must be Tensor"),
    "a tensor's method": ({"victim": lambda x: x.detach()}, "the victim's function"),
    "numpy": ({"victim": lambda x: np.asarray(x)}, "NumPy or torch.* write it with jax.numpy"),
    "numpy within": ({"victim": lambda x: np.dot(x, x.T)}, "NumPy or torch"),
    "an if": ({"victim": lambda x: logits(x) if x.sum() > 0 else -logits(x)}, "TracerBool"),
    "a float": ({"victim": lambda x: logits(x) * float(x.max())}, "ConcretizationTypeError"),
    "shapes": ({"victim": lambda x: x @ jnp.ones((3, 3))}, "fails on inputs float32"),
    "an index": ({"victim": lambda x: x[:, jnp.float32(1)]}, "fails on inputs float32"),
    "a defect": ({"victim": lambda x: [][1]}, "IndexError"),
    "no gradient": ({"victim": looping}, "has no gradient"),
    "tensor": ({"waveforms": Tensor()}, "requires grad"),
    "ragged inputs": ({"waveforms": [[0.0, 1.0], [0.0]]}, "cannot be read as an array"),
    "objects": ({"waveforms": [[None] * 64]}, "not of Python objects"),
    "no inputs": ({"waveforms": None}, "array of numbers"),
    "ragged labels": ({"labels": [0, [1], 2]}, "cannot be read as an array"),
    "names": ({"labels": ["a", "b", "c"]}, "class indices"),
    "a class": ({"attack": PGD}, r"write PGD\(\)"),
    "lists": ({"attack": PGD(bounds=[-1, 1])}, "tuples instead of lists"),
    "no attack": ({"attack": None}, "is not an attack"),
    "half a batch": ({"batch_size": 2.5}, "batch_size must be"),
    "a batch of text": ({"batch_size": "4"}, "batch_size must be"),
    "no draws": ({"draws": 0}, "draws must be"),
    "no devices": ({"devices": []}, "list of JAX devices"),
    "a device of text": ({"devices": "cpu"}, "list of JAX devices"),
    "half an id": ({"ids": [0.5, 1, 2]}, "an id must be"),
    "no ids": ({"ids": [None] * 3}, "an id must be"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_sentence(name: str) -> None:
    changes, words = MISTAKES[name]
    arguments = {
        "victim": conv(),
        "waveforms": small_victims.waveforms(3),
        "labels": [0, 1, 2],
        "attack": PGD(steps=1),
        "epsilons": [0.1, 0.2],
        **OPTIONS,
        **changes,
    }
    # A checker of annotations, where the tests run under one, would answer first.
    unchecked = inspect.unwrap(run_attack)
    with pytest.raises(InputError, match=words) as caught:
        unchecked(**arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_run_within_a_program_is_refused() -> None:
    def inner(x: Any) -> Any:
        return run_attack(conv(), small_victims.waveforms(2), None, FGSM(), [0.1]).x_adv

    with pytest.raises(UsageError, match=r"cannot be part of jax\.jit"):
        jax.jit(inner)(0.0)
    with pytest.raises(InputError, match="cannot be read as an array"):
        jax.jit(lambda x: run_attack(conv(), x, None, FGSM(), [0.1]).x_adv)(np.ones((2, 64)))


def test_what_needs_no_gradient_takes_a_victim_without() -> None:
    result = run_attack(looping, small_victims.waveforms(2), None, Square(queries=3), [0.1])
    assert result.success.shape == (1, 2)


def test_a_number_is_a_list_of_one_epsilon() -> None:
    x, y = small_victims.waveforms(3), np.array([0, 1, 2])
    of_one = run_attack(conv(), x, y, FGSM(), [0.1], **OPTIONS)
    for number in (0.1, np.float64(0.1), jnp.float32(0.1)):
        found = run_attack(conv(), x, y, FGSM(), number, **OPTIONS)
        assert found.epsilons == pytest.approx((0.1,))
        np.testing.assert_allclose(found.x_adv, of_one.x_adv, atol=1e-6)
    (block,) = attack_rows(conv(), x, y, FGSM(), 0.1, **OPTIONS)
    np.testing.assert_array_equal(block.prediction, of_one.prediction[0][block.utterance])


def test_the_farthest_input_outside_is_named() -> None:
    x = small_victims.waveforms(130)
    x[3, 5], x[100, 7], x[128, 1] = 1.5, -7.25, 3.0
    with pytest.raises(InputError, match=r"waveforms\[100\] reaches -7.25, .* of 3 rows"):
        run_attack(conv(), x, None, FGSM(), [0.1], **OPTIONS)


def test_a_victim_and_a_result_are_a_line() -> None:
    assert repr(conv()) == (
        "Victim(conv: inputs [64] -> 5 labels, class0 class1 class2 class3 class4)"
    )
    x = small_victims.waveforms(2)
    found = run_attack(conv(), x, None, FGSM(), [1e-9, 0.1], **OPTIONS)
    robust = (found.prediction[1] == found.clean_prediction).mean()
    assert repr(found) == (
        "AttackResult(fgsm, 4 rows: 2 inputs x epsilon 1e-09 0.1, robust accuracy 100.0% "
        f"{robust:.1%})"
    )
    np.testing.assert_array_equal(found.robust_accuracy, [1, robust])
    reached = run_attack(conv(), x, [0, 1], FGSM(targeted=True), 0.1, **OPTIONS)
    assert f"target reached {reached.success.mean():.1%}" in repr(reached)
    assert np.isnan(reached.robust_accuracy).all()


@pytest.mark.parametrize("make", [list, tuple, np.array, jnp.array])
def test_epsilons_of_any_sequence(make: Callable[[list[float]], Any]) -> None:
    result = run_attack(
        conv(), small_victims.waveforms(2), None, FGSM(), make([0.1, 0.2]), **OPTIONS
    )
    assert result.success.shape == (2, 2)


def test_ids_that_do_not_fit_32_bits_have_randomness_of_their_own() -> None:
    x = small_victims.waveforms(4)
    ids = Source(x, None, [0, 2**32, -1, 2**32 - 1]).ids
    assert ids[0] == 0
    assert ids[3] == 2**32 - 1
    assert len(set(ids.tolist())) == 4


@pytest.mark.parametrize("folder", [None, 12, b"runs/emo18", ["runs/emo18"]])
def test_a_folder_that_is_no_path_is_refused(folder: Any) -> None:
    with pytest.raises(UsageError, match="must be a path or a name"):
        load_victim(folder)
