"""``jaxser COMMAND`` and every command's flags: both spellings, one sentence, groups in --help."""

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxser import __main__ as entry
from jaxser.config import AttackCommandConfig, TrainConfig, parse_command
from jaxser.config.attack import ATTACK_FLAGS
from jaxser.config.certify import CERTIFY_FLAGS, CertifyConfig
from jaxser.config.command_line import FlagGroups
from jaxser.config.evaluate import parse_evaluate
from jaxser.config.parser import CommandParser, command_name
from jaxser.config.sweep_flags import parse_sweep
from jaxser.config.train import TRAIN_FLAGS
from jaxser.config.tune import TUNE_FLAGS, TuneConfig
from jaxser.corpora.command_line import corpora_parser
from jaxser.runtime.errors import UsageError
from jaxser.runtime.version import __version__

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    (AttackCommandConfig, ATTACK_FLAGS),
    (TrainConfig, TRAIN_FLAGS),
    (TuneConfig, TUNE_FLAGS),
    (CertifyConfig, CERTIFY_FLAGS),
]


def parse(config: type, *argv: str) -> Any:
    return parse_command(config, "p", "d", argv)


def shown_help(*argv: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        entry.main([*argv, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("read", "needed", "argv"),
    [
        (lambda argv: parse(TrainConfig, *argv), [], ["--training.batch_size", "4"]),
        (lambda argv: parse(AttackCommandConfig, *argv), [], ["--epsilon_unit=snr_peak"]),
        (lambda argv: parse(TuneConfig, *argv), [], ["--search.min_epochs", "7"]),
        (parse_sweep, ["s_1.yaml"], ["--dry_run"]),
        (parse_evaluate, ["t_1.yaml", "--victim", "a_b"], ["--batch_size", "4"]),
        (
            corpora_parser().parse_args,
            ["prepare", "csv", "a_b"],
            ["--sample_rate=8", "--skip_damaged", "--cache_dir", "c_d"],
        ),
    ],
    ids=["train", "attack", "tune", "sweep", "evaluate", "corpora"],
)
def test_a_dash_is_an_underscore_in_every_flag(
    read: Callable[[list[str]], object], needed: list[str], argv: list[str]
) -> None:
    dashed = [re.sub("^--[^=]+", lambda flag: flag[0].replace("_", "-"), word) for word in argv]
    assert dashed != argv
    assert read([*needed, *dashed]) == read([*needed, *argv]) != read(needed)


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_flags_are_declared_with_underscores(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is declared with a dash could not be given at all."""
    words = [command, "prepare"] if command == "corpora" else [command]
    flags = re.findall(r"^ +(--[\w.-]+)", shown_help(*words, capsys=capsys), re.MULTILINE)
    assert "--version" in flags
    assert not [flag for flag in flags if "-" in flag[2:]]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "--training.epoch", "1"], "--training.epoch: did you mean '--training.epochs'?"),
        (["attack", "--epsilom", "1"], "--epsilom: did you mean '--epsilon'?"),
        (["tune", "--search.trails", "1"], "--search.trails: did you mean '--search.trials'?"),
        (["sweep", "s.yaml", "--dry"], "--dry: did you mean '--dry_run'?"),
        (["sweep", "--dri-run"], "--dri_run: did you mean '--dry_run'?"),
        (["report", "--cs", "a"], "--cs: did you mean '--csv'?"),
        (["evaluate", "t.yaml", "--victims", "a"], "--victims: did you mean '--victim'?"),
        (["transfer", "t.yaml", "--thread=a"], "--thread: did you mean '--threat'?"),
        (["export", "a", "b", "--hepl"], "--hepl: did you mean '--help'?"),
        (["corpora", "check", "--jsn", "csv", "a"], "--jsn: did you mean '--json'?"),
        (
            ["corpora", "prepare", "csv", "a", "-workers", "2"],
            "--workers: did you mean '--workers'?",
        ),
        (["--versoin"], "--versoin: did you mean '--version'?"),
    ],
)
def test_an_unknown_flag_is_one_sentence_with_the_nearest_name(
    argv: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["jaxser", *argv])
    assert entry.run() == 2
    assert capsys.readouterr().err == f"error: unknown flag {sentence}\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["sweep"], "the following arguments are required: CONFIG.yaml; see jaxser sweep --help."),
        (["sweep", "a", "b"], "unexpected argument 'b'; see jaxser sweep --help."),
        (["sweep", "a", "--limit", "x"], "argument --limit: invalid int value: 'x'; see jaxser"),
        (["report", "a", "--audio"], "argument --audio: expected one argument; see jaxser report"),
        (["transfer", "a", "--threat", "b"], "required: --victim; see jaxser transfer --help."),
        (["evaluate"], "required: TABLE.yaml; see jaxser evaluate --help."),
        (["export", "a"], "required: OUT; see jaxser export --help."),
        (["corpora"], "required: COMMAND; see jaxser corpora --help."),
        (["corpora", "check", "csv"], "required: ROOT; see jaxser corpora check --help."),
        (["train", "a.yaml", "b.yaml"], "unexpected argument 'b.yaml'; see jaxser train --help."),
        (["atack"], "there is no command 'atack'; did you mean 'attack'?"),
        (["x"], "there is no command 'x'; valid names are attack, attacks, certify, corpora, "),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    argv: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jaxser", *argv])
    assert entry.run() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert sentence in captured.err


def test_what_is_no_flag_is_left_as_it_was_typed() -> None:
    parser = CommandParser(prog="p")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--line", nargs="+")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args(["--dry-run", "--line", "x-y=z-w", "--", "a-b", "--c-d", "--line"])
    assert given.words == ["a-b", "--c-d", "--line"]
    assert given.line == ["x-y=z-w"]
    assert given.dry_run
    with pytest.raises(UsageError, match="unknown flag --dry: did you mean '--dry_run'"):
        parser.parse_args(["--dry"])


def test_jaxser_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 0
    text = capsys.readouterr().out
    assert entry.main(["--help"]) == 0
    assert capsys.readouterr().out == text
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == list(entry.COMMANDS)
    assert max(map(len, text.splitlines())) <= 100


def test_jaxser_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxser {__version__}\n"


def test_every_command_is_behind_the_one_name() -> None:
    files = {path.stem for path in (ROOT / "jaxser").glob("*.py")} - {"__init__", "__main__"}
    assert set(entry.COMMANDS) == files | {"attacks", "corpora"}


def test_the_installed_script_reports_errors() -> None:
    """pip makes a script that leaves with what this function returns."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["jaxser"].partition(":")
    assert getattr(importlib.import_module(module), function) is entry.run


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/home/me/.venv/bin/jaxser", "jaxser sweep"),
        ("C:/venv/Scripts/jaxser.exe", "jaxser sweep"),
        ("/work/jaxser/__main__.py", "python -m jaxser sweep"),
        ("/work/jaxser/sweep.py", "python -m jaxser.sweep"),
        ("/work/jaxser/corpora/__main__.py", "python -m jaxser.sweep"),
        ("", "python -m jaxser.sweep"),
    ],
)
def test_help_names_the_command_as_it_was_typed(
    program: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert command_name("sweep") == typed
    assert shown_help("sweep", capsys=capsys).startswith(f"usage: {typed} CONFIG.yaml")


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        (
            "train",
            "most used:, training against an attack:, a generator instead of a victim:, corpus:, "
            "features:, model:, generator:, training:",
        ),
        (
            "attack",
            "most used:, what is measured and shown:, what is attacked:, how it runs:, corpus:",
        ),
        ("certify", "most used:, what is certified:, how it runs:, corpus:"),
        ("tune", "the search:, what every trial trains:"),
        ("sweep", "most used:, several processes:, Ray:"),
        ("report", "most used:, beside papers and peers:, to listen to:"),
        (
            "evaluate",
            "most used:, tables whose victims are trained where they are missing:, how it runs:",
        ),
        ("transfer", "most used:, which speech, and how it runs:"),
        ("corpora prepare", "the waveforms:, the chunks:, the files:"),
    ],
)
def test_help_has_groups(command: str, groups: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown_help(*command.split(), capsys=capsys)
    headings = re.findall(r"^(\S.*:)$", text, re.MULTILINE)
    assert groups in ", ".join(headings)
    assert headings[:2] == ["positional arguments:", "options:"]
    # Nothing but --help stands before them.
    (options,) = re.findall(r"^options:\n((?:  .*\n)+)", text, re.MULTILINE)
    assert re.findall(r"--\w+", options) == ["--help", "--version"]


@pytest.mark.parametrize(("config", "groups"), CONFIGS)
def test_what_is_shown_first_exists_once_and_no_flag_is_left_over(
    config: type, groups: FlagGroups, capsys: pytest.CaptureFixture[str]
) -> None:
    placed = [name for names in groups.values() for name in names]
    assert len(set(placed)) == len(placed)

    def flags(shown_first: FlagGroups) -> tuple[list[str], str]:
        with pytest.raises(SystemExit):
            parse_command(config, "p", "d", ["--help"], shown_first)
        text = capsys.readouterr().out
        return re.findall(r"^  --(\S+)", text, re.MULTILINE), text

    grouped, text = flags(groups)
    # Every command has the first one, before all groups.
    assert grouped[: len(placed) + 1] == ["version", *placed]
    assert sorted(grouped) == sorted(flags({})[0])
    assert "\nothers:" not in text


def test_groups_do_not_change_what_is_read() -> None:
    argv = ["--seed", "3", "--corpus.seconds", "2", "--training.epochs", "4"]
    assert parse_command(TrainConfig, "p", "d", argv, TRAIN_FLAGS) == parse(TrainConfig, *argv)


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_every_command_has_the_version(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jaxser", command, "--version"])
    with pytest.raises(SystemExit) as status:
        entry.run()
    assert status.value.code == 0
    assert capsys.readouterr().out == f"jaxser {__version__}\n"


@pytest.mark.parametrize("seed", ["-1", str(2**63), "9" * 30])
@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--seed"],
        ["train", "--corpus.split_seed"],
        ["tune", "--seed"],
        ["attack", "--seed"],
        ["evaluate", "t.yaml", "--victim", "a", "--seed"],
        ["transfer", "t.yaml", "--threat", "a", "--victim", "b", "--seed"],
        ["sweep"],
    ],
)
def test_a_seed_that_is_none_is_told_at_once(
    argv: list[str],
    seed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of every command that has one: before anything is read or made."""
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(f"out: o\nvictims: [v]\nattacks: [pgd]\nseeds: [0, {seed}]\n")
    last = ["s.yaml"] if argv == ["sweep"] else [seed]
    monkeypatch.setattr(sys, "argv", ["jaxser", *argv, *last])
    assert entry.run() == 2
    error = capsys.readouterr().err
    told = r"seed.*(9,?223,?372,?036,?854,?775,?807|greater than or equal to 0)"
    # What no integer of YAML may be is told by the reader of all YAML.
    assert re.search(told, error) or f"{seed} in s.yaml is too large" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml"]
