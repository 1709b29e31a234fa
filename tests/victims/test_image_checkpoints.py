"""Folders of image networks: of three libraries, read and written, and what is refused."""

import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxser import export, load_victim, models
from jaxser.config import FeaturesConfig, ModelConfig, TrainConfig
from jaxser.runtime.errors import InputError, UsageError
from jaxser.training.run import _pretrained
from jaxser.victims import run_folder
from jaxser.victims.image_checkpoints.architecture import description, image_module
from jaxser.victims.image_checkpoints.reading import read_image_checkpoint
from jaxser.victims.image_checkpoints.sources import SOURCES
from jaxser.victims.image_checkpoints.writing import write_image_checkpoint
from jaxser.victims.key_tables.cvt import hugging_face_cvt_table
from jaxser.victims.key_tables.entries import to_torch
from jaxser.victims.key_tables.levit import (
    hugging_face_levit_table,
    timm_levit_conv_table,
    timm_levit_table,
)
from jaxser.victims.module import build_module
from jaxser.victims.weights_file import write_safetensors

ALEXNET = {"channels": (4, 6, 5, 4, 6), "hidden": 10, "image_size": 98}
VGG16 = {"blocks": ((4, 5), (6,), (5, 6)), "hidden": 10, "image_size": 18}
VIT = {"width": 12, "depth": 2, "heads": 3, "mlp": 20, "patch": 4, "image_size": 12}
CVT = {
    "widths": (8, 12),
    "depths": (1, 2),
    "heads": (1, 2),
    "mlp_ratios": (2.0, 1.5),
    "patch_sizes": (7, 3),
    "patch_strides": (4, 2),
    "patch_paddings": (2, 1),
    "key_strides": (2, 2),
    "drop_path": (0.0, 0.2),
    "image_size": 39,
}
LEVIT = {
    "widths": (16, 24),
    "depths": (1, 2),
    "heads": (2, 3),
    "key_size": 4,
    "image_size": 48,
}
# family -> (architecture, fields of a small one)
SMALL = {
    "alexnet": ("alexnet", ALEXNET),
    "vgg16": ("vgg16", VGG16),
    "vit": ("vit-b16", VIT),
    "cvt": ("cvt-13", CVT),
    "levit": ("levit-256", LEVIT),
}
LABELS = ("anger", "joy", "sadness")


def small(family, **changed):
    name, fields = SMALL[family]
    return models.build(name, 3, **{**fields, "imagenet_classes": 11, **changed})


