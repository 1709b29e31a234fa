"""The CNN-LSTM against PyTorch on the same weights, in single and double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.victims.key_tables.cnn_lstm import cnn_lstm_table
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_cnn_lstm import CLASSES, reference, seeded_batch, seeded_state

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("dtype", "logits_within", "gradients_within"),
    [("float32", 1e-4, 1e-3), ("float64", 1e-12, 1e-10)],
)
def test_same_logits_and_gradients(train, dtype, logits_within, gradients_within):
    expected = reference(train)
    x, y = seeded_batch()
    with jax.enable_x64(dtype == "float64"):
        model = models.build("cnn_lstm", CLASSES, dropout=0.0, lstm_dropout=0.0, dtype=dtype)
        variables = from_torch(
            {key: array.astype(dtype) for key, array in seeded_state().items()}, cnn_lstm_table()
        )
        variables = jax.tree.map(jnp.asarray, variables)

        logits, by_input, by_params, _ = logits_and_gradients(
            model, variables, jnp.asarray(x, dtype), y, train
        )

    np.testing.assert_allclose(logits, expected["logits"], atol=logits_within)
    assert distance(by_input, expected["input"]) < gradients_within
    for entry in cnn_lstm_table():
        if entry.target[0] == "params":
            theirs = expected[f"gradient/{entry.sources[0]}"]
            theirs = theirs if len(entry.sources) == 2 else entry.convert(theirs)
            assert distance(by_params[entry.target[1]][entry.target[2]], theirs) < gradients_within
