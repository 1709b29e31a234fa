"""STAA-Net's generator without torch: sizes, golden outputs, gradients, conditions, weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from model_gradients import distance
from short_and_long import short_and_long

from jaxser import models
from jaxser.models.layers.group_norm import group_norm
from jaxser.models.layers.resampling_conv import (
    laid_out_kernel,
    strided_conv,
    transposed_conv,
    transposed_kernel,
)
from jaxser.models.wave_unet import prepare
from jaxser.models.wave_unet_blocks import ConvNorm
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.forms import forms_for
from jaxser.victims.key_tables.entries import from_torch, to_torch
from jaxser.victims.key_tables.wave_unet import wave_unet_table
from jaxser.victims.staa_net_weights import read_generator, write_generator
from scripts import convert_staanet
from scripts.golden_generator import GOLDEN, SAMPLES, seeded_batch, seeded_state, small_model


def seeded(widths=(8, 16), **settings):
    model = small_model(widths, **settings)
    variables = from_torch(seeded_state(model), wave_unet_table(len(model.widths)))
    return model, jax.tree.map(jnp.asarray, variables)


@pytest.fixture(params=["cpu", "accelerator"])
def forms(request):
    """Whose forms of the computations are used; those for accelerators run on a CPU as well."""
    with forms_for("cpu" if request.param == "cpu" else "gpu"):
        yield request.param


def squares(model):
    """(outputs, gradients by variables and input) of the sum of the outputs' squares."""

    @jax.jit
    def run(variables, *inputs):
        def loss(variables, *inputs):
            outputs = model.apply(variables, *inputs)
            return sum((each**2).sum() for each in outputs), outputs

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, *inputs)

    return run


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def shapes_of(model):
    x = jax.ShapeDtypeStruct((1, model.num_samples), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), x)


def test_published_size():
    model = models.build("waveunet", num_samples=96_000)
    assert count(shapes_of(model)) == 50_681_858
    small = small_model()
    assert count(shapes_of(small.clone(padding="same"))) == count(shapes_of(small))


@pytest.mark.parametrize(
    ("samples", "padding", "inputs", "outputs"),
    [
        (96_000, "valid", 108_541, 96_261),
        (139_200, "valid", 151_549, 139_269),
        (96_261, "valid", 108_541, 96_261),
        (96_262, "valid", 109_565, 97_285),
        (96_000, "same", 96_256, 96_256),
        (96_256, "same", 96_256, 96_256),
    ],
)
def test_lengths(samples, padding, inputs, outputs):
    model = models.build("waveunet", num_samples=samples, padding=padding)
    assert (model.input_samples, model.output_samples) == (inputs, outputs)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "widths"),
    short_and_long([(5, 4, (8, 8, 8)), (7, 3, (8, 16)), (3, 2, (8, 8, 8, 8))], [(7, 3, (8, 16))]),
)
def test_every_level_has_the_length_that_was_computed(padding, kernel_size, stride, widths):
    for samples in (1, 250):
        model = models.build(
            "waveunet",
            num_samples=samples,
            widths=widths,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
        )
        x = jax.ShapeDtypeStruct((2, samples), jnp.float32)
        variables = shapes_of(model)
        _, state = jax.eval_shape(
            functools.partial(model.apply, mutable=["intermediates"], capture_intermediates=True),
            variables,
            x,
        )
        found = state["intermediates"]
        lost = 0 if padding == "same" else kernel_size - 1
        assert found["before0"]["__call__"][0].shape[1] == model.input_samples - lost
        for decoder in ("locations", "magnitudes"):
            last = found[decoder]["after0"]["__call__"][0]
            assert last.shape == (2, model.output_samples, widths[0])
            assert model.output_samples >= samples
        outputs = found["__call__"][0]
        assert [each.shape for each in outputs] == [(2, samples)] * 2


def test_golden_outputs_and_gradients(forms):
    model, variables = seeded(widths=(8, 16, 24))
    with np.load(GOLDEN) as file:
        golden = dict(file)
    (by_variables, by_input), (locations, magnitudes) = squares(model)(variables, seeded_batch())
    np.testing.assert_allclose(locations, golden["locations"], atol=1e-4)
    np.testing.assert_allclose(magnitudes, golden["magnitudes"], atol=1e-4)
    assert distance(by_input, golden["input"]) < 1e-3
    gradients = to_torch(by_variables, wave_unet_table(len(model.widths)))
    for key, expected in golden.items():
        if key.startswith("gradient/"):
            assert distance(gradients[key.removeprefix("gradient/")], expected) < 1e-3, key