def drawn(module, seed=0):
    """Variables at random, the running variances positive."""
    size = module.image_size
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(np.float32), shapes)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def publish(folder, source, module, variables, config=None):
    """A folder as its library would publish it: no head of this project, counters beside norms."""
    state = to_torch(variables, source.table(module, head=False))
    for key in [key for key in state if key.endswith("running_mean")]:
        state[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    write_safetensors(state, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def source_id(source):
    return f"{source.library}-{source.family}-{source.dimensions}"


@pytest.mark.parametrize("source", SOURCES, ids=source_id)
def test_reads_every_source_by_its_keys(source, tmp_path):
    module = small(source.family)
    variables = drawn(module)
    publish(tmp_path, source, module, variables)
    name, fields = SMALL[source.family]
    found = read_image_checkpoint(tmp_path, 3, name=name, imagenet_classes=11, **fields)
    assert found.new == ("emotion head",)
    assert found.labels is None
    head = found.variables["params"].pop("head")
    assert head["kernel"].shape == (11, 3)
    del variables["params"]["head"]
    assert_equal(found.variables, variables)


@pytest.mark.parametrize("family", SMALL)
def test_written_and_read_back_bit_for_bit(family, tmp_path):
    module = small(family, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    variables = drawn(module)
    write_image_checkpoint(module, variables, LABELS, tmp_path / "out")
    found = read_image_checkpoint(tmp_path / "out")
    assert (found.labels, found.new) == (LABELS, ())
    assert_equal(found.variables, variables)
    # What is of training alone comes back where the other library has a place for it.
    assert found.module == module
    again = read_image_checkpoint(tmp_path / "out", 4, seed=1)
    assert again.new == ("emotion head",)
    assert again.variables["params"]["head"]["kernel"].shape == (11, 4)
    # As many emotions, but others, or in another order: the head says something else of them.
    for labels in (LABELS, LABELS[::-1], (*LABELS[:-1], "boredom")):
        again = read_image_checkpoint(tmp_path / "out", labels=labels)
        assert again.new == (() if labels == LABELS else ("emotion head",))


def test_writes_quick_gelu_and_reads_it(tmp_path):
    module = small("cvt", gelu="quick")
    write_image_checkpoint(module, drawn(module), LABELS, tmp_path / "out")
    assert image_module(tmp_path / "out", 3).gelu == "quick"
    assert image_module(tmp_path / "out", 3, gelu="exact").gelu == "exact"


def test_writes_into_no_folder_that_holds_something(tmp_path):
    module = small("cvt")
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_image_checkpoint(module, {}, LABELS, tmp_path)
    with pytest.raises(UsageError, match="2 labels for a network of 3 classes"):
        write_image_checkpoint(module, {}, LABELS[:2], tmp_path / "out")


# SHA-256 of the sorted lines "key shape" of what the libraries publish, counters left out.
KEYS = {
    "hf_cvt-13": (
        "cvt-13",
        hugging_face_cvt_table,
        "a90ec008397bdb64d7b09e1dd7bd3b9e30bd4f9c65a7228f659d4e6cbc7a2869",
    ),
    "hf_cvt-21": (
        "cvt-21",
        hugging_face_cvt_table,
        "3ec20e6a7c939f30bd0759ac5c8436819abc3926cabd33b8c99a780566a5f348",
    ),
    "hf_levit-256": (
        "levit-256",
        hugging_face_levit_table,
        "a881c30f5e89384a879b90751e6dea789f7d438e6d6e3ba4bb632fca610ddf6b",
    ),
    "timm_levit_256": (
        "levit-256",
        timm_levit_table,
        "b6552f997c19336217ecc7a9b433c5640a3b941b4b0c8b477a156de736e6b67d",
    ),
    "timm_levit_conv_256": (
        "levit-256",
        timm_levit_conv_table,
        "235f35a0c67ef0f6c310ed15f86112466999f2e105ecc29169acf00553969102",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_tables_have_the_published_keys_and_shapes(name):
    architecture, table, digest = KEYS[name]
    module = models.build(architecture, 7)
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: module.init(key, x, train=False), jax.random.key(0), x)
    # Views of one zero, of which no memory is taken.
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), shapes)
    entries = table(module, head=False)
    filled = {entry.target for entry in table(module)}
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    assert filled == {tuple(part.key for part in path) for path, _ in leaves}
    lines = sorted(
        f"{key} {'x'.join(map(str, a.shape))}\n" for key, a in to_torch(empty, entries).items()
    )
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest


TIMM = next(each for each in SOURCES if each.library == "timm" and each.family == "levit")
CVT_SOURCE = next(each for each in SOURCES if each.family == "cvt")


def published_cvt(tmp_path, **changed):
    module = small("cvt")
    config = {
        "model_type": "cvt",
        "embed_dim": [8, 12],
        "depth": [1, 2],
        "num_heads": [1, 2],
        "mlp_ratio": [2.0, 1.5],
        "patch_sizes": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [2, 1],
        "stride_kv": [2, 2],
        "stride_q": [1, 1],
        "kernel_qkv": [3, 3],
        "padding_q": [1, 1],
        "padding_kv": [1, 1],
        "qkv_projection_method": ["dw_bn", "dw_bn"],
        "qkv_bias": [True, True],
        "cls_token": [False, True],
        "drop_rate": [0.0, 0.0],
        "attention_drop_rate": [0.0, 0.0],
        "drop_path_rate": [0.0, 0.1],
        "id2label": {str(index): f"class {index}" for index in range(11)},
        **changed,
    }
    publish(tmp_path, CVT_SOURCE, module, drawn(module), config)
    return tmp_path


def test_transformers_reads_the_configuration(tmp_path):
    folder = published_cvt(tmp_path)
    module = image_module(folder, 3, name="cvt-21", image_size=39)
    assert module == small("cvt", drop_path=(0.0, 0.1))
    # What transformers passes over, and its defaults where the file says nothing.
    (tmp_path / "config.json").write_text('{"model_type": "cvt", "layer_norm_eps": 1e-3}')
    assert image_module(folder, 3) == models.build("cvt-13", 3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"model_type": "swin"}, "model of type 'swin', which is no image network"),
        ({"embed_dim": "8"}, "is no configuration of a cvt for transformers"),
        ({"embed_dim": [8, -12]}, r"widths is .* not from 1 to 65,536"),
        ({"embed_dim": [8, 13]}, "a width is no multiple of its heads"),
        ({"depth": [1, 10**9]}, r"depths is .* not from 1 to 256"),
        ({"depth": [1, 2, 3]}, "differ in length"),
        ({"cls_token": [True, True]}, "cls_token in .* which is not supported"),
        ({"qkv_projection_method": ["avg", "avg"]}, "qkv_projection_method in .* not supported"),
        ({"stride_kv": [3, 3]}, "stride_kv in .* not supported"),
        ({"hidden_act": "relu"}, "hidden_act in .* not supported"),
        ({"num_channels": 1}, "num_channels in .* not supported"),
        ({"emotion_labels": "joy"}, "emotion_labels in"),
        ({"emotion_labels": ["joy", "fear", "joy"]}, "emotion_labels in .* more than one class"),
        ({"drop_path_rate": [0.0, 1.0]}, "drop_path is .* not from 0 to less than 1"),
        ({"drop_rate": [2.0, 2.0]}, "dropout is 2.0, not from 0 to less than 1"),
        ({"id2label": {str(i): str(i) for i in range(12)}}, "classifier of 11 classes"),
        ({"depth": [1, 1]}, "layers.1.* is not part of this model"),
        ({"depth": [1, 3]}, "layers.2.* is missing"),
    ],
)
def test_refuses_a_configuration(changed, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence) as raised:
        read_image_checkpoint(published_cvt(tmp_path, **changed), 3, image_size=39)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("layernorm.bias"), r"layernorm.bias is missing"),
        (
            lambda state: state.update(more=np.zeros(2, np.float32)),
            "more is not part of this model",
        ),
        (
            lambda state: state.update({"layernorm.bias": np.full(12, math.nan, np.float32)}),
            "not finite in layernorm.bias",
        ),
        (
            lambda state: state.update({"layernorm.bias": np.zeros(13, np.float32)}),
            r"layernorm.bias gives \(13,\), not \(12,\)",
        ),
        (
            lambda state: state.update(
                {
                    "classifier.weight": np.zeros((21841, 12), np.float32),
                    "classifier.bias": np.zeros(21841, np.float32),
                }
            ),
            "a classifier of 21,841 classes .*, not of 11",
        ),
    ],
)
def test_refuses_weights(change, sentence, tmp_path):
    from safetensors.numpy import load_file

    folder = published_cvt(tmp_path)
    state = load_file(folder / "model.safetensors")
    change(state)
    write_safetensors(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=sentence) as raised:
        read_image_checkpoint(folder, 3, image_size=39)
    assert "\n" not in str(raised.value)


