"""The config reader: precedence, types, and one clear sentence for each mistake."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from jaxser.__main__ import COMMANDS
from jaxser.config import TrainConfig, from_mapping, load_yaml, parse_command, to_mapping
from jaxser.runtime.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Field(gt=0, description="a rate")] = 0.5
    kind: Literal["a", "b"] = "a"
    flag: bool = False


@dataclasses.dataclass(frozen=True)
class Outer:
    epsilon: Annotated[tuple[float, ...], Field(min_length=1)] = (0.1,)
    path: Path | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


def parse(*argv: object) -> Outer:
    return parse_command(Outer, "prog", "Does things.", [str(a) for a in argv])


def test_defaults_then_file_then_flags(tmp_path: Path) -> None:
    assert parse() == Outer()
    file = tmp_path / "c.yaml"
    # YAML 1.1 reads 1e-3 as text: it must still become a number.
    file.write_text("epsilon: [0.2, 1e-3]\ninner:\n  rate: 2\n  kind: b\n")
    assert parse(file) == Outer(epsilon=(0.2, 0.001), inner=Inner(rate=2.0, kind="b"))
    flagged = parse(file, "--inner.rate", "3", "--epsilon", "1", "2", "--path", "x/y")
    assert flagged == Outer((1.0, 2.0), Path("x/y"), Inner(rate=3.0, kind="b"))


def test_another_model_does_not_take_over_what_was_tuned_for_the_one_of_a_file() -> None:
    file = Path(__file__).resolve().parents[2] / "configs" / "cnn_lstm_ravdess.yaml"

    def model(*argv: str) -> tuple[str, float | None, float | None, int | None]:
        found = parse_command(TrainConfig, "p", "d", [str(file), *argv]).model
        return found.name, found.dropout, found.lstm_dropout, found.units

    assert model() == ("cnn_lstm", 0.6, 0.2, None)
    assert model("--model.name", "cnn_lstm", "--model.units", "8") == ("cnn_lstm", 0.6, 0.2, 8)
    assert model("--model.name", "cnn_lstm_m1") == ("cnn_lstm_m1", None, None, None)
    assert model("--model.name", "cnn_lstm_m1", "--model.dropout", "0.1")[1] == 0.1


def test_flag_spellings() -> None:
    assert parse("--inner.flag").inner.flag is True
    assert parse("--inner.flag", "false").inner.flag is False
    assert parse("--path", "none").path is None
    config = parse_command(TrainConfig, "p", "d", ["--training.batch-size=4"])
    assert config.training.batch_size == 4


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--inner.rat", "1"], "unknown flag --inner.rat: did you mean '--inner.rate'?"),
        (["--inner.rate", "x"], "inner.rate = 'x' in the command line is not valid: input should"),
        (["--inner.rate", "0"], "input should be greater than 0"),
        (["--inner.rate", "nan"], "inner.rate"),
        (["--inner.kind", "c"], "input should be 'a' or 'b'"),
        (["--inner.rate"], "argument --inner.rate: expected one argument; see prog --help."),
        (["--epsilon", "a"], "epsilon.0 = 'a'"),
        (["no.yaml"], "there is no config file no.yaml"),
        (["a.yaml", "b.yaml"], "unexpected argument 'b.yaml'"),
    ],
)
def test_mistakes_on_the_command_line(argv: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(*argv)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("innr: {}", "unknown key 'innr'"),
        ("inner:\n  rte: 1", "unknown key 'inner.rte'"),
        ("inner: 3", "inner = 3"),
        ("inner:\n  flag: perhaps", "inner.flag = 'perhaps'"),
        ("path: [1]", "path = [1]"),
        ("- a", "must hold 'key: value' lines"),
        ("a: [", "line 1 is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        parse(file)
    assert sentence in str(error.value)
    assert "c.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_nearest_name_is_given(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("training:\n  learning_rte: 1\n")
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        parse_command(TrainConfig, "p", "d", [str(file)])


@pytest.mark.parametrize(
    ("value", "reason"), [("lest", "a valid number"), ("-1", "greater than 0"), ("inf", "finite")]
)
def test_all_that_may_stand_in_a_place_is_named(value: str, reason: str) -> None:
    with pytest.raises(
        UsageError, match=f"should be 'min' or 'max', or input should be .*{reason}"
    ):
        parse_command(TrainConfig, "p", "d", [f"--features.ref={value}"])


def test_saved_and_read_again() -> None:
    config = parse_command(TrainConfig, "p", "d", ["--corpus.root", "r", "--training.epochs", "3"])
    assert from_mapping(TrainConfig, to_mapping(config), "here") == config


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").touch()
    assert load_yaml(tmp_path / "c.yaml") == {}


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("config", sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("adv*/*.yaml")]))
def test_shipped_configs_are_valid(config: Path) -> None:
    parse_command(TrainConfig, "p", "d", [str(config)])


HELP = [
    *([f"jaxser.{name}", "--help"] for name in COMMANDS),
    *(["jaxser", name, "--help"] for name in COMMANDS),
    *(["jaxser.corpora", name, "--help"] for name in ("list", "check", "prepare", "download")),
    *(["jaxser", flag] for flag in ("--help", "--version")),
    ["jaxser"],
]


def test_help_imports_nothing_heavy() -> None:
    """All of them in one process: what one imported would be found after it."""
    code = (
        "import runpy, sys\n"
        f"for module, *arguments in {HELP!r}:\n"
        "    sys.argv = [module, *arguments]\n"
        "    try:\n"
        "        runpy.run_module(module, run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as stop:\n"
        "        assert stop.code in (0, None), (module, stop.code)\n"
        "    heavy = {'jax', 'flax', 'orbax', 'grain', 'matplotlib', 'pyarrow', 'soundfile'}\n"
        "    heavy |= {'numpy', 'scipy', 'optuna', 'ray'}\n"
        "    assert not heavy & set(sys.modules), (module, heavy & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(HELP) - 1  # --version has none


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seed: 1\nout: a\nseed: 2\n", 3, "seed"),
        ("training:\n  epochs: 1\n  epochs: 1\n", 3, "epochs"),
        ("grid: [{a: 1, a: 2}]\n", 1, "a"),
        ("'seed': 1\nseed: 2\n", 2, "seed"),
    ],
)
def test_a_key_that_is_there_twice_is_named(tmp_path: Path, text: str, line: int, key: str) -> None:
    """YAML would take the last one."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"config.yaml line {line} .* the key '{key}' is there"):
        load_yaml(path)


def test_a_key_may_be_given_anew_where_a_mapping_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a}\n")
    assert load_yaml(path) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 1, "y": 2},
    }