@pytest.mark.parametrize(("size", "stride", "ends"), [(5, 4, (0, 1)), (7, 2, (4, 1))])
def test_resampling_convolutions_are_those_of_xla(size, stride, ends, forms):
    def strided(x, kernel):
        numbers = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride,), [ends], dimension_numbers=numbers)

    def transposed(x, kernel):
        full = jax.vjp(
            lambda y: jax.lax.conv_general_dilated(
                y,
                kernel.swapaxes(1, 2),
                (stride,),
                [(0, 0)],
                dimension_numbers=("NWC", "WIO", "NWC"),
            ),
            jnp.zeros((x.shape[0], (x.shape[1] - 1) * stride + size, kernel.shape[2])),
        )[1](x)[0]
        return full[:, ends[0] : full.shape[1] - ends[1]]

    def our_strided(x, kernel):
        return strided_conv(x, laid_out_kernel(kernel), stride, ends)

    def our_transposed(x, kernel):
        return transposed_conv(x, transposed_kernel(kernel, stride), size, stride, ends)

    def everything(f, x, kernel):
        """Values, gradients by one or both arguments, and tangents."""

        def loss(x, kernel):
            return (f(x, kernel) ** 2).sum()

        gradients = [jax.grad(loss, argnums)(x, kernel) for argnums in (0, 1, (0, 1))]
        return f(x, kernel), gradients, jax.jvp(f, (x, kernel), (x + 1, kernel + 1))

    x = jax.random.normal(jax.random.key(0), (2, 41, 6))
    kernel = jax.random.normal(jax.random.key(1), (size, 6, 5))
    for ours, theirs in (
        (our_strided, strided),
        (our_transposed, transposed),
    ):
        mine, xlas = (jax.jit(functools.partial(everything, f))(x, kernel) for f in (ours, theirs))
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-3), mine, xlas)


def test_group_norm_far_from_zero(forms):
    """Where the squares of plain numbers would drown the variance in float32."""
    y = jax.random.normal(jax.random.key(0), (2, 3000, 8)) + 3000.0
    y = y.at[1].multiply(-2.0)
    scale, shift = jnp.full((1, 8), 1.5), jnp.full((1, 8), 0.2)
    exact = np.asarray(y, np.float64).reshape(2, 3000, 2, 4)
    exact = exact - exact.mean(axis=(1, 3), keepdims=True)
    exact = exact / np.sqrt((exact**2).mean(axis=(1, 3), keepdims=True) + 1e-5)
    exact = np.maximum(exact.reshape(2, 3000, 8) * 1.5 + 0.2, 0)
    np.testing.assert_allclose(group_norm(y, jnp.zeros(8), 4, scale, shift), exact, atol=2e-3)


@pytest.mark.long
@pytest.mark.parametrize("conditions", [{}, {"num_classes": 3, "condition_epsilon": True}])
def test_prepared_variables_give_the_same(conditions, forms):
    model = models.build("waveunet", num_samples=256, widths=(64, 72, 80), **conditions)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, (2, 256)), jnp.float32)
    conditions = (jnp.array([0, 2]), jnp.array([0.01, 0.1])) if conditions else ()
    variables = jax.jit(model.init)(jax.random.key(0), x, *conditions)
    prepared = prepare(model, variables)
    # All have something to prepare but the first, of one channel, and on a CPU the strided ones.
    flat = jax.tree_util.tree_leaves_with_path(prepared["prepared"])
    layers = {tuple(key.key for key in path if hasattr(key, "key")) for path, _ in flat}
    assert len(layers) == (3 if forms == "cpu" else 5) + 2 * 7
    assert all(leaf.ndim == (2 if forms == "cpu" else 3) for _, leaf in flat)
    apply = jax.jit(model.apply)
    found, expected = (apply(each, x, *conditions) for each in (prepared, variables))
    jax.tree.map(np.testing.assert_array_equal, found, expected)

    # It is what is used: the kernels themselves are not looked at again.
    changed = jax.tree.map(jnp.zeros_like, prepared["prepared"])
    silent = apply({**prepared, "prepared": changed}, x, *conditions)
    assert all(np.ptp(each) < 1e-6 for each in silent)


