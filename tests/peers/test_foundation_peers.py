"""wav2vec 2.0, HuBERT and WavLM against transformers' torch classes on the same weights."""

import dataclasses
import functools
import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foundation_outputs import outputs_and_gradients
from model_gradients import distance

from jaxser import attacks, export, load_victim, models, run_attack
from jaxser.driver.run import predict
from jaxser.models.layers.waveform import normalise_input
from jaxser.models.transformer.activations import ACTIVATIONS, UNSUPPORTED
from jaxser.models.transformer.spec_augment import span_mask
from jaxser.models.wavlm import position_buckets
from jaxser.runtime.errors import InputError
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.hugging_face.writing import write_pretrained
from jaxser.victims.key_tables.entries import from_torch, lookup
from scripts.golden_foundation import (
    CASES,
    TABLES,
    import_transformers,
    reference,
    seeded_batch,
    seeded_variables,
    small_model,
    torch_config,
    torch_model,
)

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

ONE_PER_FAMILY = ("wav2vec2-group-post", "hubert-layer-stable-sum", "wavlm-group-stable")


def compare(model, variables, twin, x, lengths=None):
    logits, states, by_input, by_variables = outputs_and_gradients(model, variables, x, lengths)
    expected = reference(twin, x, lengths)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    assert len(states) == model.config.num_hidden_layers + 1
    for index, state in enumerate(states):
        np.testing.assert_allclose(state, expected[f"hidden/{index}"], atol=1e-4)
    assert distance(by_input, expected["input"]) < 1e-3
    for entry in TABLES[model.config.model_type](model.config):
        if entry.target[0] == "params":
            theirs = entry.convert(*(expected[f"gradient/{key}"] for key in entry.sources))
            error = distance(lookup(by_variables, entry.target), theirs)
            assert error < 1e-3, entry.target


@pytest.mark.parametrize("case", CASES)
def test_same_outputs_and_gradients(case):
    model = small_model(case)
    variables = seeded_variables(model)
    twin = torch_model(model, variables)
    compare(model, variables, twin, seeded_batch(701)[0])
    compare(model, variables, twin, *seeded_batch(700))


@pytest.mark.parametrize("name", ["wav2vec2-base", "hubert-base", "wavlm-base"])
def test_base_size(name):
    import torch

    model = models.build(name, 7, do_normalize=False)
    torch.manual_seed(0)
    twin = torch_model(model)
    state = {key: tensor.numpy() for key, tensor in twin.state_dict().items()}
    variables = from_torch(state, TABLES[model.config.model_type](model.config))
    compare(model, variables, twin, seeded_batch(16_000, rows=1)[0])


def test_batch_norm_in_training():
    import torch

    model = small_model(
        "hubert-batch_norm",
        **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.0),
        feat_proj_dropout=0.0,
        layerdrop=0.0,
    )
    variables = seeded_variables(model)
    x, _ = seeded_batch()
    twin = torch_model(model, variables).train()
    expected = twin(torch.from_numpy(x)).logits.detach().numpy()
    logits, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    norm = twin.hubert.encoder.pos_conv_embed.batch_norm
    stats = updated["batch_stats"]["encoder"]["position"]
    np.testing.assert_allclose(stats["mean"], norm.running_mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(stats["var"], norm.running_var.numpy(), rtol=1e-4)


def test_position_buckets():
    import torch

    twin = torch_model(small_model("wavlm-group-post")).wavlm.encoder.layers[0].attention
    offsets = np.arange(-3000, 3001)
    theirs = twin._relative_positions_bucket(torch.from_numpy(offsets))
    np.testing.assert_array_equal(position_buckets(offsets, 320, 800), theirs)


def test_input_normalisation():
    transformers = import_transformers()
    x, lengths = seeded_batch()
    rows = [3 * row[:length] + 0.2 for row, length in zip(x, lengths, strict=True)]
    for with_mask in (True, False):
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=with_mask)
        theirs = extractor(rows, sampling_rate=16_000, padding=True)["input_values"]
        padded = np.stack([np.pad(row, (0, x.shape[1] - len(row))) for row in rows])
        mine = normalise_input(jnp.asarray(padded), jnp.asarray(lengths) if with_mask else None)
        np.testing.assert_allclose(mine, np.stack(theirs), atol=1e-5)


