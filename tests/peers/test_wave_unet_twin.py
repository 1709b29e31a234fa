"""STAA-Net's generator against PyTorch on the same weights."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_gradients import distance

from benchmarks import generator
from benchmarks.generator_sides import jax_side, torch_side
from jaxser import models
from jaxser.runtime.errors import UsageError
from jaxser.victims.key_tables.entries import from_torch, to_torch
from jaxser.victims.key_tables.wave_unet import wave_unet_table
from scripts.golden_generator import SAMPLES, reference, seeded_batch, seeded_state, small_model

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": (8, 16, 24)},
        {"widths": (8, 16), "kernel_size": 7, "stride": 3, "group_size": 8},
    ],
)
def test_same_outputs_and_gradients(settings):
    model = small_model(**settings)
    table = wave_unet_table(len(model.widths))
    state, x = seeded_state(model), seeded_batch()
    expected = reference(model, state, x)
    variables = jax.tree.map(jnp.asarray, from_torch(state, table))

    @jax.jit
    def run(variables, x):
        def loss(variables, x):
            outputs = model.apply(variables, x)
            return sum((each**2).sum() for each in outputs), outputs

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, x)

    (by_variables, by_input), (locations, magnitudes) = run(variables, x)
    np.testing.assert_allclose(locations, expected["locations"], atol=1e-4)
    np.testing.assert_allclose(magnitudes, expected["magnitudes"], atol=1e-4)
    assert distance(by_input, expected["input"]) < 1e-3
    for key, gradient in to_torch(by_variables, table).items():
        assert distance(gradient, expected[f"gradient/{key}"]) < 1e-3, key


def test_published_size_and_keys():
    import torch

    from benchmarks.torch_twins import TorchWaveUNet

    torch.manual_seed(0)
    twin = TorchWaveUNet(96_000, 108_541, 96_261)
    state = {key: tensor.numpy() for key, tensor in twin.state_dict().items()}
    lines = (Path(__file__).parents[1] / "golden" / "staanet_keys.tsv").read_text().splitlines()
    published = dict(line.split("\t") for line in lines[1:])
    assert {key: "x".join(map(str, array.shape)) for key, array in state.items()} == published

    model = models.build("waveunet", num_samples=96_000)
    x = seeded_batch(96_000, rows=1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = from_torch(state, wave_unet_table(), shapes=shapes)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    with torch.no_grad():
        expected = twin(torch.from_numpy(x))
    for mine, theirs in zip(jax.jit(model.apply)(variables, x), expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_sides_of_the_benchmark_do_the_same(dtype, apart):
    """The same perturbations, and training steps that come to the same losses."""
    import torch

    from benchmarks.torch_twins import TorchWaveUNet

    model = small_model(widths=(8, 16, 24), group_size=8, dtype=jnp.dtype(dtype))
    state = seeded_state(model)
    twin = TorchWaveUNet(SAMPLES, model.input_samples, model.output_samples, model.widths)
    twin.load_state_dict({key: torch.from_numpy(each) for key, each in state.items()})
    variables = from_torch(state, wave_unet_table(len(model.widths)))
    ours = jax_side(model, jax.tree.map(jnp.asarray, variables))
    theirs = torch_side(twin, "cpu", dtype, False, ours.gflop)
    x = seeded_batch()
    placed = ours.place(x), theirs.place(x)

    def outputs():
        return [
            np.asarray(jnp.asarray(each, jnp.float32) if side is ours else each.float())
            for side, rows in zip((ours, theirs), placed, strict=True)
            for each in side.runs["forward"](rows)
        ]

    first = outputs()
    for mine, peer in zip(first[:2], first[2:], strict=True):
        assert distance(mine, peer) < apart
    losses = [
        [side.runs["train"](rows) for _ in range(4)]
        for side, rows in zip((ours, theirs), placed, strict=True)
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=apart / 10)
    assert losses[0][-1] < losses[0][0] - 1e-3  # it does learn
    # What is used is not what is trained: its parameters are prepared, or another copy.
    jax.tree.map(np.testing.assert_array_equal, outputs(), first)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here")
def test_the_benchmark_says_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "")  # is put back afterwards
    with pytest.raises(UsageError, match="JAX sees no GPU"):
        generator.main(["--device", "gpu"])
