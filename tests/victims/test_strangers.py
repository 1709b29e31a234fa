"""Folders and paths that are no victims are told as what they are."""

from typing import Any

import pytest
from written_folder import refusal

import jaxser
from jaxser.runtime.errors import UsageError
from jaxser.victims.hugging_face.layout import CONFIG, WEIGHTS

# --- folders that are no victims -------------------------------------------------------------

STRANGERS = {
    "adapter_config.json": "adapters of PEFT",
    "adapter_model.safetensors": "adapters of PEFT",
    "hyperparams.yaml": "SpeechBrain",
    "checkpoint_best.pt": "fairseq",
    "model.ckpt": "Lightning",
    "tf_model.h5": "another format",
    "model.nemo": "NeMo",
    "notes.txt": "is not a run folder (it has no config.yaml or run.json)",
}
OPTIONS: list[dict[str, Any]] = [{}, {"samples": 16_000}, {"labels": 4}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", STRANGERS)
def test_a_folder_that_is_no_victim_is_told_as_what_it_is(tmp_path, name, options):
    (tmp_path / name).write_text("{}")
    sentence = refusal(tmp_path, **options)
    assert STRANGERS[name] in sentence
    assert "training run" not in sentence


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("path", ["absent", "a/b/absent", "file"])
def test_a_path_that_is_no_folder(tmp_path, path, options):
    (tmp_path / "file").write_text("")
    sentence = refusal(tmp_path / path, **options)
    assert ("it is a file" if path == "file" else "there is no such folder") in sentence


def test_a_run_takes_no_settings(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UsageError, match=r"the folder of a training run, .* leave out labels"):
        jaxser.load_victim(tmp_path, labels=3)


def test_a_description_of_another_program(tmp_path):
    (tmp_path / CONFIG).write_text('{"speechbrain_interface": "EncoderClassifier"}')
    (tmp_path / "hyperparams.yaml").write_text("")
    assert "SpeechBrain" in refusal(tmp_path)


def test_adapters_beside_a_description(folder):
    (folder / WEIGHTS).unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert "merge them into their base model" in refusal(folder)
