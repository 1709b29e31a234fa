"""The image victims against PyTorch: small ones in double precision, then in full size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_sources import TABLES
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_images import SOURCES, module_of, reference, seeded_batch, torch_victim

pytestmark = pytest.mark.peers

# What needs neither torchvision nor timm.
LIVE = ("echim_cnn_lstm", "torchvision_alexnet", "torchvision_vgg16", "hugging_face_vit")


def variables_for(source, module, dtype):
    victim, state = torch_victim(source, module)
    state = {key: array.astype(dtype) for key, array in state.items()}
    return victim, jax.tree.map(jnp.asarray, from_torch(state, TABLES[source](module)))


@pytest.mark.parametrize(
    ("source", "train"), [*((source, False) for source in LIVE), ("echim_cnn_lstm", True)]
)
def test_same_logits_and_input_gradients_in_double_precision(source, train):
    with jax.enable_x64(True):
        module = module_of(source, dtype="float64")
        _, variables = variables_for(source, module, "float64")
        x, y = seeded_batch(module.image_size)
        logits, by_input, *_ = logits_and_gradients(
            module, variables, jnp.asarray(x, "float64"), y, train
        )
    expected = reference(source, train)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-12)
    assert distance(by_input, expected["input"]) < 1e-10


@pytest.mark.parametrize("source", LIVE)
def test_same_logits_in_full_size(source):
    import torch

    name, small = SOURCES[source]
    fields = {key: small[key] for key in ("norm_eps", "mean", "std") if key in small}
    module = models.build(name, 5, **fields)
    victim, variables = variables_for(source, module, "float32")
    x, _ = seeded_batch(224, rows=1)
    with torch.no_grad():
        expected = victim.float().eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    logits = jax.jit(lambda variables: module.apply(variables, x, train=False))(variables)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
