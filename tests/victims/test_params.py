"""Key tables: every fault is named, nothing is guessed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxser import models
from jaxser.runtime.errors import InputError
from jaxser.victims.key_tables.conv_lstm import conv_lstm_table
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_models import CLASSES, seeded_state

TABLE = conv_lstm_table(3)


@pytest.fixture
def state():
    return seeded_state("emo18")


def shapes(classes=CLASSES):
    model = models.build("emo18", classes)
    x = jax.ShapeDtypeStruct((1, 2000), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), x)


def test_the_table_fills_the_model(state):
    state["features.1.num_batches_tracked"] = np.zeros((), np.int64)
    variables = from_torch(state, TABLE, shapes=shapes())
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes())


def test_all_faults_are_named_at_once(state):
    del state["head.weight"]
    state["features.0.weigth"] = state["features.0.bias"]
    state["features.4.bias"] = np.zeros(3)
    state["lstm.bias_hh_l1"] = np.zeros(5)
    with pytest.raises(InputError) as caught:
        from_torch(state, TABLE, shapes=shapes())
    for fault in (
        "head.weight is missing",
        "features.0.weigth is not part of this model",
        "features.4.bias gives (3,), not (128,)",
        "lstm.bias_ih_l1 and lstm.bias_hh_l1 differ in shape",
    ):
        assert fault in str(caught.value)


def test_another_number_of_classes_is_refused(state):
    with pytest.raises(InputError, match=r"head.weight gives \(256, 7\), not \(256, 5\)"):
        from_torch(state, TABLE, shapes=shapes(classes=5))