def test_prepared_kernels_are_in_the_type_of_the_convolutions():
    model, variables = seeded()
    model, x = model.clone(dtype=jnp.bfloat16), seeded_batch()
    prepared = prepare(model, variables)
    types = {leaf.ndim: leaf.dtype for leaf in jax.tree.leaves(prepared["params"])}
    assert types == {3: jnp.bfloat16, 2: jnp.float32, 1: jnp.float32}
    found, expected = (jax.jit(model.apply)(each, x) for each in (prepared, variables))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_silence_has_finite_gradients():
    model, variables = seeded(padding="same")
    variables = jax.tree.map(lambda leaf: leaf * (leaf.ndim > 1), variables)
    gradients, outputs = squares(model)(variables, jnp.zeros((2, SAMPLES)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, outputs)))


def test_rows_do_not_see_each_other():
    model, variables = seeded()
    x = seeded_batch()
    apply = jax.jit(model.apply)
    for alone, together in zip(apply(variables, x[1:]), apply(variables, x), strict=True):
        np.testing.assert_allclose(alone[0], together[1], atol=1e-5)


def test_bfloat16_computes_close_and_answers_in_float32():
    model, variables = seeded()
    half = model.clone(dtype=jnp.bfloat16)
    exact = jax.jit(model.apply)(variables, seeded_batch())
    (by_variables, _), outputs = squares(half)(variables, seeded_batch())
    for ours, theirs in zip(outputs, exact, strict=True):
        assert ours.dtype == jnp.float32
        assert np.abs(ours - theirs).max() > 1e-6
        assert distance(ours, theirs) < 0.05
    for leaf in jax.tree.leaves(by_variables):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


# --- conditions ----------------------------------------------------------------------------


def conditioned(film_scale, **settings):
    """A generator with other weights of the golden kind, and its inputs."""
    plain, plain_variables = seeded()
    model = small_model(plain.widths, **settings)
    inputs = [
        seeded_batch(),
        jnp.array([0, 2]) if model.num_classes is not None else None,
        jnp.array([0.001, 0.05]) if model.condition_epsilon else None,
    ]
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        names = [part.key for part in path]
        if "Condition_0" in names or "film" in names:
            scale = film_scale if "film" in names else 1.0
            return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)
        return functools.reduce(lambda tree, name: tree[name], names, plain_variables)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    return model, variables, inputs, plain, plain_variables


def test_a_new_condition_changes_nothing():
    model, variables, inputs, plain, plain_variables = conditioned(0.0, condition_epsilon=True)
    mine = jax.jit(model.apply)(variables, *inputs)
    without = jax.jit(plain.apply)(plain_variables, inputs[0])
    for ours, theirs in zip(mine, without, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    new = ConvNorm(8, model._geometry())
    shapes = (jnp.ones((1, 9, 8)), jnp.ones((1, 3)))
    fresh = jax.jit(new.init)(jax.random.key(0), *shapes)["params"]["film"]
    assert not any(leaf.any() for leaf in jax.tree.leaves(fresh))


def test_learned_conditions_matter_and_can_be_learned():
    model, variables, inputs, _, _ = conditioned(0.1, num_classes=3, condition_epsilon=True)
    apply = jax.jit(model.apply)
    before = apply(variables, *inputs)
    for place, other in ((1, jnp.array([1, 2])), (2, jnp.array([0.002, 0.05]))):
        changed = list(inputs)
        changed[place] = other
        for old, new in zip(before, apply(variables, *changed), strict=True):
            assert np.abs(old[0] - new[0]).max() > 1e-3
            np.testing.assert_allclose(old[1], new[1], atol=1e-5)
    (by_variables, _), _ = squares(model)(variables, *inputs)
    for leaf in jax.tree.leaves(by_variables["params"]["Condition_0"]):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


# --- what cannot be ------------------------------------------------------------------------


def test_another_length_or_rank_is_refused():
    model, variables = seeded()
    with pytest.raises(InputError, match="perturbations of 700 samples, but got waveforms of 701"):
        model.apply(variables, jnp.zeros((1, 701)))
    with pytest.raises(InputError, match=r"shape \[batch, time\]"):
        model.apply(variables, jnp.zeros((1, 700, 1)))


def test_conditions_that_do_not_fit_are_refused():
    x = jnp.zeros((1, SAMPLES))
    for settings, inputs, words in (
        ({}, {"target": jnp.array([0])}, "not conditioned on the target class"),
        ({}, {"epsilon": jnp.array([0.1])}, "not conditioned on the ε"),
        ({"num_classes": 2}, {}, "is conditioned on the target class; give it"),
        ({"condition_epsilon": True}, {}, "is conditioned on the ε; give it"),
    ):
        with pytest.raises(InputError, match=words):
            jax.eval_shape(small_model(**settings).init, jax.random.key(0), x, **inputs)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_samples": 0}, "for 0 samples"),
        ({"num_classes": 0}, "for 0 classes"),
        ({"widths": (32,)}, "fewer than two levels"),
        ({"widths": (32, 60)}, "not multiples of group_size 8"),
        ({"kernel_size": 4}, "kernel_size 4 is even"),
        ({"stride": 6}, "stride 6 is not between 2 and kernel_size"),
        ({"stride": 1}, "stride 1 is not between"),
        ({"group_size": 0}, "group_size 0 is less than 1"),
        ({"padding": "zeros"}, "padding is 'zeros', not valid or same"),
    ],
)
def test_impossible_configurations_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        models.build("waveunet", **{"num_samples": 100, **settings})


