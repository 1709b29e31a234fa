"""The folder of a training run: held by one process, described once, the same when resumed.

It holds ``config.yaml``, ``run.json`` (labels, corpus fingerprint, versions, device, git revision)
and ``split.csv`` from the start; what is trained adds the rest.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxser.config import TrainConfig, to_mapping
from jaxser.corpora import Prepared, read_split, write_split
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.files import held, write_text
from jaxser.runtime.provenance import environment
from jaxser.victims.hugging_face.layout import copy_architecture
from jaxser.victims.run_folder import ARCHITECTURE, read_run

__all__ = ["begun", "describe_run", "run_folder"]

# What may differ between a run and its continuation without changing the result.
_FREE_KEYS = (
    "out",
    "threat",
    "interval_over",
    "corpus.root",
    "corpus.cache_dir",
    "generator.start",
    "model.checkpoint",
    "training.checkpoint_minutes",
)


@contextlib.contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Make the folder and hold its lock, so that two processes never train one run."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give another --out.")
    strangers = [p.name for p in out.glob("[!.]*")] if out.is_dir() else []
    if strangers and not (out / "config.yaml").exists():
        raise UsageError(
            f"{out} holds other things ({strangers[0]} ...) and no run; give a new --out."
        )
    with held(out, "trained"):
        yield


def begun(out: Path) -> bool:
    """Whether there is something to go on from."""
    return any((out / "checkpoints" / "last").glob("[0-9]*"))


def describe_run(
    config: TrainConfig, prepared: Prepared, facts: Mapping[str, Any] | None = None
) -> None:
    """Write what the run is, or check that the run already there is this one.

    Args:
      config: of the run.
      prepared: its speech.
      facts: more for ``run.json`` that must be the same when the run goes on.

    Raises:
      UsageError: the folder holds a run with another config.
      InputError: the speech or the facts have changed since the run began.
    """
    # Without a checkpoint there is nothing to lose: a run that failed at once, on an impossible
    # setting for instance, may be given again with other settings.
    if begun(config.out):
        _check_same_run(config, prepared, facts or {})
        return
    corpus = prepared.corpus
    described = {
        **(facts or {}),
        "labels": list(corpus.labels),
        "corpus": {
            "name": corpus.name,
            "title": corpus.title,
            "language": corpus.language,
            "synthetic": corpus.synthetic,
            "notes": list(corpus.notes),
            "fingerprint": prepared.fingerprint,
            "skipped": [list(each) for each in prepared.skipped],
        },
        "environment": environment(),
    }
    model = config.model
    if model.checkpoint is not None:
        copy_architecture(model.checkpoint, config.out / ARCHITECTURE)
        model = dataclasses.replace(model, checkpoint=model.checkpoint.resolve())
    generator = config.generator
    if generator.start is not None:
        generator = dataclasses.replace(generator, start=generator.start.resolve())
    saved = dataclasses.replace(
        config,
        generator=generator,
        threat=tuple(folder.resolve() for folder in config.threat),
        corpus=dataclasses.replace(config.corpus, root=corpus.root.resolve()),
        model=model,
    )
    write_split(corpus, config.out / "split.csv")
    write_text(config.out / "run.json", json.dumps(described, indent=1) + "\n")
    # The config comes last: a folder with a config is a run that is described in full.
    write_text(config.out / "config.yaml", yaml.safe_dump(to_mapping(saved), sort_keys=False))


def _check_same_run(config: TrainConfig, prepared: Prepared, facts: Mapping[str, Any]) -> None:
    before, recorded = read_run(config.out)
    if bool(before.threat) != bool(config.threat):
        kind = "generator" if before.threat else "victim"
        raise UsageError(f"{config.out} holds the run of a {kind}; give another --out.")
    old, new = _flat(to_mapping(before)), _flat(to_mapping(config))
    differing = [key for key in new if key not in _FREE_KEYS and new[key] != old[key]]
    if differing:
        key = differing[0]
        raise UsageError(
            f"{config.out} holds a run with {key} {old[key]}, not {new[key]}; give another --out, "
            "or the run's own config to go on with it."
        )
    split = {u.id: u.split for u in prepared.corpus.utterances if u.split is not None}
    if read_split(config.out / "split.csv") != split:
        raise InputError(
            f"the split {config.corpus.split} no longer gives the parts that are recorded in "
            f"{config.out / 'split.csv'}; give another --out, or restore the split file."
        )
    if recorded["corpus"]["fingerprint"] != prepared.fingerprint:
        raise InputError(
            f"the speech of {prepared.corpus.name} at {prepared.corpus.root} has changed since the "
            f"run in {config.out} began; give another --out, or restore the corpus."
        )
    for name, value in facts.items():
        if recorded[name] != value:
            raise InputError(
                f"the {name} of the run in {config.out} have changed since it began; give another "
                "--out, or restore them."
            )


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
