"""Folders of Hugging Face: read, written, and refused in one sentence."""

import itertools
import json
import logging
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import soundfile
from short_and_long import short_and_long
from untrained_run import write_corpus

import jaxser
from jaxser import attack, export
from jaxser.results.reading import read_rows
from jaxser.runtime.errors import InputError, UsageError, report_errors
from jaxser.speech.audio import resample, unify_length
from jaxser.victims.hugging_face.layout import CONFIG, INDEX, PREPROCESSOR, WEIGHTS
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.hugging_face.writing import write_pretrained
from scripts.golden_foundation import seeded_batch, seeded_variables, small_model

LABELS = ("anger", "boredom", "disgust", "fear", "joy")


def write(folder, case="wav2vec2-group-post", **settings):
    """A folder with the seeded weights of ``case``; returns (module, variables)."""
    model = small_model(case, **settings)
    variables = seeded_variables(model)
    write_pretrained(model, variables, LABELS, folder)
    return model, variables


def rewrite(folder, change, drop=()):
    """Change the state dict and leave out keys of config.json."""
    path = folder / WEIGHTS
    safetensors.numpy.save_file(change(safetensors.numpy.load_file(path)), path)
    path = folder / CONFIG
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(config))


def set_config(folder, name=CONFIG, **fields):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(folder, **options):
    """The one sentence that says why ``folder`` is not taken."""
    with pytest.raises(InputError) as caught:
        jaxser.load_victim(folder, samples=700, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", str(folder)))
    return sentence


@pytest.mark.parametrize(
    ("case", "scan_layers"),
    short_and_long(
        itertools.product(
            (
                "wav2vec2-group-post-sum",
                "hubert-layer-stable",
                "hubert-batch_norm",
                "wavlm-layer-post-sum",
            ),
            (False, True),
        ),
        # One of each family, and both ways to keep the layers.
        [
            ("wav2vec2-group-post-sum", True),
            ("hubert-batch_norm", False),
            ("wavlm-layer-post-sum", True),
        ],
    ),
)
def test_a_written_folder_reads_back(case, scan_layers, tmp_path, caplog):
    settings = {"do_normalize": True, "return_attention_mask": True, "mask_time_prob": 0.1}
    model, variables = write(tmp_path / "out", case, **settings)
    with caplog.at_level(logging.WARNING):
        found = read_pretrained(tmp_path / "out", scan_layers=scan_layers)
    assert not caplog.records
    assert (found.module.config, found.labels, found.new) == (model.config, LABELS, ())
    x = seeded_batch()[0]
    np.testing.assert_allclose(
        jax.jit(found.module.apply)(found.variables, x),
        jax.jit(model.apply)(variables, x),
        atol=1e-5,
    )
    again = tmp_path / "again"
    write_pretrained(found.module, found.variables, found.labels, again)
    for name in (CONFIG, PREPROCESSOR, WEIGHTS):
        assert (again / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_folder_is_a_victim(tmp_path):
    model, variables = write(tmp_path, do_normalize=True)
    victim = jaxser.load_victim(tmp_path, samples=701, sample_rate=16_000)
    assert (victim.labels, victim.input_shape, victim.sample_rate) == (LABELS, (701,), 16_000)
    assert (victim.name, victim.notes) == (tmp_path.name, ())
    x = jnp.asarray(seeded_batch()[0])
    np.testing.assert_allclose(
        jax.jit(victim.logits)(x), jax.jit(model.apply)(variables, x), atol=1e-5
    )
    assert jaxser.load_victim(tmp_path).input_shape == (96_000,)
    half = jaxser.load_victim(tmp_path, samples=701, dtype="bfloat16")
    assert np.abs(jax.jit(half.logits)(x) - jax.jit(victim.logits)(x)).max() > 1e-6


def test_shards_and_the_old_spelling_of_weight_norm(tmp_path):
    model, variables = write(tmp_path)
    state = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): array
        for key, array in state.items()
    }
    assert old.keys() != state.keys()
    (tmp_path / WEIGHTS).unlink()
    names = sorted(old)
    places = {}
    for part in range(3):
        file = f"model-{part + 1:05}-of-00003.safetensors"
        safetensors.numpy.save_file({key: old[key] for key in names[part::3]}, tmp_path / file)
        places |= dict.fromkeys(names[part::3], file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    found = read_pretrained(tmp_path)
    x = seeded_batch()[0]
    np.testing.assert_array_equal(
        jax.jit(found.module.apply)(found.variables, x), jax.jit(model.apply)(variables, x)
    )
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert "lacks model-00002-of-00003.safetensors of 3 files" in refusal(tmp_path)


def test_other_classes_get_a_new_classifier(tmp_path, caplog):
    _, variables = write(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = read_pretrained(tmp_path, labels=("happy", "sad"))
    assert (found.labels, found.new) == (("happy", "sad"), ("classifier",))
    assert "the classifier for 2 classes is new and untrained" in caplog.text
    kept = found.variables["params"]["head"]["projector"]["kernel"]
    np.testing.assert_array_equal(kept, variables["params"]["head"]["projector"]["kernel"])
    again = read_pretrained(tmp_path, labels=2)
    assert again.labels == ("LABEL_0", "LABEL_1")
    np.testing.assert_array_equal(
        again.variables["params"]["head"]["classifier"]["kernel"],
        found.variables["params"]["head"]["classifier"]["kernel"],
    )
    assert jaxser.load_victim(tmp_path, labels=3, samples=700).notes == (
        "the classifier is new and untrained",
    )
    assert read_pretrained(tmp_path, labels=5).new == ()


@pytest.mark.parametrize("bare", [False, True])
def test_a_model_without_a_head_gets_one(bare, tmp_path, caplog):
    write(tmp_path, mask_time_prob=0.1)

    def change(state):
        state = {key: a for key, a in state.items() if not key.startswith(("proj", "class"))}
        del state["wav2vec2.masked_spec_embed"]
        if bare:
            return {key.removeprefix("wav2vec2."): array for key, array in state.items()}
        heads = ("lm_head.weight", "quantizer.codevectors", "project_q.bias", "project_hid.bias")
        return state | dict.fromkeys(heads, np.zeros((2, 2), np.float32))

    rewrite(tmp_path, change)
    kind = "Wav2Vec2Model" if bare else "Wav2Vec2ForPreTraining"
    set_config(tmp_path, architectures=[kind])
    with caplog.at_level(logging.WARNING):
        found = read_pretrained(tmp_path)
    assert found.labels == LABELS
    assert found.new == ("classification head", "mask embedding")
    assert "the classification head and the mask embedding for 5 classes is new" in caplog.text
    set_config(tmp_path, id2label=None)
    assert "give the labels of your classes" in refusal(tmp_path)
    assert len(jaxser.load_victim(tmp_path, labels=3, samples=700).labels) == 3


def test_all_keys_that_do_not_fit_are_in_one_error(tmp_path):
    write(tmp_path, "wavlm-group-post")

    def change(state):
        del state["wavlm.encoder.layers.1.final_layer_norm.bias"]
        state["classifier.weight"] = np.zeros((4, 16), np.float32)
        state["wavlm.encoder.layers.0.attention.q_proj.bias"] = np.zeros(3, np.float32)
        state["wavlm.encoder.layers.0.attention.k_proj.bias"] = np.zeros(3, np.float32)
        state["wavlm.encoder.layers.0.attention.v_proj.bias"] = np.zeros(3, np.float32)
        state["wavlm.encoder.layers.2.final_layer_norm.bias"] = np.zeros(24, np.float32)
        state["wavlm.encoder.pos_conv_embed.conv.weight_g"] = np.zeros((1, 1, 10), np.float32)
        return state

    rewrite(tmp_path, change)
    sentence = refusal(tmp_path)
    for words in (
        str(tmp_path),
        "wavlm.encoder.layers.1.final_layer_norm.bias is missing",
        "classifier.weight gives (16, 4), not (16, 5)",
        "q_proj.bias + wavlm.encoder.layers.0.attention.k_proj.bias",
        "wavlm.encoder.layers.2.final_layer_norm.bias is not part of this model",
        "is there twice, in two spellings",
    ):
        assert words in sentence


def test_half_precision_files_are_read(tmp_path):
    import ml_dtypes

    model, variables = write(tmp_path)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        rewrite(
            tmp_path,
            lambda state, dtype=dtype: {key: a.astype(dtype) for key, a in state.items()},
        )
        found = read_pretrained(tmp_path)
        x = seeded_batch()[0]
        logits = jax.jit(found.module.apply)(found.variables, x)
        np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, x), atol=0.1)


