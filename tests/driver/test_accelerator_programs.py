"""Programs for accelerators on a machine without one: what is lowered, and how it is counted."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from small_victims import small_victim

from benchmarks.aot import Device, cudnn_assumed
from benchmarks.compiled import compiled_rows
from benchmarks.compiled_programs import (
    CLASSES,
    Spec,
    attack_parts,
    lowered_programs,
    victim_shapes,
)
from benchmarks.hlo import counted, counted_step
from jaxser import attacks
from jaxser.attacks.base import row_keys
from jaxser.runtime.errors import UsageError
from jaxser.runtime.forms import forms_for
from jaxser.runtime.sharding import make_mesh

PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}

# Two arrays of four floats are added, then a loop of three turns cuts a float out of four, and puts
# one into four in place; a collective after it.
TEXT = """
HloModule made

%cut_and_put (p0: f32[4], p1: f32[1], p2: s32[]) -> f32[4] {
  %p0 = f32[4]{0} parameter(0)
  %p1 = f32[1]{0} parameter(1)
  %p2 = s32[] parameter(2)
  %cut = f32[1]{0} dynamic-slice(%p0, %p2), dynamic_slice_sizes={1}
  %sum = f32[1]{0} add(%cut, %p1)
  ROOT %put = f32[4]{0} dynamic-update-slice(%p0, %sum, %p2)
}