# --- weights -------------------------------------------------------------------------------


def test_weights_there_and_back(tmp_path):
    model, variables = seeded()
    theirs, ours, back = (tmp_path / f"{name}.safetensors" for name in ("theirs", "ours", "back"))
    write_generator(theirs, model, variables)
    state = safetensors.numpy.load_file(theirs)
    jax.tree.map(np.testing.assert_array_equal, state, seeded_state(model))
    read = read_generator(theirs, model)
    jax.tree.map(np.testing.assert_array_equal, read, variables)

    assert "jaxser" in convert_staanet.convert(theirs, ours, model)
    jax.tree.map(np.testing.assert_array_equal, convert_staanet.read_linen(ours, model), variables)
    assert "authors" in convert_staanet.convert(ours, back, model)
    assert back.read_bytes() == theirs.read_bytes()


def test_all_faults_of_weights_are_named_at_once(tmp_path):
    model, variables = seeded()
    path = tmp_path / "weights.safetensors"
    state = seeded_state(model)
    up = "waveunets.ALL.upsampling_blocks2.0.upconv.filter"
    del state[f"{up}.bias"]
    state["waveunets.ALL.extra"] = np.zeros(3, np.float32)
    state["waveunets.ALL.output_conv.weight"] = np.zeros((1, 9, 1), np.float32)
    safetensors.numpy.save_file(state, path)
    with pytest.raises(InputError) as caught:
        read_generator(path, model)
    for fault in (
        f"{up}.bias is missing",
        "waveunets.ALL.extra is not part of this model",
        "waveunets.ALL.output_conv.weight gives (9, 1), not (8, 1)",
    ):
        assert fault in str(caught.value)

    convert_staanet.write_linen(path, variables)
    state = safetensors.numpy.load_file(path)
    state["params.before7.bias"] = state.pop("params.before0.bias")
    state["params.down0.bias"] = state["params.down0.bias"][:5]
    safetensors.numpy.save_file(state, path)
    with pytest.raises(InputError) as caught:
        convert_staanet.convert(path, tmp_path / "out.safetensors", model)
    for fault in (
        "params.before0.bias is missing",
        "params.before7.bias is not part of this model",
        "params.down0.bias is (5,), not (16,)",
    ):
        assert fault in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_says_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*none.safetensors"):
        convert_staanet.main([str(tmp_path / "none.safetensors"), str(tmp_path / "out")])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match="never read here"):
        convert_staanet.main([str(damaged), str(tmp_path / "out")])


def test_conditioned_generators_have_no_published_weights(tmp_path):
    with pytest.raises(UsageError, match="without num_classes"):
        read_generator(tmp_path / "any", small_model(num_classes=3))
