"""Attention by cuDNN: lowered for a GPU, its padding computed by XLA, refused without a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from short_and_long import short_and_long

from benchmarks.aot import cudnn_assumed
from jaxser.models.transformer import cudnn_attention as module
from jaxser.runtime.errors import UsageError
from jaxser.runtime.forms import forms_for
from scripts.golden_foundation import CLASSES, seeded_batch, seeded_variables, small_model

CASES = ("wav2vec2-group-post", "wavlm-layer-post")
# Samples that make 34 frames, and 35.
EVEN, ODD = 690, 710


def function(what, case):
    """Logits or gradients, of ``(variables, x, lengths)``."""
    model = small_model(case, attention="cudnn", dtype="bfloat16")

    def run(variables, x, lengths):
        logits = functools.partial(model.apply, lengths=lengths)
        if what == "logits":
            return logits(variables, x)
        if what == "gradient by weights":
            return jax.grad(lambda v: (logits(v, x) ** 2).sum())(variables)
        if what == "gradient":
            return jax.grad(lambda x: (logits(variables, x) ** 2).sum())(x)
        _, pull_back = jax.vjp(functools.partial(logits, variables), x)
        one_hot = jnp.eye(CLASSES)[:, None]
        return jax.vmap(pull_back)(jnp.broadcast_to(one_hot, (CLASSES, len(x), CLASSES)))

    return run


def inputs(case, samples):
    x, lengths = seeded_batch(samples)
    variables = seeded_variables(small_model(case))
    return jax.tree.map(jnp.asarray, (variables, x, lengths))


def test_the_lengths_have_even_and_odd_frames():
    frames = small_model(CASES[0]).config.frames
    assert (frames(EVEN) % 2, frames(ODD) % 2) == (0, 1)


@pytest.mark.parametrize(
    ("case", "samples", "what", "padded"),
    short_and_long(
        [
            (CASES[0], ODD, "class gradients", False),
            (CASES[0], EVEN, "logits", True),
            (CASES[0], ODD, "gradient", True),
            (CASES[1], EVEN, "class gradients", False),
            (CASES[1], ODD, "class gradients", True),
            (CASES[1], ODD, "gradient by weights", False),
        ],
        [(CASES[0], ODD, "class gradients", False)],
    ),
)
def test_every_length_lowers_for_a_gpu(case, samples, what, padded):
    variables, x, lengths = inputs(case, samples)
    arguments = variables, x, lengths if padded else None
    with forms_for("gpu"), cudnn_assumed():
        traced = jax.jit(function(what, case)).trace(*arguments)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "cudnn$fmha" in text
    assert ("Backward" in text) == (what != "logits")


@pytest.fixture
def by_xla(monkeypatch):
    """What cuDNN would compute, computed by XLA."""
    attend = jax.nn.dot_product_attention

    def instead(*args, implementation, **options):
        assert implementation == "cudnn"
        query, key, value, bias = args
        assert query.shape[1] % 2 == 0
        return attend(query, key, value, bias, implementation="xla", **options)

    monkeypatch.setattr(module.jax.nn, "dot_product_attention", instead)
    with forms_for("gpu"):
        yield


@pytest.mark.parametrize("counts", [None, (5, 3)])
@pytest.mark.usefixtures("by_xla")
def test_frames_that_are_added_are_not_looked_at(counts):
    """Values that a row of padding would show; gradients of one and of several sums at once."""
    rng = np.random.default_rng(0)
    inputs = [*rng.normal(5, 1, (3, 2, 5, 2, 8)), rng.normal(0, 1, (2, 2, 5, 5))]
    inputs = [jnp.asarray(each, jnp.float32) for each in inputs]
    cotangents = jnp.asarray(rng.normal(0, 1, (3, 2, 5, 2, 8)), jnp.float32)
    known = jnp.array(counts or (5, 5))

    def textbook(query, key, value, bias):
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(8) + bias
        valid = jnp.arange(5)[None, None, None] < known[:, None, None, None]
        weights = jax.nn.softmax(jnp.where(valid, scores, -jnp.inf))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    def ours(*inputs):
        return module.cudnn_attention(*inputs, None if counts is None else known)

    def everything(function):
        def run(inputs):
            y, pull_back = jax.vjp(function, *inputs)
            return y, pull_back(cotangents[0]), jax.vmap(pull_back)(cotangents)

        return jax.tree.leaves(jax.jit(run)(inputs))

    for found, expected in zip(everything(ours), everything(textbook), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_a_gpu_it_is_refused_in_one_sentence():
    model = small_model(CASES[0], attention="cudnn", dtype="bfloat16")
    x = jnp.zeros((1, 500))
    with pytest.raises(UsageError, match=r'needs an NVIDIA GPU.* give attention="xla"\.'):
        model.init(jax.random.key(0), x)
    # A GPU, but no cuDNN.
    with forms_for("gpu"), pytest.raises(UsageError, match=r"not detected\); give attention="):
        model.init(jax.random.key(0), x)