def test_refuses_another_family(tmp_path):
    folder = published_cvt(tmp_path)
    with pytest.raises(UsageError, match="holds a cvt network, not levit-256"):
        read_image_checkpoint(folder, 3, name="levit-256")
    with pytest.raises(UsageError, match="holds a cvt network, not levit-256"):
        image_module(folder, 3, name="levit-256")
    (folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(InputError, match="describes a vit network, but the weights are of a cvt"):
        read_image_checkpoint(folder, 3)
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match="holds a cvt network, not vgg16"):
        read_image_checkpoint(folder, 3, name="vgg16")
    write_safetensors({"a": np.zeros(1, np.float32)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="no image network that is known here"):
        read_image_checkpoint(folder, 3)


def test_reads_what_timm_says(tmp_path):
    config = {
        "architecture": "levit_conv_192",
        "num_classes": 1000,
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    module = image_module(tmp_path, 3)
    assert module == models.build("levit-192", 3, mean=(0.5,) * 3, std=(0.25,) * 3)
    for architecture, sentence in (
        ("vgg16_bn", "describes timm's 'vgg16_bn', which is not known here"),
        (None, "says neither model_type nor architecture"),
        (3, "architecture in"),
    ):
        path.write_text(json.dumps({"architecture": architecture}), encoding="utf-8")
        with pytest.raises(InputError, match=sentence):
            description(tmp_path)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"fields": {"dropout": "much"}}, "dropout in .* is 'much'"),
        ({"fields": {"dropout": 1.5}}, "dropout is 1.5, not from 0 to less than 1"),
        ({"fields": {"depth": 2.5}}, "depth in .* is 2.5"),
        ({"fields": {"width": True}}, "width in .* is True"),
        ({"fields": {"heads": None}}, "heads in .* is None"),
        ({"fields": {"image_size": 7, "patch": 16}}, "patch_size is larger than image_size"),
        ({"fields": {"mean": "abc"}}, "mean in .* is 'abc'"),
        ({"fields": {"mean": [0, 0]}}, "mean is .* not one number for each of three colours"),
        ({"fields": {"std": [0, 0, 0]}}, "std is .* not from 0.0001"),
        ({"pretrained_cfg": {"std": [0.0, 1.0, 1.0]}}, "std is .* not from 0.0001"),
        *[
            ({"fields": {name: 3}}, f"'{name}', which is no field of a network of images")
            for name in ("dtype", "name", "num_classes", "parent", "kernel")
        ],
    ],
)
def test_refuses_fields_that_make_no_network(said, sentence, tmp_path):
    config = {"architecture": "vit_b_16", **said}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=sentence) as raised:
        image_module(tmp_path, 3)
    assert "\n" not in str(raised.value)


