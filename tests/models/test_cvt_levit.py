"""CvT and LeViT: sizes, golden outputs of transformers and timm, and what is easily wrong."""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_gradients import distance, logits_and_gradients
from short_and_long import short_and_long

from jaxser import models
from jaxser.models import cvt
from jaxser.models.levit import distances
from jaxser.models.transformer.activations import ACTIVATIONS
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.key_tables.entries import to_torch
from scripts.golden_cvt_levit import (
    CASES,
    INPUT_STRIDE,
    TABLES,
    every_few,
    module_of,
    seeded_images,
    seeded_variables,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models_cvt_levit.npz"

# Without the head of this project, 7,007 fewer: as timm and the papers count them.
COUNTS = {
    "cvt-13": 20_004_487,
    "cvt-21": 31_629_703,
    "levit-128s": 7_784_065,
    "levit-128": 9_220_943,
    "levit-192": 10_954_076,
    "levit-256": 18_900_883,
    "levit-384": 39_135_843,
}


def golden(case):
    with np.load(GOLDEN) as file:
        return {
            key.removeprefix(f"{case}/"): file[key] for key in file if key.startswith(f"{case}/")
        }


@functools.cache
def seeded(source):
    return jax.tree.map(jnp.asarray, seeded_variables(module_of(source), source))


@functools.partial(jax.jit, static_argnums=0)
def evaluated(module, variables, x):
    return module.apply(variables, x, train=False)


def logits_of(module, variables):
    x = jnp.asarray(seeded_images(module.image_size)[0])
    return np.asarray(evaluated(module, variables, x))


@pytest.mark.parametrize("name", short_and_long(COUNTS, ["cvt-13", "levit-128s", "levit-256"]))
def test_parameter_count(name):
    assert models.input_of(name) == "image"
    init = functools.partial(models.build(name, 7).init, train=False)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(init, jax.random.key(0), x)["params"]
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == COUNTS[name]
    assert params["head"]["kernel"].shape == (1000, 7)


@pytest.mark.parametrize(
    ("source", "kind"),
    short_and_long(
        itertools.product(CASES, ["eval", "train"]),
        # In training CvT's parts are LeViT's: batch norms, and branches that are left out.
        [*((source, "eval") for source in CASES), ("hugging_face_levit", "train")],
    ),
)
def test_golden_outputs(source, kind):
    module, expected = module_of(source), golden(f"{source}/{kind}")
    x, y = map(jnp.asarray, seeded_images(module.image_size))
    results = logits_and_gradients(module, seeded(source), x, y, train=kind == "train")
    logits, by_input, by_params, stats = results
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    assert distance(by_input[:, ::INPUT_STRIDE], expected["input"]) < 1e-3
    if kind == "train":
        of_params = [e for e in TABLES[source](module, head=False) if e.target[0] == "params"]
        of_stats = [e for e in TABLES[source](module) if e.target[0] == "batch_stats"]
        gradients = every_few(to_torch({"params": by_params}, of_params))
        assert distance(gradients, expected["gradient"]) < 1e-3
        moved = every_few(to_torch({"batch_stats": stats}, of_stats))
        np.testing.assert_allclose(moved, expected["state"], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_embedding_is_what_the_last_layer_reads():
    for source in ("hugging_face_cvt", "hugging_face_levit"):
        module, variables = module_of(source), seeded(source)
        x = jnp.asarray(seeded_images(module.image_size)[0])
        embed = jax.jit(functools.partial(module.apply, train=False, method="embed"))
        features = embed(variables, x)
        assert features.shape == (3, module.imagenet_classes)
        head = variables["params"]["head"]
        logits = features @ head["kernel"] + head["bias"][None]
        np.testing.assert_allclose(logits, logits_of(module, variables), atol=1e-5)


def of_cvt(variables=None, **changed):
    module = module_of("hugging_face_cvt", **changed)
    return logits_of(module, variables or seeded("hugging_face_cvt"))


def far_from_golden(logits):
    return np.abs(logits - golden("hugging_face_cvt/eval")["logits"]).max() > 1e-3


def test_golden_images_tell_the_scores_divisors_apart():
    """Queries times the root of the number of heads: as if divided by a head's width."""
    variables = seeded("hugging_face_cvt")
    params = dict(variables["params"])
    for stage, heads in enumerate(module_of("hugging_face_cvt").heads):
        blocks = dict(params[f"stage_{stage}"])
        for name in [name for name in blocks if name.startswith("block")]:
            query = jax.tree.map(lambda leaf, heads=heads: leaf * heads**0.5, blocks[name]["query"])
            blocks[name] = {**blocks[name], "query": query}
        params[f"stage_{stage}"] = blocks
    assert far_from_golden(of_cvt({**variables, "params": params}))


def test_golden_images_tell_epsilons_apart(monkeypatch):
    """The 1e-12 of a ``config.json`` is not what transformers computes with."""
    monkeypatch.setattr(cvt, "_NORM_EPSILON", 1e-12)
    module = module_of("hugging_face_cvt")
    x = jnp.asarray(seeded_images(module.image_size)[0])
    # A program of its own: others must not be given what is patched here.
    evaluate = jax.jit(functools.partial(module.apply, train=False))
    assert far_from_golden(np.asarray(evaluate(seeded("hugging_face_cvt"), x)))


def test_quick_gelu_is_a_field():
    x = np.linspace(-8, 8, 4001, dtype=np.float32)
    quick, exact = (np.asarray(ACTIVATIONS[cvt.GELUS[name]](x)) for name in ("quick", "exact"))
    np.testing.assert_allclose(quick, x / (1 + np.exp(-1.702 * x.astype(float))), atol=1e-6)
    assert 0.0202 < np.abs(quick - exact).max() < 0.0204
    assert far_from_golden(of_cvt(gelu="quick"))
    with pytest.raises(UsageError, match="gelu must be exact or quick"):
        of_cvt(gelu="tanh")


@pytest.mark.parametrize(("side", "stride"), [(4, 1), (4, 2), (5, 2)])
def test_places_of_biases(side, stride):
    table = distances(side, stride)
    queries = list(itertools.product(range(0, side, stride), repeat=2))
    keys = list(itertools.product(range(side), repeat=2))
    assert table.shape == (len(queries), len(keys))
    for (q, query), (k, key) in itertools.product(enumerate(queries), enumerate(keys)):
        rows, columns = abs(query[0] - key[0]), abs(query[1] - key[1])
        assert table[q, k] == rows * side + columns


@pytest.mark.long
def test_a_dropped_path_leaves_the_residual():
    """With its branches left out, the last of three blocks is none; the first two are never."""
    whole = module_of("hugging_face_cvt", depths=(1, 1, 2))
    short = module_of("hugging_face_cvt", depths=(1, 1, 1))
    dropping = module_of("hugging_face_cvt", depths=(1, 1, 2), drop_path=(0.0, 0.0, 1 - 1e-7))
    variables = seeded("hugging_face_cvt")
    x = jnp.asarray(seeded_images(whole.image_size)[0])

    def trained(module):
        rngs = {"dropout": jax.random.key(0)}
        apply = functools.partial(module.apply, train=True, mutable=["batch_stats"], rngs=rngs)
        return jax.jit(apply)(variables, x)[0]

    shorter = trained(short)
    np.testing.assert_allclose(trained(dropping), shorter, atol=1e-5)
    assert np.abs(trained(whole) - shorter).max() > 1e-3
    np.testing.assert_array_equal(logits_of(dropping, variables), logits_of(whole, variables))


@pytest.mark.long
def test_levit_drops_residual_branches_and_nothing_else():
    module = module_of("timm_levit", drop_path=1 - 1e-7)
    x = jnp.asarray(seeded_images(module.image_size)[0])
    variables = seeded("timm_levit")
    # Without the residual branches the weights of their last batch norms are of no effect.
    params = {
        name: {
            **part,
            **{last: {**part[last], "norm": jax.tree.map(jnp.zeros_like, part[last]["norm"])}},
        }
        if (last := {"attention": "out", "mlp": "down"}.get(name.rpartition("_")[2]))
        else part
        for name, part in variables["params"].items()
    }

    @functools.partial(jax.jit, static_argnums=0)
    def trained(rate, params):
        return module.clone(drop_path=rate).apply(
            {**variables, "params": params},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )[0]

    dropped = trained(module.drop_path, variables["params"])
    np.testing.assert_allclose(dropped, trained(0.0, params), atol=1e-5)
    assert np.abs(dropped - trained(0.0, variables["params"])).max() > 1e-3


@pytest.mark.parametrize("source", ["hugging_face_cvt", "timm_levit"])
def test_bfloat16_gives_float32_logits(source):
    module = module_of(source, dtype=jnp.bfloat16)
    logits = logits_of(module, seeded(source))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, golden(f"{source}/eval")["logits"], atol=0.2)


@pytest.mark.parametrize("source", ["hugging_face_cvt", "timm_levit"])
def test_refuses_other_images(source):
    module = module_of(source)
    apply = functools.partial(module.apply, train=False)
    with pytest.raises(InputError, match="takes images of shape"):
        jax.eval_shape(apply, seeded(source), jnp.zeros((2, 3, 39, 39)))


def test_batch_norm_wants_two_images():
    module = module_of("timm_levit")
    x = jnp.zeros((1, module.image_size, module.image_size, 3))
    apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
    with pytest.raises(UsageError, match="one image"):
        jax.eval_shape(apply, seeded("timm_levit"), x)
