"""What the JSON files of a folder say, what its weights hold, and which of them is believed."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_json import SOME_JSON, quick
from written_folder import LABELS, logits, refusal, rewrite, set_config, value_or_sentence

import jaxser
from jaxser.models.transformer.configuration import RANGES
from jaxser.models.wavlm import WavLMConfig
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.hugging_face.architecture import (
    FAMILIES,
    OF_HUBERT,
    OF_PREPROCESSOR,
    configuration,
    says_head,
)
from jaxser.victims.hugging_face.fields import class_names
from jaxser.victims.hugging_face.layout import CONFIG, PREPROCESSOR, read_json
from jaxser.victims.hugging_face.reading import read_pretrained

# --- the weights decide ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "drop", "labels"),
    [
        ({}, ("architectures",), LABELS),
        ({"architectures": None}, (), LABELS),
        ({"architectures": []}, (), LABELS),
        ({"architectures": ["Wav2Vec2Model"]}, (), LABELS),
        ({"architectures": ["Wav2Vec2ForPreTraining"]}, (), LABELS),
        ({}, ("architectures", "id2label"), tuple(f"LABEL_{i}" for i in range(5))),
        ({}, ("id2label",), tuple(f"LABEL_{i}" for i in range(5))),
    ],
)
def test_a_trained_head_is_kept_whatever_the_file_says(folder, fields, drop, labels):
    expected = logits(folder)
    set_config(folder, drop, **fields)
    found = read_pretrained(folder)
    assert (found.labels, found.new, found.notes) == (labels, (), ())
    np.testing.assert_array_equal(logits(folder), expected)


def test_a_classifier_without_names_takes_those_given(folder):
    expected = logits(folder)
    set_config(folder, ("id2label", "architectures"))
    found = read_pretrained(folder, labels=tuple("abcde"))
    assert (found.labels, found.new) == (tuple("abcde"), ())
    np.testing.assert_array_equal(logits(folder, labels=tuple("abcde")), expected)
    assert read_pretrained(folder, labels=("a", "b")).new == ("classifier",)


@pytest.mark.parametrize("part", ["projector.", "classifier."])
@pytest.mark.parametrize("says", [["Wav2Vec2ForSequenceClassification"], None])
def test_half_a_head_is_refused(folder, part, says):
    set_config(folder, architectures=says)
    rewrite(folder, lambda s: {key: a for key, a in s.items() if not key.startswith(part)})
    assert f"{part}weight is missing" in refusal(folder)


def test_a_head_of_another_kind_is_refused_without_a_word_in_the_file(folder):
    set_config(folder, ("architectures",))

    def change(state):
        del state["classifier.weight"], state["classifier.bias"]
        return state | {"classifier.dense.weight": np.zeros((16, 16), np.float32)}

    rewrite(folder, change)
    sentence = refusal(folder)
    assert "classifier.weight is missing" in sentence
    assert "classifier.dense.weight is not part of this model" in sentence


# --- outputs that are no classes -------------------------------------------------------------


def test_a_regression_head_is_no_classifier(folder):
    names = {"0": "arousal", "1": "dominance", "2": "valence", "3": "a", "4": "b"}
    set_config(folder, problem_type="regression", id2label=names)
    sentence = refusal(folder)
    assert "(arousal, dominance, valence, a, b) are values and no classes" in sentence
    for labels in (5, LABELS, tuple(names.values())):
        victim = jaxser.load_victim(folder, labels=labels, samples=700)
        assert victim.notes == ("the classifier is new and untrained",)


def test_one_output_is_no_class(folder):
    set_config(folder, id2label={"0": "valence"})
    rewrite(
        folder,
        lambda state: (
            state
            | {"classifier.weight": np.zeros((1, 16), np.float32)}
            | {"classifier.bias": np.zeros(1, np.float32)}
        ),
    )
    assert "(valence) are values and no classes (it has one)" in refusal(folder)


def test_several_labels_at_once_are_noted(folder):
    set_config(folder, problem_type="multi_label_classification")
    victim = jaxser.load_victim(folder, samples=700)
    assert victim.notes == ("was trained to give several labels at once",)
    set_config(folder, problem_type="ranking")
    assert "problem_type in" in refusal(folder)


# --- names of classes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", "b", "a", "c", "d"], "names more than one class 'a'"),
        (["a", "b", "a ", "c", "d"], "names more than one class 'a'"),
        (["a", "", "b", "c", "d"], "has no name for class 1"),
        (["a", "b", "c", "d", " \t"], "has no name for class 4"),
        (["a", "b", None, "c", "d"], "id2label in"),
        (["a", "b", ["x"], "c", "d"], "id2label in"),
        ([1.5, "b", "x", "c", "d"], "id2label in"),
    ],
)
def test_names_of_classes_that_are_none(folder, labels, words):
    set_config(folder, id2label=dict(enumerate(labels)))
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "keys", [["0", "1", "3"], ["-1", "0", "1"], ["a", "b", "c"], ["\u0660", "1", "2"]]
)
def test_numbers_of_classes_that_are_none(folder, keys):
    set_config(folder, id2label=dict.fromkeys(keys, "x"))
    assert "does not number its 3 labels from 0" in refusal(folder)


@pytest.mark.parametrize("labels", [["a", "b"], "ab", 3, True])
def test_names_that_are_no_object(folder, labels):
    set_config(folder, id2label=labels)
    assert "id2label in" in refusal(folder)


def test_a_field_that_is_there_twice(folder):
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace("{", '{"hidden_size": 12,', 1))
    assert "'hidden_size' is there twice" in refusal(folder)


@pytest.mark.parametrize("labels", [0, 1, -1, 10**9, (), ("a", "a"), ("a", "")])
def test_labels_of_the_caller_that_name_no_classes(folder, labels):
    with pytest.raises(UsageError, match="labels"):
        read_pretrained(folder, labels=labels)


# --- values of the files ---------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_a_file_leaves_out_is_what_transformers_takes(family):
    import transformers

    theirs = getattr(transformers, f"{family.torch_class}Config")().to_dict()
    others = {*OF_PREPROCESSOR, *(() if family.torch_class == "Hubert" else OF_HUBERT)}
    # Its WavLM lacks this one, and masks as its wav2vec 2.0 does.
    theirs.setdefault("mask_feature_min_masks", 0)
    for field in dataclasses.fields(family.config):
        if field.name not in others:
            value = theirs[field.name]
            assert field.default == (tuple(value) if isinstance(value, list) else value), field.name


def test_every_number_has_a_range():
    numbers = {
        name
        for name, value in vars(WavLMConfig()).items()
        if isinstance(value, int | float | tuple) and not isinstance(value, bool)
    }
    assert numbers == set(RANGES)


@pytest.mark.parametrize("name", sorted(RANGES))
@pytest.mark.parametrize(
    "value", [0, -1, 10**9, 10**400, 1.5, float("nan"), float("inf"), "1", None, True, [], {}]
)
def test_numbers_beyond_what_a_model_has(tmp_path, name, value):
    """Each is refused by name or, where 0 or 1.5 is a value of this field, taken as it is."""
    entries = {"model_type": "wavlm"}
    preprocessor = {"sampling_rate": 16_000}
    (preprocessor if name == "sampling_rate" else entries)[name] = value
    if name.startswith("conv") and not isinstance(value, list):
        entries[name] = [512] * 6 + [value]
    (tmp_path / PREPROCESSOR).write_text(json.dumps(preprocessor))
    config, sentence = value_or_sentence(lambda: configuration(tmp_path, entries))
    if sentence is not None:
        assert name in sentence
        assert len(sentence) < 600
    else:
        low, high = RANGES[name]
        assert low <= getattr(config, name) == value <= high


def test_frames_of_a_million_samples_are_refused(tmp_path):
    (tmp_path / PREPROCESSOR).write_text("{}")
    with pytest.raises(InputError, match="frames of a million samples"):
        configuration(tmp_path, {"model_type": "wavlm", "conv_stride": [1000] * 7})
    long = {f"conv_{part}": [1] * 1000 for part in ("dim", "stride", "kernel")}
    with pytest.raises(InputError, match="conv"):
        configuration(tmp_path, {"model_type": "wavlm"} | long)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": None}, "a model of type None"),
        ({"model_type": ["wav2vec2"]}, "a model of type ['wav2vec2']"),
        ({"model_type": "x" * 10**6}, "a model of type 'xxx"),
        ({"architectures": "Wav2Vec2Model"}, "architectures in"),
        ({"architectures": [None]}, "architectures in"),
        ({"add_adapter": "false"}, "add_adapter in"),
        ({"quantization_config": {"bits": 4}}, "a quantised model"),
        ({"num_feat_extract_layers": 7}, "num_feat_extract_layers 7 and has 3"),
        ({"num_hidden_layers": 250}, "and 3,960 more"),
        ({"conv_dim": ["x" * 10**6]}, "conv_dim in"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm in"),
    ],
)
def test_fields_that_are_wrong(folder, fields, words):
    set_config(folder, **fields)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"a": ' * 100_000, f'{{"hidden_size": {"9" * 5000}}}', "\ud800", "1"],
    ids=["empty", "cut", "deep list", "deep object", "long integer", "no UTF-8", "no object"],
)
@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
def test_files_that_are_no_json(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert name in refusal(folder)


def test_a_description_of_many_megabytes(folder, monkeypatch):
    monkeypatch.setattr("jaxser.victims.hugging_face.layout._MOST_JSON_BYTES", 100)
    assert "which is too much for a description" in refusal(folder)


# --- made damage -----------------------------------------------------------------------------

FIELDS = sorted({*RANGES, "model_type", "architectures", "id2label", "add_adapter", "hidden_act"})


@quick
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), SOME_JSON, max_size=5))
@example({"model_type": {}})
@example({"id2label": {"0": "a", "00": "b"}})
@example({"id2label": {"9" * 5000: "a"}})
def test_damaged_fields_are_a_sentence_or_a_model(tmp_path, damage):
    (tmp_path / CONFIG).write_text(json.dumps({"model_type": "wavlm"} | damage))
    (tmp_path / PREPROCESSOR).write_text(json.dumps(damage))

    def read():
        entries = read_json(tmp_path / CONFIG)
        config = configuration(tmp_path, entries)
        says_head(tmp_path, entries, FAMILIES[config.model_type])
        return config, class_names(entries, tmp_path / CONFIG)

    found, sentence = value_or_sentence(read)
    if sentence is None:
        config, names = found
        assert config.shortest_input() > 0
        assert names is None or len(set(names)) == len(names)