def test_colours_may_be_left_as_they_are(tmp_path):
    config = {"architecture": "vit_b_16", "fields": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert image_module(tmp_path, 3) == models.build("vit-b16", 3, mean=(0,) * 3, std=(1,) * 3)


def test_needs_to_know_classes_and_architecture(tmp_path):
    publish(tmp_path, TIMM, small("levit"), drawn(small("levit")))
    with pytest.raises(UsageError, match="has no head for emotions; give num_classes"):
        read_image_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="give the name of the architecture"):
        image_module(tmp_path, 3)
    with pytest.raises(UsageError, match="has no setting 'width'"):
        read_image_checkpoint(tmp_path, 3, width=3)


def test_a_training_begins_with_a_checkpoint(tmp_path):
    folder = published_cvt(tmp_path, image_size=39)
    features = FeaturesConfig(kind="mel", image_size=39)
    config = TrainConfig(model=ModelConfig(name="cvt-21", checkpoint=folder), features=features)
    model = build_module(config, 3)
    assert model.network == small("cvt", drop_path=(0.0, 0.1))
    begun = _pretrained(config, model, LABELS)
    assert set(begun) == {"params", "batch_stats"}
    expected = drawn(small("cvt"))
    del expected["params"]["head"], begun["params"]["network"]["head"]
    assert_equal({kind: tree["network"] for kind, tree in begun.items()}, expected)
    other = TrainConfig(
        model=ModelConfig(name="levit-256", checkpoint=folder), features=FeaturesConfig(kind="mel")
    )
    with pytest.raises(UsageError, match="holds a cvt network, not levit-256"):
        build_module(other, 3)


def test_without_a_configuration_the_config_says_the_architecture(tmp_path):
    source = next(each for each in SOURCES if each.family == "alexnet")
    publish(tmp_path, source, small("alexnet"), drawn(small("alexnet")))
    config = TrainConfig(
        model=ModelConfig(name="alexnet", checkpoint=tmp_path), features=FeaturesConfig(kind="mel")
    )
    assert build_module(config, 3).network == models.build("alexnet", 3)


class Behind(nn.Module):
    network: nn.Module


@pytest.mark.parametrize("name", ["cvt", "vgg16"])
def test_export_writes_the_network_behind_a_front_end(name, tmp_path, monkeypatch):
    module = small(name)
    variables = drawn(module)
    assert ("batch_stats" in variables) == (name == "cvt")
    wrapped = {kind: {"network": tree} for kind, tree in variables.items()}
    wrapped.setdefault("batch_stats", {})["lowest"] = 0
    loaded = (Behind(module), wrapped, TrainConfig(), {"labels": LABELS})
    monkeypatch.setattr(run_folder, "load_module", lambda folder: loaded)
    export.export(tmp_path / "run", tmp_path / "out")
    found = read_image_checkpoint(tmp_path / "out")
    assert (found.labels, found.new) == (LABELS, ())
    assert_equal(found.variables, variables)


def test_a_network_of_images_is_no_victim_by_itself(tmp_path):
    with pytest.raises(InputError, match="a network of images \\('cvt'\\), which reads no speech"):
        load_victim(published_cvt(tmp_path))
    (tmp_path / "config.json").write_text('{"architecture": "vgg16"}', encoding="utf-8")
    with pytest.raises(InputError, match="a network of images \\('vgg16'\\)"):
        load_victim(tmp_path)
