"""Key tables of the image victims: the published names and shapes, both ways."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_sources import GOLDEN, TABLES, golden_state

from jaxser import models
from jaxser.runtime.errors import InputError
from jaxser.victims.key_tables.entries import from_torch, lookup, to_torch
from scripts.golden_images import SOURCES, module_of

# An LSTM's two biases have no way back, and of its last layer there is no published checkpoint.
WITH_HEAD = [source for source in SOURCES if source != "echim_cnn_lstm"]


def published(source):
    """Shapes by key, as a source's full-size network has them."""
    with (GOLDEN / "image_keys" / f"{source}.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["key"]: () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x")))
        for row in rows
    }


@functools.cache
def full_size(name):
    module = models.build(name, 7)
    init = functools.partial(module.init, train=False)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return module, jax.eval_shape(init, jax.random.key(0), x)


@pytest.mark.parametrize("source", SOURCES)
def test_a_table_has_the_published_keys_and_shapes(source):
    module, shapes = full_size(SOURCES[source][0])
    keys = published(source)
    if source != "echim_cnn_lstm":
        keys |= {"emotion_head.weight": (7, 1000), "emotion_head.bias": (7,)}
    table = TABLES[source](module)
    used = [key for entry in table for key in entry.sources]
    assert sorted(used) == sorted(key for key in keys if not key.endswith("num_batches_tracked"))
    filled = {entry.target for entry in table}
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    assert filled == {tuple(part.key for part in path) for path, _ in leaves}
    for entry in table:
        # Bytes, of which no memory is taken until they are written.
        array = entry.convert(*(np.zeros(keys[key], bool) for key in entry.sources))
        assert array.shape == lookup(shapes, entry.target).shape, entry.target
        if entry.restore is not None:
            back = [part.shape for part in entry.restore(array)]
            assert back == [keys[key] for key in entry.sources], entry.target


@pytest.mark.parametrize("source", WITH_HEAD)
def test_there_and_back(source):
    state, table = golden_state(source), TABLES[source](module_of(source))
    restored = to_torch(from_torch(state, table), table)
    assert restored.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(restored[key], array, err_msg=key)


@pytest.mark.parametrize("source", WITH_HEAD)
def test_a_published_checkpoint_has_no_head_for_emotions(source):
    state, module = golden_state(source), module_of(source)
    published = {key: a for key, a in state.items() if not key.startswith("emotion_head")}
    assert len(published) == len(state) - 2
    with pytest.raises(InputError, match=r"emotion_head.weight is missing"):
        from_torch(published, TABLES[source](module))
    variables = from_torch(published, TABLES[source](module, head=False))
    assert "head" not in variables["params"]


def test_a_feature_map_of_another_size_is_refused():
    state = golden_state("torchvision_vgg16")
    module = module_of("torchvision_vgg16", image_size=32)
    with pytest.raises(InputError, match=r"classifier.0.weight cannot be"):
        from_torch(state, TABLES["torchvision_vgg16"](module))
