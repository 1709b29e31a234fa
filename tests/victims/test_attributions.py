"""Saliency, integrated gradients and Grad-CAM++: against grad-cam and captum, and by hand."""

import functools
from pathlib import Path

import image_sources
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_scripts import load_script
from short_and_long import short_and_long
from small_victims import linear_weights, small_victim, waveforms

from jaxser.models.front_end import WithFrontEnd
from jaxser.models.layers.feature_map import FEATURE_MAP
from jaxser.speech.features import Spectrogram
from jaxser.victims.attributions import (
    cells,
    grad_cam_plus_plus,
    gradient_between,
    input_gradient,
    input_gradient_and_map,
    path,
    scaled_map,
)
from jaxser.victims.feature_maps import FeatureMap, feature_map_of
from jaxser.victims.victim import Victim, evaluation_logits

script = load_script("golden_explanations")
CASES, PATHS, PATH_STEPS, STRIDE = script.CASES, script.PATHS, script.PATH_STEPS, script.STRIDE
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "explanations.npz"


def golden(key):
    with np.load(GOLDEN) as file:
        return file[key]


def victim_of(module, variables):
    side = module.image_size
    size = (side, side)
    return Victim(
        apply=evaluation_logits(module),
        variables=variables,
        labels=tuple("abcde"),
        input_shape=(*size, 3),
        feature_map=FeatureMap(module, size, size),
    )


@functools.cache
def case(source):
    """(victim, images, labels) of a golden case."""
    module, x, y = script.module_and_images(source)
    if source in image_sources.TABLES:
        variables = image_sources.variables_of(source)
    else:
        variables = load_script("golden_cvt_levit").seeded_variables(module, source)
        variables = jax.tree.map(jnp.asarray, variables)
    return victim_of(module, variables), jnp.asarray(x), jnp.asarray(y)


@functools.cache
def looked_at(source):
    victim, x, y = case(source)
    look = jax.jit(functools.partial(input_gradient_and_map, victim))
    return jax.tree.map(np.asarray, look(victim.variables, x, y))


SHORT = ("hugging_face_vit",)


@pytest.mark.parametrize("source", short_and_long(CASES, SHORT))
def test_grad_cam_plus_plus_is_that_of_grad_cam(source):
    victim, x, _ = case(source)
    logits, _, maps, by_map = looked_at(source)
    made = scaled_map(grad_cam_plus_plus(maps, by_map, "grad-cam"), x.shape[1:3], "grad-cam")
    expected = golden(f"grad_cam/{source}")
    assert expected.max() > 0.5
    np.testing.assert_allclose(made[:, ::STRIDE], expected, atol=2e-3)
    # A look at the map leaves the logits what they are.
    np.testing.assert_allclose(logits, victim.logits(x), atol=1e-4)
    assert (maps.shape, by_map.shape) == (
        (len(x), *victim.feature_map.shape(victim.variables, x)),
    ) * 2


def test_without_the_peers_epsilon_small_gradients_count_as_large_ones():
    _, _, maps, by_map = looked_at("hugging_face_vit")
    by_map = by_map * 1e-3
    largest = jnp.abs(by_map).max()
    assert largest < 7e-4
    made, peers = (
        scaled_map(grad_cam_plus_plus(maps, by_map, compat), (12, 12), compat)
        for compat in (None, "grad-cam")
    )
    # Of gradients that are nothing beside 2, the weights are half their sum.
    weights = np.maximum(by_map, 0).sum(axis=(1, 2)) / 2
    by_hand = np.maximum(np.einsum("brcf,bf->brc", maps, weights), 0)
    np.testing.assert_allclose(made, scaled_map(jnp.asarray(by_hand), (12, 12)), atol=1e-2)
    assert np.abs(made - peers).max() > 0.1


def test_grad_cam_plus_plus_of_one_channel_by_hand():
    maps = np.array([[1.0, 2.0], [0.0, 5.0]], np.float32)[None, :, :, None]
    gradients = np.array([[0.5, -1.0], [0.0, 2.0]], np.float32)[None, :, :, None]
    # Alpha is 1 / (2 + 8 g) where g is not 0, and negative gradients weigh nothing.
    weight = 0.5 / (2 + 8 * 0.5) + 2.0 / (2 + 8 * 2.0)
    np.testing.assert_allclose(
        grad_cam_plus_plus(maps, gradients)[0], weight * maps[0, ..., 0], rtol=1e-6
    )
    np.testing.assert_array_equal(scaled_map(jnp.ones((1, 2, 2)), (4, 4)), np.zeros((1, 4, 4)))
    np.testing.assert_allclose(scaled_map(1e-9 * maps[..., 0], (2, 2))[0], maps[0, ..., 0] / 5)


