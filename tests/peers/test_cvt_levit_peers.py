"""CvT and LeViT against transformers' torch classes on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_gradients import distance, logits_and_gradients

from benchmarks.foundation import import_transformers
from jaxser import models
from jaxser.victims.image_checkpoints.reading import read_image_checkpoint
from jaxser.victims.image_checkpoints.writing import write_image_checkpoint
from jaxser.victims.key_tables.entries import from_torch, lookup, to_torch
from scripts.golden_cvt_levit import (
    CASES,
    TABLES,
    module_of,
    reference,
    seeded_images,
    seeded_state,
    seeded_variables,
    torch_twin,
)

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SOURCES = [source for source in CASES if source.startswith("hugging_face")]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_same_outputs_gradients_and_statistics(source, train):
    module = module_of(source)
    variables, table = seeded_variables(module, source), TABLES[source](module)
    expected = reference(source, module, to_torch(variables, table), train)
    x, y = map(jnp.asarray, seeded_images(module.image_size))
    logits, by_input, by_params, stats = logits_and_gradients(module, variables, x, y, train)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    assert distance(by_input, expected["input"]) < 1e-3
    compared = 0
    for entry in table if train else ():
        collection, *path = entry.target
        key = f"{'gradient' if collection == 'params' else 'state'}/{entry.sources[0]}"
        if key in expected:
            ours = lookup(by_params if collection == "params" else stats, path)
            theirs = entry.convert(expected[key])
            # A shift of all tokens is undone by the next batch norm: its gradient is 0, and what
            # both have of it is rounding.
            allowed = 1e-3 * np.linalg.norm(theirs) + 1e-5
            assert np.linalg.norm(ours - theirs) < allowed, entry.target
            compared += 1
    # All but this project's own head.
    assert compared == (len(table) - 2 if train else 0)


@pytest.mark.parametrize(
    ("source", "name"), [("hugging_face_cvt", "cvt-21"), ("hugging_face_levit", "levit-256")]
)
def test_full_size(source, name):
    module = models.build(name, 7)
    twin = torch_twin(source, module)
    shapes = {key: tuple(tensor.shape) for key, tensor in twin.state_dict().items()}
    shapes |= {"emotion_head.weight": (7, 1000), "emotion_head.bias": (7,)}
    state = seeded_state(
        {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    )
    # ImageNet's logits of such weights are large; sure of a class, a loss has no gradient.
    state["emotion_head.weight"] *= 0.01
    # Two images: of one alone, PyTorch 2.13 has a gradient of CvT that is not its own loss's, as
    # finite differences of that show.
    expected = reference(source, module, state, train=False, rows=2)
    variables = from_torch(state, TABLES[source](module))
    x, y = map(jnp.asarray, seeded_images(224, rows=2))

    @jax.jit
    def run(x, variables):
        def loss(x):
            logits = module.apply(variables, x, train=False)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), logits

        return jax.grad(loss, has_aux=True)(x)

    by_input, logits = run(x, variables)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    assert distance(by_input, expected["input"]) < 1e-3


@pytest.mark.parametrize(
    "name", [name for name in models.names() if name.startswith(("cvt", "levit"))]
)
def test_as_many_parameters_as_the_torch_class(name):
    import torch

    module = models.build(name, 7)
    with torch.device("meta"):
        twin = torch_twin(f"hugging_face_{name.partition('-')[0]}", module)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    init = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(init["params"]))
    assert count == sum(each.numel() for each in twin.parameters()) + 7_007


@pytest.mark.parametrize("source", SOURCES)
def test_transformers_reads_what_is_written_and_the_other_way(source, tmp_path):
    import torch

    transformers = import_transformers()
    module = module_of(source)
    variables = seeded_variables(module, source)
    labels = tuple("abcde")
    write_image_checkpoint(module, variables, labels, tmp_path / "ours")
    name = "CvtForImageClassification"
    if source == "hugging_face_levit":
        name = "LevitForImageClassificationWithTeacher"
    twin, info = getattr(transformers, name).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    # Its own head is all that is left over.
    assert sorted(info.pop("unexpected_keys")) == ["emotion_head.bias", "emotion_head.weight"]
    assert not any(info.values()), info
    x, _ = seeded_images(module.image_size)
    theirs = twin.eval().double()
    mean, std = (torch.tensor(values).double() for values in (module.mean, module.std))
    pixels = ((torch.from_numpy(x).double() - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = theirs(pixels).logits.numpy()
    mine = module.apply(variables, jnp.asarray(x), train=False, method="embed")
    np.testing.assert_allclose(mine, features, atol=1e-4)

    twin.float().save_pretrained(tmp_path / "theirs")
    found = read_image_checkpoint(tmp_path / "theirs", 5, image_size=module.image_size)
    assert found.new == ("emotion head",)
    del found.variables["params"]["head"], variables["params"]["head"]
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
