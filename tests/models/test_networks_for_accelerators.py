"""Every network in the forms for accelerators beside those for a CPU, on this CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_sources import variables_of
from model_gradients import logits_and_gradients

from jaxser import models
from jaxser.runtime.forms import forms_for
from jaxser.victims.key_tables.cnn_lstm import cnn_lstm_table
from jaxser.victims.key_tables.conv_lstm import conv_lstm_table
from jaxser.victims.key_tables.entries import from_torch
from scripts import (
    golden_cnn_lstm,
    golden_cvt_levit,
    golden_foundation,
    golden_images,
    golden_models,
)


def conv_lstm(name):
    model = models.build(name, golden_models.CLASSES)
    variables = from_torch(golden_models.seeded_state(name), conv_lstm_table(len(model.blocks)))
    return model, variables, *golden_models.seeded_batch()


def cnn_lstm(name):
    model = models.build(name, golden_cnn_lstm.CLASSES, dropout=0.0, lstm_dropout=0.0)
    variables = from_torch(golden_cnn_lstm.seeded_state(), cnn_lstm_table())
    return model, variables, *golden_cnn_lstm.seeded_batch()


def image(source):
    model = golden_images.module_of(source)
    return model, variables_of(source), *golden_images.seeded_batch(model.image_size)


def cvt_levit(source):
    model = golden_cvt_levit.module_of(source)
    variables = golden_cvt_levit.seeded_variables(model, source)
    return model, variables, *golden_cvt_levit.seeded_images(model.image_size)


def foundation(case):
    model = golden_foundation.small_model(case)
    x, _ = golden_foundation.seeded_batch(700)
    labels = np.arange(len(x)) % golden_foundation.CLASSES
    return model, golden_foundation.seeded_variables(model), x, labels


CASES = [
    *((conv_lstm, name) for name in ("emo18", "zhao19")),
    (cnn_lstm, "cnn_lstm"),
    *((image, name) for name in ("echim_cnn_lstm", "torchvision_alexnet")),
    *((image, name) for name in ("torchvision_vgg16", "torchvision_vit")),
    *((cvt_levit, name) for name in ("hugging_face_cvt", "timm_levit")),
    *((foundation, name) for name in ("wav2vec2-group-post", "hubert-batch_norm")),
    (foundation, "wavlm-layer-post"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "name", "train"),
    [
        *((*case, False) for case in CASES),
        # The others drop at random, or train in the same forms.
        *((*case, True) for case in CASES if case[0] in (conv_lstm, cnn_lstm)),
    ],
)
def test_networks_give_the_same_in_either_form(make, name, train):
    model, variables, x, y = make(name)
    variables, x, y = jax.tree.map(jnp.asarray, (variables, x, y))

    def run(platform):
        with forms_for(platform):
            return jax.tree.leaves(logits_and_gradients(model, variables, x, y, train))

    for ours, expected in zip(run("gpu"), run("cpu"), strict=True):
        # Some gradients are nothing but rounding: a key's bias adds the same to all scores.
        apart, size = np.linalg.norm(ours - expected), np.linalg.norm(expected)
        assert apart < 1e-4 * size + 1e-6


def test_every_network_is_among_them():
    """By the class of its module; the generator of perturbations has tests of its own forms."""
    tested = tuple(type(make(name)[0]) for make, name in CASES)
    for name in set(models.names()) - {"waveunet"}:
        assert isinstance(models.build(name, 7), tested), name
