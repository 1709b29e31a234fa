"""Emo18 and Zhao19 against PyTorch on the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.victims.key_tables.conv_lstm import conv_lstm_table
from jaxser.victims.key_tables.entries import from_torch, torch_parameter_count
from scripts.golden_models import CLASSES, reference, seeded_batch, seeded_state

pytestmark = pytest.mark.peers
NAMES = ("emo18", "zhao19")


def ours(name, train, dtype):
    """Logits, input gradient, and gradients and statistics under the Linen paths."""
    model = models.build(name, CLASSES, dtype=dtype)
    x, y = seeded_batch()
    state = {key: array.astype(dtype) for key, array in seeded_state(name).items()}
    variables = from_torch(state, conv_lstm_table(len(model.blocks)))
    variables, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (variables, x))

    logits, by_input, by_params, stats = logits_and_gradients(model, variables, x, y, train)
    return logits, by_input, {"params": by_params, "batch_stats": stats}


def theirs(name, train):
    """The same from PyTorch in double precision; a bias pair counts once."""
    results = reference(name, train)
    gradients = {
        key.removeprefix("gradient/"): np.zeros_like(array) if "bias_hh" in key else array
        for key, array in results.items()
        if key.startswith("gradient/")
    }
    states = {
        key.removeprefix("state/"): array
        for key, array in results.items()
        if key.startswith("state/")
    }
    blocks = len(models.build(name, CLASSES).blocks)
    tree = from_torch({**gradients, **states}, conv_lstm_table(blocks))
    return results["logits"], results["input"], tree


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "logits_within", "gradients_within"),
    [("float32", 1e-4, 1e-3), ("float64", 1e-12, 1e-10)],
)
def test_same_logits_gradients_and_statistics(name, train, dtype, logits_within, gradients_within):
    with jax.enable_x64(dtype == "float64"):
        logits, by_input, tree = ours(name, train, dtype)
    expected_logits, expected_by_input, expected = theirs(name, train)
    np.testing.assert_allclose(logits, expected_logits, atol=logits_within)
    assert distance(by_input, expected_by_input) < gradients_within
    for collection in ("params", "batch_stats"):
        jax.tree_util.tree_map_with_path(
            lambda path, a, b: np.testing.assert_array_less(
                distance(a, b), gradients_within, err_msg=jax.tree_util.keystr(path)
            ),
            tree[collection],
            expected[collection],
        )


@pytest.mark.parametrize("name", NAMES)
def test_same_parameter_count_and_keys(name):
    from benchmarks.torch_twins import TorchVictim

    twin = TorchVictim(name, CLASSES)
    state = {key: tensor.numpy() for key, tensor in twin.state_dict().items()}
    model = models.build(name, CLASSES)
    x = jax.ShapeDtypeStruct((1, 2000), jnp.float32)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    variables = from_torch(state, conv_lstm_table(len(model.blocks)), shapes=shapes)
    assert torch_parameter_count(variables) == sum(p.numel() for p in twin.parameters())
