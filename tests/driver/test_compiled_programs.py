"""Counts of programs that the compilers of accelerators made, where these are installed."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.aot import DEVICES
from benchmarks.compiled import compiled_rows
from jaxser.models.layers.conv_max_pool import conv_max_pool
from jaxser.runtime.sharding import make_mesh, replicated

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]

ONE_LAYER = "wav2vec2-base+num_hidden_layers=1+attention=cudnn"


def installed(device):
    if not DEVICES[device].is_installed():
        pytest.skip("the compilers of the extra aot are not installed")
    return DEVICES[device]


def compiled(device, *texts):
    return list(compiled_rows(texts, device, installed(device)))


@pytest.mark.parametrize(
    ("program", "launches", "step_gb", "temporary_mb"),
    [
        ("emo18:pgd:steps=20@32", 1000, 1.6, 200),
        ("emo18:deepfool@32", 1400, 6.3, 900),
        ("emo18:training@32", 1150, 2.9, 480),
        ("zhao19:pgd:steps=20@32", 2400, 3.7, 680),
        # Of gradients of all classes no choice of samples is written.
        ("zhao19:deepfool:steps=2@4", 3500, 1.5, 300),
        ("cnn_lstm:pgd:steps=20@32", 100, 0.58, 85),
        ("echim_cnn_lstm:pgd:steps=20@32", 880, 2.7, 410),
        ("alexnet:pgd:steps=20@32", 70, 1.2, 215),
        (f"{ONE_LAYER}:pgd:steps=20@8", 140, 4.6, 570),
    ],
)
def test_a_step_takes_no_more_than_it_did(program, launches, step_gb, temporary_mb):
    """A tenth is left for other versions of the compiler."""
    (row,) = compiled("h200", program)
    counts = {"launches": launches, "step_gb": step_gb, "temporary_mb": temporary_mb}
    assert {name: (0 < row[name] <= most) for name, most in counts.items()} == dict.fromkeys(
        counts, True
    ), row
    assert row["collectives"] == {}


def test_only_training_talks_between_devices():
    attack, training = compiled("v5e-8", "cnn_lstm_m0:fgsm@1", "cnn_lstm_m0:training@1")
    assert attack["collectives"] == {}
    assert set(training["collectives"]) == {"all-reduce"}


def test_the_pooled_convolution_of_a_tpu_pads_no_frames():
    """Frames of 17 samples as the last axis are 128 there: 3.0 GB, and 787 MB beside."""
    device, rows, samples, pool = installed("v5e-8"), 32, 96_000, 10
    whole = replicated(make_mesh([device.mesh().devices.flat[0]]))

    def gradient(x, kernel, cotangent):
        return jax.vjp(lambda x: conv_max_pool(x, kernel, 3, pool), x)[1](cotangent)

    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=whole)
        for shape in ((rows, samples), (8, 64), (rows, (samples - 1) // pool, 64))
    ]
    with device.forms():
        lowered = jax.jit(gradient).lower(*shapes)
    program = device.compile(lowered)
    assert 0.1e9 < program.cost_analysis()["bytes accessed"] <= 1.6e9
    assert program.memory_analysis().temp_size_in_bytes <= 100e6