@pytest.mark.parametrize(
    ("probability", "span", "fewest"), [(0.05, 10, 2), (0.65, 10, 0), (0.08, 4, 0)]
)
def test_masked_share_of_spec_augment(probability, span, fewest):
    import_transformers()
    import torch
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    lengths = np.array([99, 60, 31])
    attention = torch.from_numpy((np.arange(99)[None] < lengths[:, None]).astype(int))
    np.random.seed(0)  # noqa: NPY002 (the reference draws from it)
    theirs = np.mean(
        [
            _compute_mask_indices((3, 99), probability, span, attention, min_masks=fewest)
            for _ in range(400)
        ],
        axis=0,
    )
    draw = functools.partial(span_mask, size=99, probability=probability, span=span, fewest=fewest)
    keys = jax.random.split(jax.random.key(0), 400)
    mine = np.asarray(jax.vmap(lambda key: draw(key, jnp.asarray(lengths)))(keys)).mean(axis=0)
    # A row without a span gets its last frame of padding masked there, which nothing sees.
    theirs = np.where(attention, theirs, 0)
    np.testing.assert_allclose(mine.mean(axis=1), theirs.mean(axis=1), atol=0.02)
    np.testing.assert_allclose(mine, theirs, atol=0.15)


@pytest.mark.parametrize(
    "name", [name for name in models.names() if name.partition("-")[0] in TABLES]
)
def test_as_many_parameters_as_the_torch_class(name):
    import torch

    model = models.build(name, 7)
    with torch.device("meta"):
        twin = torch_model(model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 400)))["params"]
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    assert count == sum(parameter.numel() for parameter in twin.parameters())


@pytest.mark.parametrize("family", TABLES)
def test_defaults_are_those_of_transformers(family):
    transformers = import_transformers()
    theirs = transformers.AutoConfig.for_model(family)
    own = type(small_model(f"{family}-group-post").config)()
    for field in dataclasses.fields(own):
        if hasattr(theirs, field.name):
            assert getattr(own, field.name) == getattr(theirs, field.name), field.name
    extractor = transformers.Wav2Vec2FeatureExtractor()
    for name in ("do_normalize", "return_attention_mask", "sampling_rate"):
        assert getattr(own, name) == getattr(extractor, name)


def loaded_without_complaint(folder):
    """transformers' classifier from ``folder``, having used exactly the keys that are there."""
    transformers = import_transformers()
    twin, info = transformers.AutoModelForAudioClassification.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    return twin.eval()


