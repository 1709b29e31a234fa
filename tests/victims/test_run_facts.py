"""``run.json`` of any content: the right facts or one sentence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentences import SEARCH, value_or_sentence

from jaxser.victims.run_facts import read_facts

WHOLE: dict[str, Any] = {
    "labels": ["anger", "joy"],
    "corpus": {"name": "csv", "notes": ["made"], "fingerprint": "f"},
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def changed(at: tuple[str, ...], value: Any) -> bytes:
    facts = copy.deepcopy(WHOLE)
    inner = facts
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = value
    return json.dumps(facts).encode()


PLACES = [("labels",), ("corpus",), ("corpus", "notes"), ("corpus", "fingerprint")]


@SEARCH
@given(st.builds(changed, st.sampled_from(PLACES), ANY) | st.binary(max_size=20))
@example(json.dumps(WHOLE).encode())
@example(b"")
@example(b"\xff\xfe{}")
@example("ü".encode("latin-1"))
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5000)
@example(b"null")
@example(b"[]")
@example(b"NaN")
@example(changed(("labels",), []))
@example(changed(("labels",), ["joy", "joy"]))
@example(changed(("labels",), [["joy"]]))
@example(changed(("corpus",), None))
@example(json.dumps({"labels": ["joy"]}).encode())
def test_any_facts(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "run.json"
    path.write_bytes(content)
    found = value_or_sentence(lambda: read_facts(path))
    if isinstance(found, str):
        assert found.endswith("restore it from a copy, or train again.")
        assert str(path) in found
    else:
        assert found == json.loads(content)
        # What victims are made of.
        assert all(isinstance(name, str) for name in found["labels"])
        assert all(isinstance(note, str) for note in found["corpus"]["notes"])


@pytest.mark.parametrize("name", ["labels", "corpus"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**WHOLE, name: None}))
    told = value_or_sentence(lambda: read_facts(tmp_path / "run.json"))
    assert isinstance(told, str)
    assert name in told
