"""The CNN-LSTM on spectrograms: sizes, PyTorch's golden outputs, pooling, dropout, odd input."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from model_gradients import distance, logits_and_gradients

from jaxser import models
from jaxser.models import changed_cells, cnn_lstm
from jaxser.runtime.errors import InputError
from jaxser.victims.key_tables.cnn_lstm import cnn_lstm_table
from jaxser.victims.key_tables.entries import from_torch
from scripts.golden_cnn_lstm import CLASSES, INPUT_STRIDE, seeded_batch, seeded_state

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models_cnn_lstm.npz"


@pytest.fixture(scope="module")
def variables():
    return jax.tree.map(jnp.asarray, from_torch(seeded_state(), cnn_lstm_table()))


@functools.partial(jax.jit, static_argnums=0)
def evaluated(model, variables, x):
    return model.apply(variables, x, train=False)


def drawn(model, x):
    """Variables of the usual sizes, without a program for each."""
    init = functools.partial(model.init, train=False)
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[0].key == "batch_stats":
            return jnp.full(leaf.shape, float(path[-1].key == "var"), leaf.dtype)
        size = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
        return jnp.asarray(rng.normal(0, size**-0.5, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(1), x))


# Keras counts the statistics of batch norm too: 3,960,389 is the paper's figure. The others are
# 4 (inputs + units + 1) units per direction, (units or twice as many + 1) 5, and the same
# convolutions, 416 + 64 + 4,640 + 18,496.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cnn_lstm", 3_960_389),
        ("cnn_lstm_m0", 23_616 + 4 * 1668 * 3 + 20),
        ("cnn_lstm_m1", 23_616 + 8 * 1668 * 3 + 35),
        ("cnn_lstm_m2", 23_616 + 4 * 1671 * 6 + 35),
        # 416 + 64 + 4,640 + 8,256, and 3 x 28 x 64 features.
        ("cnn_lstm_m3", 13_376 + 4 * (5_376 + 4) * 3 + 20),
        # 2 x 27 x 64 features.
        ("cnn_lstm_m4", 23_616 + 4 * (3_456 + 7) * 6 + 35),
        # 832 + 128 + 18,496 + 73,856, and twice the features.
        ("cnn_lstm_m5", 93_312 + 4 * (3_328 + 4) * 3 + 20),
        # 416 + 64 + 8,224 + 18,496 + 32,896, and 2 x 52 x 128 features.
        ("cnn_lstm_m6", 60_096 + 4 * (13_312 + 7) * 6 + 35),
    ],
)
def test_sizes(name, count):
    init = functools.partial(models.build(name, CLASSES).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 261, 128)))
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == count


def test_the_models_that_were_chosen_between_grow_as_the_paper_says():
    """Section 2.3.1: the networks are arranged by their numbers of parameters."""
    counts = []
    for number in range(7):
        init = functools.partial(models.build(f"cnn_lstm_m{number}", CLASSES).init, train=False)
        shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 261, 128)))["params"]
        counts.append(sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)))
        assert ("backward" in shapes) == (number == 1)
        assert shapes["forward"]["recurrent_kernel"].shape[0] == (6 if number in (2, 4, 6) else 3)
        assert len([name for name in shapes if name.startswith("Conv")]) == 3 + (number == 6)
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("train", [False, True])
def test_golden_outputs(variables, train):
    model = models.build("cnn_lstm", CLASSES, dropout=0.0, lstm_dropout=0.0)
    x, y = map(jnp.asarray, seeded_batch())

    logits, by_input, by_params, _ = logits_and_gradients(model, variables, x, y, train)
    with np.load(GOLDEN) as file:
        prefix = "train/" if train else "eval/"
        golden = {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
    assert distance(by_input[:, ::INPUT_STRIDE], golden["input"]) < 1e-3
    compared = 0
    for entry in cnn_lstm_table():
        if entry.target[0] == "params" and f"gradient/{entry.sources[0]}" in golden:
            expected = golden[f"gradient/{entry.sources[0]}"]
            # The two biases of PyTorch's LSTM have the same gradient, and one is ours.
            expected = expected if len(entry.sources) == 2 else entry.convert(expected)
            assert distance(by_params[entry.target[1]][entry.target[2]], expected) < 1e-3
            compared += 1
    assert compared >= 8


# Kernel, window of the pool and its stride.
BLOCKS = {
    "cnn_lstm_m0": [(5, 4, 2), (3, 2, 2), (3, 2, 1)],
    "cnn_lstm_m6": [(5, 4, 2), (4, 2, 1), (3, 2, 1), (2, 2, 1)],
}


def features_as_trained(name, variables, slices):
    """The convolutions in the order of the paper, by flax alone."""
    params, norm = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    y = slices[..., None]
    for index, (size, window, stride) in enumerate(BLOCKS[name]):
        own = params[f"Conv_{index}"]
        layer = nn.Conv(own["bias"].size, (size, size), padding="VALID")
        y = nn.relu(layer.apply({"params": own}, y))
        if index == 0:
            norm_layer = nn.BatchNorm(use_running_average=True, epsilon=1e-3)
            y = norm_layer.apply({"params": params["BatchNorm_0"], "batch_stats": norm}, y)
        y = nn.max_pool(y, (window, window), (stride, stride))
    return y


# Slices of 29 frames and 34 bands are 986 cells; six of them at once, in pieces of four (two of
# them padding), and one by one.
@pytest.mark.parametrize(
    ("name", "cells"),
    [("cnn_lstm_m0", 1_000_000), ("cnn_lstm_m0", 4_000), ("cnn_lstm_m0", 1), ("cnn_lstm_m6", 1)],
)
def test_evaluation_in_another_order_and_in_pieces(name, cells, monkeypatch):
    monkeypatch.setattr(cnn_lstm, "available_cores", lambda: 1)
    monkeypatch.setattr(cnn_lstm, "_CELLS_PER_CORE", cells)
    model = models.build(name, CLASSES)
    x = jax.random.normal(jax.random.key(0), (3, 58, 34))
    variables = drawn(model, x)
    # A falling map has its smallest value where the convolution has its largest.
    params = dict(variables["params"])
    params["BatchNorm_0"] = {
        "scale": jnp.linspace(-2, 2, 16),
        "bias": jnp.linspace(1, -1, 16),
    }
    statistics = {"mean": jnp.linspace(-1, 1, 16), "var": jnp.linspace(0.1, 2, 16)}
    variables = {"params": params, "batch_stats": {"BatchNorm_0": statistics}}

    def ours(variables, x):
        return model.apply(variables, x, method="encode").blocks[-1]

    def expected(variables, x):
        found = features_as_trained(name, variables, x.reshape(6, 29, 34))
        return found.reshape(3, 2, *found.shape[1:])

    features = jax.jit(expected)(variables, x)
    np.testing.assert_allclose(jax.jit(ours)(variables, x), features, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), features.shape)
    gradients = [
        jax.jit(jax.grad(lambda v, x, f=f: (f(v, x) * weights).sum(), (0, 1)))(variables, x)
        for f in (ours, expected)
    ]
    for layer in ("Conv_0", "Conv_1", "Conv_2", "BatchNorm_0"):
        for leaf, theirs in gradients[1][0]["params"][layer].items():
            assert distance(gradients[0][0]["params"][layer][leaf], theirs) < 1e-5
    assert distance(gradients[0][1], gradients[1][1]) < 1e-5


def test_dropout_masks_the_same_features_at_every_step_of_the_lstm():
    """Without the dropout of the slices, a slice moved in time keeps its mask."""
    model = models.build("cnn_lstm_m0", CLASSES, lstm_dropout=0.5)
    x = jnp.tile(jax.random.normal(jax.random.key(0), (1, 29, 128)), (1, 2, 1))
    variables = drawn(model, x)

    @jax.jit
    def read(seed):
        _, intermediates = model.apply(
            variables,
            x,
            train=True,
            rngs={"dropout": jax.random.key(seed)},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        )
        return intermediates["intermediates"]["Dropout_1"]["__call__"][0]

    first, second = read(0)[0]
    np.testing.assert_array_equal(first, second)
    assert (first == 0).mean() > 0.4
    assert (read(0) != read(1)).any()


def test_too_small_a_spectrogram_is_refused():
    model = models.build("cnn_lstm", CLASSES)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    for shape in ((1, 28, 128), (1, 261, 25)):
        with pytest.raises(InputError, match="too small for this CNN-LSTM"):
            jax.eval_shape(init, jnp.zeros(shape))
    jax.eval_shape(init, jnp.zeros((1, 29, 26)))


def test_rows_do_not_see_each_other_in_evaluation(variables):
    apply = functools.partial(evaluated, models.build("cnn_lstm", CLASSES), variables)
    x, _ = seeded_batch()
    np.testing.assert_allclose(apply(x)[::-1], apply(x[::-1]), atol=1e-6)
    np.testing.assert_allclose(apply(x)[:1], apply(x[:1]), atol=1e-5)


def test_bfloat16_answers_in_float32(variables):
    half = models.build("cnn_lstm", CLASSES, dtype="bfloat16")
    x, _ = seeded_batch()
    logits = evaluated(half, variables, x)
    assert logits.dtype == jnp.float32
    exact = evaluated(models.build("cnn_lstm", CLASSES), variables, x)
    np.testing.assert_allclose(logits, exact, atol=0.2)
    assert np.abs(logits - exact).max() > 1e-6


def moved_cells(frames, mels, positions):
    """12 rows of cells, ``[rows, positions]``: at random, and in the corners of slices."""
    rng = np.random.default_rng(positions)
    index = rng.integers(0, frames * mels, (12, positions))
    # Features see the first 26 frames of a slice, and all bands but a rest of fewer than four.
    top, right = (frames // 29 - 1) * 29, mels - 1 - (mels - 26) % 4
    frame = np.array([0, 0, 25, 29, top, top + 25, top + 26, frames - 1])
    mel = np.array([0, right, right, 0, 0, right, 0, right])
    index[: len(frame), 0] = frame * mels + mel
    if positions > 1:
        # Neighbours, whose fields overlap, and one cell twice.
        index[8, 1], index[9, 1] = index[8, 0] ^ 1, index[9, 0]
    return index


# Slices of 29 frames with 3 and with 10 bands of features; 3 and 5 frames are after the last one.
@pytest.mark.parametrize(
    ("name", "frames", "mels", "positions", "dtype", "atol"),
    [
        ("cnn_lstm", 61, 34, 2, "float32", 1e-5),
        pytest.param("cnn_lstm_m0", 92, 64, 1, "float32", 1e-5, marks=pytest.mark.long),
        ("cnn_lstm_m1", 92, 64, 1, "float64", 1e-10),
        pytest.param("cnn_lstm_m1", 92, 64, 2, "float64", 1e-10, marks=pytest.mark.long),
        ("cnn_lstm_m1", 92, 64, 7, "float64", 1e-10),
        pytest.param("cnn_lstm_m6", 61, 34, 1, "float64", 1e-10, marks=pytest.mark.long),
    ],
)
def test_changed_cells_do_what_a_forward_pass_says(
    name, frames, mels, positions, dtype, atol, monkeypatch
):
    monkeypatch.setattr(changed_cells, "_MAPS_IN_A_PRODUCT", 5)
    with jax.enable_x64(dtype == "float64"):
        model = models.build(name, CLASSES, dtype=dtype)
        x = jax.random.normal(jax.random.key(0), (2, frames, mels), dtype)
        variables = drawn(model, x)
        index = moved_cells(frames, mels, positions).reshape(2, 6, positions)
        # By the cell, so that one that comes twice has one value.
        values = (50 * np.cos(index)).astype(dtype)
        copies = np.repeat(np.asarray(x).reshape(2, 1, -1), 6, axis=1)
        np.put_along_axis(copies, index, values, axis=2)
        copies = jnp.asarray(copies.reshape(12, frames, mels))

        @jax.jit
        def local(variables, x, index, values):
            encoding = model.apply(variables, x, method="encode")
            return model.apply(variables, x, encoding, index, values, method="logits_at")

        found = local(variables, x, jnp.asarray(index), jnp.asarray(values[..., None]))
        logits = jax.jit(functools.partial(model.apply, train=False))
        expected = logits(variables, copies).reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        # Pooling may hide a cell; those after the last field are never seen.
        moved = np.abs(expected - logits(variables, x)[:, None]).max(axis=2).reshape(12)
        assert (moved[:6] > 3 * atol).sum() >= 5
        # M6 has two rows of features, the second of which sees the seventh cell.
        unseen = moved[7:8] if name == "cnn_lstm_m6" else moved[6:8]
        assert positions > 1 or (unseen < atol).all()


@pytest.mark.parametrize("in_a_product", [1, 5, 1_000])
def test_bands_that_are_zero_are_left_out_of_a_product(in_a_product, monkeypatch):
    monkeypatch.setattr(changed_cells, "_MAPS_IN_A_PRODUCT", in_a_product)
    rng = np.random.default_rng(0)
    maps, kernel = rng.normal(size=(17, 2, 11, 3)), rng.normal(size=(66, 4))
    first = rng.integers(0, 11 - 4 + 1, 17)
    band = np.arange(11)
    maps *= ((band >= first[:, None]) & (band < first[:, None] + 4))[:, None, :, None]
    maps, kernel = maps.astype(np.float32), kernel.astype(np.float32)
    find = jax.jit(changed_cells.banded_product, static_argnums=2)
    order, products = find(jnp.asarray(maps), jnp.asarray(first), 4, jnp.asarray(kernel))
    assert sorted(order.tolist()) == list(range(17))
    np.testing.assert_allclose(products, (maps.reshape(17, -1) @ kernel)[order], atol=1e-5)


def test_so_many_changed_cells_are_cheaper_as_a_forward_pass():
    model = models.build("cnn_lstm", CLASSES)
    # A feature sees 26 of 128 bands of one of 9 slices.
    assert model.is_local((261, 128), 22)
    assert not model.is_local((261, 128), 24)