%body (arg: (s32[], f32[4], f32[1])) -> (s32[], f32[4], f32[1]) {
  %arg = (s32[], f32[4]{0}, f32[1]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %a = f32[4]{0} get-tuple-element(%arg), index=1
  %b = f32[1]{0} get-tuple-element(%arg), index=2
  %put = f32[4]{0} fusion(%a, %b, %i), kind=kLoop, calls=%cut_and_put
  ROOT %out = (s32[], f32[4]{0}, f32[1]{0}) tuple(%i, %put, %b)
}

%condition (arg: (s32[], f32[4], f32[1])) -> pred[] {
  %arg = (s32[], f32[4]{0}, f32[1]{0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: f32[4], y: f32[4], z: f32[1]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %z = f32[1]{0} parameter(2)
  %zero = s32[] constant(0)
  %add = f32[4]{0} add(%x, %y)
  %start = (s32[], f32[4]{0}, f32[1]{0}) tuple(%zero, %add, /*index=2*/%z)
  %loop = (s32[], f32[4]{0}, f32[1]{0}) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %end = f32[4]{0} get-tuple-element(%loop), index=1
  ROOT %sum = f32[4]{0} all-reduce(%end), to_apply=%condition
}
"""


def test_counts_of_a_program_that_was_counted_by_hand():
    whole, step = counted(TEXT), counted_step(TEXT)
    # A turn reads a float of the four, a float and the counter, and writes a float.
    turn = 4 + 4 + 4 + 4
    assert (step.launches, step.bytes, step.loop_bytes) == (1, turn, 0)
    assert (whole.launches, whole.bytes, whole.loop_bytes) == (1 + 3 + 1, 5 * 16, 3 * turn)
    assert whole.collectives == step.collectives == {"all-reduce": 1}


def test_a_compiler_that_is_not_installed_is_named():
    absent = Device("gpu", "jax_plugins.no_such", {"platform": "cuda"}, {}, {})
    with pytest.raises(UsageError, match=r"compiler for a GPU is not installed .*jaxser\[aot\]"):
        list(compiled_rows(["emo18:pgd@2"], "none", absent))


def test_a_compiler_is_not_asked_to_start_its_device(monkeypatch):
    """Beside JAX, where its wheels lie, the plugin of a GPU would miss the libraries of one."""
    asked = []

    def found(**topology):
        asked.append(jax.config.values["jax_platforms"])
        return SimpleNamespace(devices=jax.devices("cpu")[:1])

    monkeypatch.setattr(topologies, "get_topology_desc", found)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    before = jax.config.values["jax_platforms"]
    jax.config.update("jax_platforms", None)
    try:
        assert Device("gpu", "json", {}, {}, {}).mesh().size == 1
    finally:
        jax.config.update("jax_platforms", before)
    assert asked == ["cpu"]


def test_specs():
    spec = Spec.read("emo18+dtype=float32:pgd:steps=3,norm=l2@8")
    assert (spec.victim, spec.options, spec.attack) == ("emo18", {"dtype": "float32"}, "pgd")
    assert (spec.parameters, spec.rows) == ({"steps": "3", "norm": "l2"}, 8)
    assert Spec.read("zhao19:training").options == {"dtype": "bfloat16"}
    for text in ("emo18", "emo18:pgd:steps@3", "emo18:pgd@many"):
        with pytest.raises(UsageError, match="write VICTIM"):
            Spec.read(text)


def test_a_program_of_one_step_is_counted_as_a_whole():
    """Its longest loop is that of the network over its frames."""

    def steps(text):
        (part,) = lowered_programs(Spec.read(text), make_mesh(jax.devices()[:1]))
        return part.steps

    assert steps("cnn_lstm_m0:fgsm@1") == 1
    assert steps("cnn_lstm_m0:pgd:steps=3@1") == 3


def lower_for_both(function, *shapes):
    """Trace and lower with the forms of each platform; what has no form there is an error."""
    for platform, forms in PLATFORMS.items():
        with forms_for(forms), cudnn_assumed():
            # Another function for each: JAX would take the trace of the first for both.
            traced = jax.jit(lambda *args: function(*args)).trace(*shapes)
            traced.lower(lowering_platforms=(platform,))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(attacks.ATTACKS) - {"staanet"}))
def test_attacks_lower_for_gpu_and_tpu(name):
    victim = small_victim("conv")
    for attack in attack_parts(attacks.from_parameters(name, {})):

        def run(variables, x, y, epsilon, attack=attack):
            logits = functools.partial(victim.apply, variables)
            keys = row_keys(jax.random.key(0), jnp.arange(2, dtype=jnp.uint32))
            return attack.step(logits, attack.init(logits, keys, x, y, epsilon))

        shape = jax.ShapeDtypeStruct
        x, epsilon = shape((2, *victim.input_shape), jnp.float32), shape((2,), jnp.float32)
        lower_for_both(run, victim.variables, x, shape((2,), jnp.int32), epsilon)


@pytest.mark.long
@pytest.mark.parametrize(
    "victim",
    [
        *("emo18", "zhao19", "cnn_lstm", "echim_cnn_lstm", "alexnet", "vgg16", "vit-b16"),
        *("cvt-13", "levit-128s", "wav2vec2-base+num_hidden_layers=1"),
        *("hubert-base+num_hidden_layers=1", "wavlm-base+num_hidden_layers=1"),
    ],
)
def test_gradients_of_victims_lower_for_gpu_and_tpu(victim):
    """By the input, of one class and of all at once, and by the parameters in training."""
    spec = Spec.read(f"{victim}:pgd")
    module, shape = spec.module(), spec.input_shape()
    variables = victim_shapes(module, shape)
    others = {name: group for name, group in variables.items() if name != "params"}

    def run(params, others, x):
        def logits(x):
            return module.apply({**others, "params": params}, x, train=False)

        _, pull_back = jax.vjp(logits, x)
        classes = jnp.broadcast_to(jnp.eye(CLASSES)[:, None], (CLASSES, 2, CLASSES))

        def trained(params):
            rngs = {"dropout": jax.random.key(0)}
            model = {**others, "params": params}
            return module.apply(model, x, train=True, mutable=["batch_stats"], rngs=rngs)[0].sum()

        return jax.vmap(pull_back)(classes), jax.grad(trained)(params)

    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    lower_for_both(run, variables["params"], others, x)