# --- bad input -----------------------------------------------------------------------------


def test_a_folder_without_config(tmp_path):
    write(tmp_path)
    (tmp_path / CONFIG).unlink()
    assert "has no config.json" in refusal(tmp_path)


def test_a_damaged_config(tmp_path):
    write(tmp_path)
    (tmp_path / CONFIG).write_text('{"model_type": ')
    assert "config.json is damaged" in refusal(tmp_path)
    (tmp_path / CONFIG).write_text("[]")
    assert "holds no JSON object" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "whisper"}, "type 'whisper', which is not supported; use one of hubert"),
        ({"add_adapter": True}, "adapters"),
        ({"adapter_attn_dim": 16}, "adapters"),
        ({"hidden_size": "wide"}, "hidden_size in"),
        ({"hidden_act": "softmax"}, "hidden_act is 'softmax', not one of"),
        ({"hidden_act": "prelu"}, "models with hidden_act 'prelu' are not supported"),
        ({"architectures": ["Wav2Vec2ForXVector"]}, "holds a Wav2Vec2ForXVector"),
        ({"id2label": {"0": "a", "2": "b"}}, "does not number its 2 labels from 0"),
    ],
)
def test_unsupported_configurations(fields, words, tmp_path):
    write(tmp_path)
    set_config(tmp_path, **fields)
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("keep", [5, 1000, -1])
def test_truncated_weights(keep, tmp_path):
    write(tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged or was not downloaded completely" in refusal(tmp_path)


def test_pickles_are_never_read(tmp_path):
    write(tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(pickle.dumps({"weight": 1}))
    assert "a pickle under the name of a safetensors file" in refusal(tmp_path)
    path.rename(tmp_path / "pytorch_model.bin")
    sentence = refusal(tmp_path)
    assert sentence.endswith(f"python -m scripts.convert_to_safetensors {tmp_path}")


def test_a_git_lfs_pointer(tmp_path):
    write(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / WEIGHTS).write_text(pointer)
    assert "git lfs pull" in refusal(tmp_path)


def test_no_weights_at_all(tmp_path):
    write(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert "has no model.safetensors" in refusal(tmp_path)


def test_another_sample_rate(tmp_path):
    write(tmp_path)
    assert "at 16000 Hz, not at 8000 Hz; resample" in refusal(tmp_path, sample_rate=8000)
    set_config(tmp_path, PREPROCESSOR, sampling_rate=8000)
    assert jaxser.load_victim(tmp_path, sample_rate=8000).input_shape == (48_000,)


def test_too_short_utterances(tmp_path):
    model, _ = write(tmp_path)
    shortest = model.config.shortest_input()
    with pytest.raises(InputError, match=f"at least {shortest} samples, not {shortest - 1}"):
        jaxser.load_victim(tmp_path, samples=shortest - 1)
    victim = jaxser.load_victim(tmp_path, samples=shortest)
    logits = jax.jit(victim.logits)(jnp.ones((1, shortest)))
    assert np.isfinite(logits).all()


def test_unknown_settings_and_no_features(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'dtype'"):
        jaxser.load_victim(tmp_path, dtyp="bfloat16")
    with pytest.raises(UsageError, match="no features to attack"):
        jaxser.load_victim(tmp_path, "features")


def test_a_missing_preprocessor_config_is_logged(tmp_path, caplog):
    write(tmp_path)
    (tmp_path / PREPROCESSOR).unlink()
    with caplog.at_level(logging.WARNING):
        assert read_pretrained(tmp_path).module.config.do_normalize
    assert "taken to be for normalised speech at 16000 Hz" in caplog.text


def test_a_name_on_the_hub_without_a_network(monkeypatch):
    import huggingface_hub

    def fail(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection.\nMore words.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=r"could not be fetched .* \(no connection\); give"):
        jaxser.load_victim("superb/hubert-base-superb-er")
    with pytest.raises(InputError, match="is not a run folder"):
        jaxser.load_victim("tests/absent")  # a path: its parent is here


def test_a_name_on_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    write(tmp_path / "snapshot")
    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, "*.bin" in allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    victim = jaxser.load_victim("superb/wav2vec2-base-superb-er", samples=700)
    assert victim.name == "wav2vec2-base-superb-er"
    assert asked == [("superb/wav2vec2-base-superb-er", False)]


# --- the command ---------------------------------------------------------------------------


def test_export_command(tmp_path, capsys):
    write(tmp_path / "in")
    argv = [str(tmp_path / "in"), str(tmp_path / "out")]
    assert export.main(argv) == 0
    assert "is ready for PyTorch" in capsys.readouterr().out
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "in" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert report_errors(lambda: export.main(argv)) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    empty = [str(tmp_path), str(tmp_path / "other")]
    assert report_errors(lambda: export.main(empty)) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_a_written_folder_is_attacked(tmp_path, capsys):
    """By the command, which a model of Hugging Face tells nothing of its speech."""
    write(tmp_path / "in", sampling_rate=1_000)  # it is given six seconds
    assert export.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    write_corpus(tmp_path / "speech", LABELS[:3])
    argv = ["--victim", str(tmp_path / "out"), "--attack", "fgsm", "--epsilon", "0.01"]
    argv += ["--limit", "2", "--corpus.cache_dir", str(tmp_path / "cache")]
    assert report_errors(lambda: attack.main(argv)) == 2
    assert "says nothing of its speech; give --corpus.name" in capsys.readouterr().err
    argv += ["--corpus.name", "csv", "--corpus.root", str(tmp_path / "speech")]
    assert attack.main([*argv, "--corpus.split", "given"]) == 0
    victim = jaxser.load_victim(tmp_path / "out")
    for row in read_rows(tmp_path / "out" / "attacks").to_pylist():
        assert row["label"] in LABELS[:3]
        samples, rate = soundfile.read(tmp_path / "speech" / f"{row['utterance']}.wav")
        x = unify_length(resample(samples, rate, victim.sample_rate), victim.input_shape[0])
        found = int(np.asarray(jax.jit(victim.logits)(x[None].astype(np.float32))).argmax())
        assert row["clean_prediction"] == victim.labels[found]


def test_labels_must_match_the_classes(tmp_path):
    model = small_model("wav2vec2-group-post")
    with pytest.raises(UsageError, match="2 labels for a model of 5 classes"):
        write_pretrained(model, seeded_variables(model), ("a", "b"), tmp_path)
