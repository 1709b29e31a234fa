"""Every example of a docstring gives what it shows, and every public name has one."""

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from docs_pages import PUBLIC, public
from made_rows import columns
from tiny_networks import use_tiny_networks
from untrained_run import make_tiny_run

from jaxser.models.wave_unet import WaveUNet
from jaxser.results import RowWriter
from jaxser.victims.staa_net_weights import generator_shapes, write_generator

ROOT = Path(__file__).resolve().parents[1]

SOURCE = {
    "config": {},
    "corpus": {"name": "made", "title": "Made up", "fingerprint": "f", "split": [0, 0, 7]},
    "environment": {"jaxser": "0", "git_revision": None, "python": "3", "packages": {}},
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def with_examples() -> list[Any]:
    """Modules whose text has examples; those that need torch are of the suite that has it."""
    found = []
    for path in sorted((ROOT / "jaxser").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if ">>> " in text:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            peers = pytest.mark.peers if ">>> import torch" in text else ()
            found.append(pytest.param(name.removesuffix(".__init__"), marks=peers))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples are run in: a table of speech, runs of a victim and of an attack, weights."""
    root = tmp_path_factory.mktemp("examples")
    run = make_tiny_run(root)
    (root / "runs").mkdir()
    run.rename(root / "runs" / "demo")
    with RowWriter(root / "attacked", SOURCE) as writer:
        writer.add(columns())
    network = WaveUNet(num_samples=2_000, widths=(8, 8))
    weights = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), generator_shapes(network))
    write_generator(root / "generator.safetensors", network, weights)
    return root


@pytest.mark.parametrize("name", with_examples())
def test_examples_give_what_they_show(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    use_tiny_networks(monkeypatch)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        # Examples import what they use, as a reader who copies them has to.
        test.globs = {"__name__": "__main__"}
        said: list[str] = []
        runner.run(test, out=said.append)
        if said:
            pytest.fail("".join(said), pytrace=False)
    assert runner.summarize(verbose=False).attempted


def test_every_public_name_has_an_example() -> None:
    """Of the page of the manual that has them all."""
    packages = [package for packages in PUBLIC.values() for package in packages]
    told = {f"{package}.{name}": value for package in packages for name, value in public(package)}
    assert {"jaxser.run_attack", "jaxser.attacks.PGD", "jaxser.results.metrics.uar"} <= set(told)
    bare = [name for name, value in told.items() if ">>> " not in (inspect.getdoc(value) or "")]
    assert not bare


def test_roles_of_docstrings_become_links() -> None:
    with_links = pytest.importorskip("docstring_roles", reason="no griffe").with_links
    known = {"jaxser.load": "jaxser.corpora.load"}
    text = "See :func:`jaxser.load`, :func:`load` and :class:`~jaxser.config.Other`."
    linked = "See [`load`][jaxser.corpora.load], [`load`][jaxser.corpora.load] and `Other`."
    assert with_links(text, "jaxser", known) == linked