@pytest.mark.parametrize("case", [*ONE_PER_FAMILY, "hubert-batch_norm"])
def test_written_folders_load_in_transformers(case, tmp_path):
    model = small_model(case, mask_time_prob=0.05, do_normalize=True, return_attention_mask=True)
    variables = seeded_variables(model)
    labels = ("anger", "boredom", "disgust", "fear", "joy")
    write_pretrained(model, variables, labels, tmp_path / "out")

    twin = loaded_without_complaint(tmp_path / "out")
    assert tuple(twin.config.id2label.values()) == labels
    x, lengths = seeded_batch(700)
    extractor = import_transformers().AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    rows = [row[:length] for row, length in zip(x, lengths, strict=True)]
    inputs = extractor(rows, sampling_rate=16_000, padding=True, return_tensors="pt")
    theirs = twin(**inputs).logits.detach().numpy()
    mine = model.apply(variables, x, lengths=jnp.asarray(lengths))
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_superb_style_folder_there_and_back(family, tmp_path):
    """Weighted sum, four classes, base architecture with fewer and narrower layers."""
    import torch

    transformers = import_transformers()
    labels = {0: "neu", 1: "hap", 2: "ang", 3: "sad"}
    config = transformers.AutoConfig.for_model(
        family,
        num_hidden_layers=2,
        hidden_size=96,
        intermediate_size=160,
        conv_dim=(32,) * 7,
        use_weighted_layer_sum=True,
        id2label=labels,
        label2id={label: index for index, label in labels.items()},
    )
    torch.manual_seed(0)
    twin = transformers.AutoModelForAudioClassification.from_config(config).eval()
    twin.layer_weights.data = torch.tensor([0.3, -0.5, 1.0])
    twin.save_pretrained(tmp_path / "theirs")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "theirs")

    victim = load_victim(tmp_path / "theirs", samples=8000, sample_rate=16_000)
    assert victim.labels == ("neu", "hap", "ang", "sad")
    assert victim.notes == ()
    x = seeded_batch(8000)[0]
    extractor = transformers.Wav2Vec2FeatureExtractor()
    inputs = extractor(list(x), sampling_rate=16_000, return_tensors="pt")
    theirs = twin(**inputs).logits.detach().numpy()
    np.testing.assert_allclose(victim.logits(jnp.asarray(x)), theirs, atol=1e-4)

    assert export.main([str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 0
    again = loaded_without_complaint(tmp_path / "ours")
    np.testing.assert_allclose(again(**inputs).logits.detach().numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("case", ONE_PER_FAMILY)
def test_an_exported_victim_is_attacked_in_torch_as_here(case, tmp_path):
    """torchattacks on the written folder fools the rows that are fooled here, and no other."""
    import torch

    from benchmarks.attack_cases import Work
    from benchmarks.peers import attacks_of
    from benchmarks.peers.victim import PeerVictim

    model = small_model(case, do_normalize=True)
    labels = ("anger", "boredom", "disgust", "fear", "joy")
    write_pretrained(model, seeded_variables(model), labels, tmp_path / "out")
    victim = load_victim(tmp_path / "out", samples=700, sample_rate=16_000)
    x = np.random.default_rng(0).normal(0, 0.1, (12, 700)).astype(np.float32)
    y = predict(victim, x)
    work = Work(epsilons=(0.002,), steps=4)
    attack = attacks.MIFGSM(steps=work.steps, relative_step_size=0.25, early_stop=False)
    result = run_attack(victim, x, y, attack, work.epsilons)

    twin = loaded_without_complaint(tmp_path / "out")

    def logits(x):
        x = x - x.mean(dim=1, keepdim=True)
        return twin(x * (x.square().mean(dim=1, keepdim=True) + 1e-7).rsqrt()).logits

    x_adv = attacks_of("torchattacks")["mifgsm"](PeerVictim(logits), x, y, work, len(x))
    fooled = logits(torch.from_numpy(x_adv)).argmax(dim=1).numpy() != y
    assert 0 < fooled.sum() < len(x)
    np.testing.assert_array_equal(result.success[0], fooled)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("wav2vec2-layer-stable", "Wav2Vec2ForPreTraining"),
        ("wav2vec2-group-post", "Wav2Vec2ForCTC"),
        ("wav2vec2-group-post", "Wav2Vec2Model"),
        ("hubert-layer-stable", "HubertModel"),
        ("hubert-group-post", "HubertForCTC"),
        ("wavlm-group-post", "WavLMModel"),
        ("wavlm-layer-stable", "WavLMForCTC"),
    ],
)
def test_checkpoints_without_a_classification_head(case, kind, tmp_path, caplog):
    transformers = import_transformers()
    config = torch_config(small_model(case, mask_time_prob=0.05), num_codevector_groups=2)
    twin = getattr(transformers, kind)(config).eval()
    twin.save_pretrained(tmp_path, max_shard_size="20KB")  # in shards, too
    assert (tmp_path / "model.safetensors.index.json").is_file()
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = read_pretrained(tmp_path, labels=("a", "b", "c"))
    assert found.new == ("classification head",)
    assert "the classification head for 3 classes is new and untrained" in caplog.text
    x = seeded_batch()[0]
    base = getattr(twin, twin.base_model_prefix, twin)
    import torch

    theirs = base(torch.from_numpy(x), output_hidden_states=True).hidden_states
    mine = found.module.apply(found.variables, x, method="hidden_states")
    np.testing.assert_allclose(mine[-1], theirs[-1].detach().numpy(), atol=1e-4)
    assert found.module.apply(found.variables, x).shape == (3, 3)


def test_every_activation_of_transformers_is_known():
    import_transformers()
    import torch
    from transformers.activations import ACT2FN

    x = np.linspace(-12, 12, 101, dtype=np.float32)
    for name in set(ACT2FN) - set(UNSUPPORTED):
        theirs = ACT2FN[name](torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("purpose", ["regression", None])
def test_a_head_for_arousal_and_valence(purpose, tmp_path):
    transformers = import_transformers()
    config = torch_config(small_model("wav2vec2-group-post"))
    config.problem_type = purpose
    config.id2label = {0: "arousal", 1: "dominance", 2: "valence"}
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    if purpose is None:
        assert read_pretrained(tmp_path).labels == ("arousal", "dominance", "valence")
    else:
        with pytest.raises(InputError, match="are values and no classes"):
            read_pretrained(tmp_path)


def test_pickled_weights_are_converted_offline(tmp_path):
    """Also from before parametrisations, and in half precision."""
    import torch

    model = small_model("wav2vec2-group-post")
    twin = torch_model(model, seeded_variables(model))
    write_pretrained(model, seeded_variables(model), "abcde", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    position = "wav2vec2.encoder.pos_conv_embed.conv."
    state = {
        key.replace(f"{position}parametrizations.weight.original0", f"{position}weight_g").replace(
            f"{position}parametrizations.weight.original1", f"{position}weight_v"
        ): tensor.to(torch.bfloat16)
        for key, tensor in twin.state_dict().items()
    }
    assert f"{position}weight_g" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"python -m scripts\.convert"):
        read_pretrained(tmp_path)
    command = [sys.executable, "-m", "scripts.convert_to_safetensors", str(tmp_path)]
    subprocess.run(command, check=True)
    found = read_pretrained(tmp_path)
    np.testing.assert_allclose(
        found.module.apply(found.variables, seeded_batch()[0]),
        twin(torch.from_numpy(seeded_batch()[0])).logits.detach().numpy(),
        atol=0.1,
    )


def test_a_pickle_with_code_is_not_converted(tmp_path):
    import torch

    from scripts.convert_to_safetensors import convert

    torch.save({"weight": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds more than tensors"):
        convert(tmp_path)