def attributed(victim, x, baseline, classes, steps):
    """Integrated gradients, and the class' logit of baseline and input."""
    look = jax.jit(functools.partial(gradient_between, victim))
    total = jnp.zeros_like(x)
    for place, weight in zip(*path(steps), strict=True):
        total += weight * look(victim.variables, x, baseline, jnp.float32(place), classes)[1]
    ends = [
        look(victim.variables, x, baseline, jnp.float32(place), classes)[0] for place in (0.0, 1.0)
    ]
    return np.asarray(total * (x - baseline)), np.subtract(*ends[::-1])


@pytest.mark.parametrize("source", short_and_long(PATHS, ("hugging_face_vit",)))
def test_integrated_gradients_are_those_of_captum(source):
    victim, x, y = case(source)
    made, _ = attributed(victim, x, jnp.asarray(script.baseline_of(x)), y, PATH_STEPS)
    expected = golden(f"integrated/{source}")
    np.testing.assert_allclose(made[:, ::STRIDE], expected, atol=1e-3 * np.abs(expected).max())


def test_of_a_linear_victim_everything_is_known():
    victim, x = small_victim("linear"), jnp.asarray(waveforms(3))
    classes, kernel = jnp.array([0, 4, 2]), linear_weights()["kernel"]
    logits, gradient = input_gradient(victim, victim.variables, x, classes)
    np.testing.assert_array_equal(gradient, kernel.T[classes])
    np.testing.assert_array_equal(logits, victim.logits(x))
    baseline = jnp.full_like(x, 0.25)
    made, difference = attributed(victim, x, baseline, classes, 1)
    np.testing.assert_allclose(made, kernel.T[classes] * (x - baseline), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.sum(axis=1), difference, rtol=1e-4)


def test_attributions_add_up_to_the_difference_of_logits():
    victim, x = small_victim("conv"), jnp.asarray(waveforms(4))
    made, difference = attributed(victim, x, jnp.zeros_like(x), jnp.array([0, 1, 2, 3]), 16)
    assert np.abs(difference).min() > 0.1
    np.testing.assert_allclose(made.sum(axis=1), difference, rtol=1e-3)


def test_a_row_does_not_depend_on_its_batch():
    victim, x, y = case("hugging_face_vit")
    rows = np.array([2, 0, 0])
    look = jax.jit(functools.partial(input_gradient_and_map, victim))
    for alone, among in zip(
        look(victim.variables, x[rows], y[rows]), looked_at("hugging_face_vit"), strict=True
    ):
        np.testing.assert_array_equal(alone, among[rows])


@pytest.mark.parametrize("source", short_and_long(CASES, ("hugging_face_vit",)))
def test_marked_maps_leave_programs_and_variables_alone(source):
    """The mark is nothing in training, in evaluation and in the first variables."""
    module, x, _ = script.module_and_images(source)
    victim = case(source)[0]
    assert FEATURE_MAP not in victim.variables
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)
    assert FEATURE_MAP not in shapes
    lowered = jax.jit(victim.apply).lower(victim.variables, x).as_text()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("alexnet", "vgg16", "echim_cnn_lstm", "levit", "vit", "cvt"):
            patch.setattr(f"jaxser.models.{name}.feature_map", lambda module, y, *_, **__: y)
        # Another function, so that JAX does not take what it has traced already.
        plain = jax.jit(lambda variables, x: victim.apply(variables, x))
        unmarked = plain.lower(victim.variables, x).as_text()
        fresh = FeatureMap(module, *(x.shape[1:3],) * 2)
        assert fresh.shape(victim.variables, x) is None
    strip = functools.partial(map, str.strip)
    assert [*strip(lowered.splitlines())][1:] == [*strip(unmarked.splitlines())][1:]


def test_the_map_of_a_spectrogram_covers_the_slices_that_are_read():
    from jaxser import models

    network = models.build("cnn_lstm_m0", 3)
    spectrogram = Spectrogram(kind="log_mel", sample_rate=1_000, n_fft=64, hop_length=16, n_mels=32)
    model = WithFrontEnd(spectrogram, frames=spectrogram.frames(1_100), network=network)
    look = feature_map_of(model)
    assert model.frames == 69
    assert (look.picture, look.covered) == ((69, 32), (58, 32))
    x = jnp.asarray(waveforms(2, samples=1_100))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)
    assert look.shape(variables, x) == (2, 2, 64)
    logits, maps = jax.jit(look)(variables, x)
    expected, moved = jax.jit(
        lambda x, offset: (model.apply(variables, x, train=False), look(variables, x, offset))
    )(x, 1.0)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(moved[1], maps + 1.0, atol=1e-6)
    assert np.abs(moved[0] - logits).max() > 1e-3
    assert feature_map_of(network) is None


def test_cells_of_images_are_of_all_channels():
    attribution = jnp.array([[[[1.0, -3.0, 0.5]]]])
    assert cells(attribution, signed=True).tolist() == [[[-1.5]]]
    assert cells(attribution, signed=False).tolist() == [[[3.0]]]
    assert cells(-jnp.ones((1, 4)), signed=False).tolist() == [[1.0] * 4]
    assert cells(-jnp.ones((1, 4)), signed=True).tolist() == [[-1.0] * 4]
