"""What the pages show runs: blocks of Python are executed, lines of a shell are parsed."""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import pytest
import yaml
from little_speech import use_little_speech
from made_rows import columns
from tiny_networks import use_tiny_networks
from tiny_pretrained import make_pretrained
from untrained_run import LABELS, RATE, SECONDS, make_tiny_run

import jaxser
from jaxser.config import CorpusConfig, GeneratorConfig, TrainConfig, command_line, to_mapping
from jaxser.results import RowWriter
from jaxser.runtime.checkpoint import Checkpoints
from jaxser.victims.generator import generator_module, initialise

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block, and what stands under it as its output.
BLOCK = re.compile(r"^```python\n((?:.*\n)*?)```\n(?:\n((?: {4}.*\n)+))?", re.M)
LINE = re.compile(r"^ {4}(?:python -m )?jaxser[. ](\w+)(?= |$)([^\n]*)", re.M)
# What each of them has of its own, `jaxser.` before it.
COMMANDS = {"corpora": "corpora.__main__", "attacks": "attacks.__main__"}


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def without_shares(text: str) -> list[str]:
    """Lines of an output; shares in per cent are of more speech than tests have."""
    lines = (line.strip() for line in text.strip().splitlines())
    return [re.sub(r"\d+\.\d%", "%", line) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages speak of: runs, checkpoints, rows."""
    root = tmp_path_factory.mktemp("pages")
    run = make_tiny_run(root)
    (root / "speech").rename(root / "speech_of_runs")
    (root / "runs").mkdir()
    run.rename(root / "runs" / "demo")
    (root / "runs" / "emo18_emodb").symlink_to(root / "runs" / "demo")
    for name in ("wav2vec2-base-superb-er", "wavlm-base"):
        make_pretrained(root / "PATH" / "TO" / name, ("anger", "joy"))
    for name in ("sweep", "sweep_demo"):
        with RowWriter(root / "runs" / name) as writer:
            writer.add(columns())
    make_generator_run(root / "runs" / "staa_net_emodb")
    return root


def make_generator_run(folder: Path) -> None:
    """The folder that a training leaves of a generator for the run's speech."""
    corpus = CorpusConfig(name="csv", sample_rate=RATE, seconds=SECONDS)
    settings = GeneratorConfig(widths=(8, 8))
    config = TrainConfig(out=folder, corpus=corpus, generator=settings, threat=(Path("demo"),))
    module = generator_module(config, len(LABELS))
    shapes = jax.eval_shape(functools.partial(initialise, module), jax.random.key(0))
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save_best(1, jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes))
    checkpoints.close()
    facts = {"labels": LABELS, "corpus": {"notes": [], "fingerprint": "f"}}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(yaml.safe_dump(to_mapping(config)))


class Traced:
    """A network whose outputs are shapes alone: what it computes is tested elsewhere."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def init(self, *arrays: Any, **settings: Any) -> Any:
        return jax.eval_shape(functools.partial(self.module.init, **settings), *arrays)

    def apply(self, *arrays: Any, **settings: Any) -> Any:
        return jax.eval_shape(functools.partial(self.module.apply, **settings), *arrays)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem
)
def test_blocks_of_python_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader types them, with small victims and corpora."""
    use_little_speech(monkeypatch, folder, utterances=3)
    use_tiny_networks(monkeypatch)
    build = jaxser.models.build
    monkeypatch.setattr(
        jaxser.models, "build", lambda *given, **more: Traced(build(*given, **more))
    )
    names: dict[str, Any] = {}
    missing = set[str]()
    for block, output in blocks(page):
        libraries = re.findall(r"^import (pandas|torch|equinox)", block, re.M)
        absent = {library for library in libraries if importlib.util.find_spec(library) is None}
        if absent:
            missing |= absent
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block, page.name, "exec"), names)
        if said.getvalue() and output:
            assert without_shares(said.getvalue()) == without_shares(output), page.name
    if missing:
        pytest.skip(f"the other blocks ran; {' '.join(sorted(missing))} is not installed")


class Parsed(BaseException):
    """Ends a command as soon as it knows what to do."""


@pytest.fixture
def parse_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read their command lines, and the config files that these name, and do nothing."""
    parse, read = argparse.ArgumentParser.parse_args, command_line.from_mapping

    def parsed(parser: argparse.ArgumentParser, *arguments: Any) -> Any:
        given = parse(parser, *arguments)
        if "any.field" in (parser.usage or ""):
            return given  # what the fields may be is looked at next
        raise Parsed

    def read_alone(*arguments: Any) -> NoReturn:
        read(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(command_line, "from_mapping", read_alone)


def lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command, rest in LINE.findall(text):
        words = shlex.split(re.split(r" [|>] ", rest)[0], comments=True)
        yield command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_of_a_shell_are_understood(
    page: Path, parse_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for command, words in lines(page):
        module = importlib.import_module(f"jaxser.{COMMANDS.get(command, command)}")
        said = io.StringIO()
        with contextlib.suppress(Parsed), contextlib.redirect_stderr(said):
            module.main(words)
            pytest.fail(f"{command} {' '.join(words)}: {said.getvalue()}")
