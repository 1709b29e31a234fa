"""Config files of any content: the right value or one sentence; no traceback, no hang, no flood."""

import math
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentences import SEARCH, value_or_sentence

from jaxser.config import TrainConfig, from_mapping, load_yaml, to_mapping
from jaxser.config.sweep import SweepConfig, grid_of, load_sweep
from jaxser.papers.table import load_table
from jaxser.runtime.errors import UsageError

SWEEP = "out: runs/s\nvictims: [runs/a]\nattacks: [{attack: pgd}]\nepsilon: [0.1]\n"
PIECES = st.sampled_from(
    [
        *("training:", "epochs:", "out:", "seed:", "corpus:", "epsilon:", "attacks:", "victims:"),
        *("\n", "\n  ", ": ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "? ", "| ", "'", '"'),
        *("2001-01-01", "2001-99-99", ".inf", ".nan", "1e400", "9" * 30, "0x1f", "1:30", "~"),
        *("!!int abc", "!!bool abc", "!!timestamp abc", "!!binary x", "!!set {a}", "!!omap [a]"),
        *("!!float x", "!!null x", "!!python/name:os.system ", "<<: ", "%YAML 9.9\n---\n", "\t"),
        *('"\\0"', '"\\uD800"', "\u202e", "linspace: [0, 1, 3]", "name", "pgd", "runs/a"),
    ]
)
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 30))


@SEARCH
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60) | st.binary(max_size=40))
@example("out: 2001-99-99")
@example("training: {epochs: " + "9" * 5000 + "}")
@example("seed: " + "9" * 4000)
@example("training: {epochs: !!int abc}")
@example("out: !!timestamp abc")
@example("training: {class_weights: !!bool abc}")
@example("a: " + "[" * 400)
@example("a: " + "{a: " * 3000)
@example("- " * 3000)
@example("out: !!python/object/apply:os.system ['true']")
@example("out: !!float abc")
@example('out: "a\\0b"')
@example('out: "\\uD800"')
@example("training: &a {epochs: *a}")
@example("threat: &a [*a]")
@example("out: " + "x" * 100_000)
@example("x" * 100_000 + ": 1")
@example("training: " + "x" * 100_000)
@example("? [a]\n: 1")
@example("? {a: 1}\n: 1")
@example("2001-01-01: 1")
@example(b"\xff\xfe\x00")
@example(b"a: \x80")
@example("attacks: [pgd]\nout: a\nvictims: [b]")
@example("attacks: [[pgd]]\nout: a\nvictims: [b]")
@example(SWEEP.replace("[0.1]", "{linspace: [0, .inf, 3]}"))
@example(SWEEP.replace("[0.1]", "{linspace: [0, 1, .nan]}"))
@example(SWEEP.replace("[0.1]", "{logspace: [1.0e+300, 1.0e-300, 3]}"))
@example(SWEEP.replace("[0.1]", "{linspace: [0, 1, 1.0e+12]}"))
@example(SWEEP.replace("[0.1]", "{1: [0, 1, 3]}"))
def test_any_config(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    values = value_or_sentence(lambda: load_yaml(path))
    if isinstance(values, dict):
        config = value_or_sentence(lambda: from_mapping(TrainConfig, values, str(path)))
        if isinstance(config, TrainConfig):
            assert from_mapping(TrainConfig, to_mapping(config), "saved") == config
    sweep = value_or_sentence(lambda: load_sweep(path))
    if isinstance(sweep, SweepConfig) and isinstance(sweep.epsilon, dict):
        assert all(map(math.isfinite, grid_of(sweep.epsilon, "")))
    value_or_sentence(lambda: load_table(path))


@pytest.mark.parametrize(
    "text",
    [f"{LAUGHS}out: *a29", f"{LAUGHS}threat: [*a29, 3]", f"{LAUGHS}seed: {{x: *a29}}"],
    ids=["text", "list", "mapping"],
)
def test_little_yaml_makes_little_of_itself(tmp_path: Path, text: str) -> None:
    """Aliases of YAML stand for 9 ** 29 words in a kilobyte."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    from_mapping(TrainConfig, {}, "what is made once")
    tracemalloc.start()
    told = value_or_sentence(lambda: from_mapping(TrainConfig, load_yaml(path), str(path)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(told, str)
    # What the reader of YAML itself takes for its marks is hundreds of bytes for each word.
    assert most < 1000 * len(text)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device without an end")
def test_only_files_with_an_end_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/dev/zero is longer than any config"):
        load_yaml(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a pipe"):
        load_yaml(tmp_path / "pipe")
    (tmp_path / "long.yaml").write_text("# a comment\n" * 100_000)
    with pytest.raises(UsageError, match="longer than any config"):
        load_yaml(tmp_path / "long.yaml")
    reader, writer = os.pipe()
    os.write(writer, b"seed: 3\n")
    os.close(writer)
    assert load_yaml(Path(f"/dev/fd/{reader}")) == {"seed": 3}  # as a shell's <(...)
    os.close(reader)


def test_names_of_files_need_not_be_utf8() -> None:
    name = b"runs/\xff".decode("utf-8", "surrogateescape")
    assert from_mapping(TrainConfig, {"out": name}, "x").out == Path(name)


@pytest.mark.parametrize("seed", [2**63, -(2**64), 10**6000], ids=["64 bits", "65", "many"])
def test_integers_that_no_array_holds_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="is too large; give a smaller one"):
        from_mapping(TrainConfig, {"seed": seed}, "here")
