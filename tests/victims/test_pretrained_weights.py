"""Weights of a folder: their keys, their types and their values."""

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from made_json import SOME_JSON, quick
from written_folder import logits, refusal, rewrite, set_config, value_or_sentence

from jaxser.runtime.errors import InputError
from jaxser.victims.hugging_face.layout import INDEX, WEIGHTS
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.weights_file import read_safetensors, write_safetensors

# --- weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "module.wav2vec2.", "_orig_mod.", "base_model.model.", "a.b.c."]
)
def test_keys_with_a_common_prefix(folder, prefix):
    expected = logits(folder)
    bare = prefix.endswith("wav2vec2.")

    def change(state):
        if bare:  # the inner model alone, as its weights are named in a wrapper of training
            heads = ("projector.", "classifier.")
            return {
                f"module.{key}": array for key, array in state.items() if not key.startswith(heads)
            }
        return {f"{prefix}{key}": array for key, array in state.items()}

    rewrite(folder, change)
    if bare:
        set_config(folder, architectures=["Wav2Vec2Model"])
        assert read_pretrained(folder, labels=5).new == ("classification head",)
    else:
        assert read_pretrained(folder).new == ()
        np.testing.assert_array_equal(logits(folder), expected)


@pytest.mark.parametrize("wrapper", ["", "model."])
def test_the_keys_of_another_family_are_no_prefix(folder, wrapper):
    """HuBERT's arrays are those of wav2vec 2.0, and mean something else."""
    rewrite(
        folder,
        lambda s: {f"{wrapper}{k.replace('wav2vec2.', 'hubert.')}": a for k, a in s.items()},
    )
    sentence = refusal(folder)
    assert f"{wrapper}hubert.encoder" in sentence
    assert "is not part of this model" in sentence


def test_one_key_under_two_prefixes(folder):
    rewrite(folder, lambda s: {f"model.{key}": a for key, a in s.items()} | s)
    assert "is there twice, in two spellings" in refusal(folder)


def test_long_lists_are_cut(folder):
    rewrite(folder, lambda s: {f"strange{i}.{key}": a for i in range(30) for key, a in s.items()})
    sentence = refusal(folder)
    assert "more; use a checkpoint" in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite(folder, value):
    def change(state):
        wide = state["projector.bias"].astype(np.float64)
        wide[3] = value
        return state | {"projector.bias": wide}

    rewrite(folder, change)
    assert "not finite in projector.bias (1 of 16 values)" in refusal(folder)


def test_what_the_model_does_not_use_may_be_anything(folder):
    rewrite(folder, lambda s: s | {"lm_head.weight": np.full((2, 2), np.nan, np.float32)})
    assert read_pretrained(folder).new == ()


SHORT = {
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "int64": "I64",
    "complex64": "C64",
}


@pytest.mark.parametrize("kind", SHORT)
def test_weights_of_other_types(folder, kind):
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    raw = {key: a.astype(dtype) for key, a in safetensors.numpy.load_file(folder / WEIGHTS).items()}
    try:
        safetensors.numpy.save_file(raw, folder / WEIGHTS)
    except Exception:  # this release of safetensors cannot write it
        write_raw(
            folder / WEIGHTS, raw, {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[kind]
        )
    sentence = refusal(folder)
    assert "not supported; use a checkpoint" in sentence or "quantised model" in sentence


def write_raw(path: Path, state: dict[str, np.ndarray], kind: str) -> None:
    """A file of one type, by the format's description."""
    header, body = {}, b""
    for key, array in state.items():
        data = array.tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_one_key_in_two_files(folder):
    state = safetensors.numpy.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.numpy.save_file(state, folder / name)
    places = dict(zip(state, ["a.safetensors", "b.safetensors"] * len(state), strict=False))
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    assert "which another file of the model holds as well" in refusal(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {}}))
    assert "names no files" in refusal(folder)
    many = {f"key{i}": f"{i}.safetensors" for i in range(1000)}
    (folder / INDEX).write_text(json.dumps({"weight_map": many}))
    assert "and 997 more of 1000 files" in refusal(folder)


# --- made damage

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "BF16", "F8_E4M3", "F4", "C64", "I8", "X", None]),
        "shape": st.lists(st.integers(0, 4) | st.sampled_from([2**31, 2**63, -1]), max_size=3),
        "data_offsets": st.lists(st.integers(0, 40) | st.just(2**62), min_size=1, max_size=3),
    }
)
HEADERS = st.dictionaries(st.text(max_size=5), ENTRY | SOME_JSON, max_size=4)


def peak_of_reading(path: Path) -> int:
    """Bytes of memory; what is read is numbers, or a sentence."""
    tracemalloc.start()
    try:
        state, _ = value_or_sentence(lambda: read_safetensors(path))
        assert all(array.dtype.kind in "fiub" for array in (state or {}).values())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0x80, 0x280, 0x480])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path, size):
    """A pickle begins with 0x80 and its protocol; a length may as well."""
    path = tmp_path / "made.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{" * size)
    with pytest.raises(InputError, match="is damaged or was not downloaded completely"):
        read_safetensors(path)


@quick
@given(HEADERS, st.binary(max_size=64), st.integers(-3, 3) | st.just(2**62))
def test_made_headers_of_weights(tmp_path, header, body, off):
    text = json.dumps(header).encode()
    size = max(0, len(text) + off)
    path = tmp_path / "made.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + text + body)
    assert peak_of_reading(path) < 10 * path.stat().st_size + 200_000


@quick
@given(st.integers(0, 10**6), st.integers(0, 7), st.integers(0, 400))
def test_a_bit_or_a_cut_of_a_file_of_weights(tmp_path, place, bit, cut):
    path = tmp_path / "own.safetensors"
    write_safetensors(STATE, path)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data[: max(1, len(data) - max(0, cut - 300))])
    found, sentence = value_or_sentence(lambda: read_safetensors(path))
    if sentence is None:  # the flip was in the digest's name
        assert found.keys() == STATE.keys()
        for key, array in STATE.items():
            np.testing.assert_array_equal(found[key], array)
