"""The folder of a training run: held by one process, described once, the same when resumed.

It holds ``config.yaml``, ``run.json`` (labels, corpus fingerprint, versions, device, git revision)
and ``split.csv`` from the start; what is trained adds the rest. These are written aside, into one
folder that gets its name when all are whole, and are moved from there: a process that is killed in
between leaves either nothing or what the next one goes on to move.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxser.config import TrainConfig, to_mapping
from jaxser.corpora import Prepared, read_split, write_split
from jaxser.runtime.determinism import is_kernels_file
from jaxser.runtime.errors import InputError, UsageError
from jaxser.runtime.files import atomic_folder, remove_strays, write_text
from jaxser.runtime.locks import held
from jaxser.runtime.provenance import environment
from jaxser.runtime.together import first_alone, is_first
from jaxser.training.defence import resolved_attack
from jaxser.victims.hugging_face.layout import copy_architecture
from jaxser.victims.module import resolved_features
from jaxser.victims.run_folder import ARCHITECTURE, CONFIG_DIGEST, read_run
from jaxser.victims.training_record import COST_FILE

__all__ = ["begun", "check_same_settings", "describe_run", "described_run", "run_folder"]

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
    "training.log_to",
)


# What describes a run, whole, on its way to its places.
_DESCRIPTION = ".description"

# What a run leaves in its folder until there is something to go on from. The config is last here,
# as it says whose the others are.
_OWN = (
    *("checkpoints", "tensorboard", "history.csv", COST_FILE, ARCHITECTURE, _DESCRIPTION),
    "split.csv",
    *("run.json", "config.yaml"),
)


@contextlib.contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Make the folder and hold its lock, so that two processes never train one run.

    What fails before there is anything to go on from leaves nothing.

    Raises:
      UsageError: it holds something else, or a finished run that cannot be gone on with.
      InputError: another process trains there.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give another --out.")
    with held(out, "trained"):
        # Others attack the run, and hold their own folders.
        remove_strays(out, apart=("attacks",))
        _put_in_place(out)
        _check_ours(out)
        try:
            yield
        except BaseException:
            if not begun(out):
                # Threads of a failed save may be writing there still: what stays, the config with
                # it, is removed by the next start.
                with contextlib.suppress(OSError):
                    _remove_run(out)
            raise


@contextlib.contextmanager
def described_run(
    config: TrainConfig, prepared: Prepared, facts: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """:func:`run_folder` with :func:`describe_run`; of several processes that train one run the
    first has the folder, and has described it before the others go on."""
    with contextlib.ExitStack() as stack:

        def describe() -> None:
            if is_first():
                stack.enter_context(run_folder(config.out))
                describe_run(config, prepared, facts)

        first_alone(describe)
        yield


def begun(out: Path) -> bool:
    """Whether there is something to go on from."""
    # A checkpoint that is being written, or was when its process was killed, has a longer name.
    return any(path.name.isdigit() for path in (out / "checkpoints" / "last").glob("[0-9]*"))


def _check_ours(out: Path) -> None:
    """Refuse what is no run, and what would be lost if it were begun again."""
    # The choice of kernels may come from another run, and is made before there is a run.
    strangers = [path.name for path in out.glob("[!.]*") if not is_kernels_file(path.name)]
    if strangers and not (out / "config.yaml").exists():
        raise UsageError(
            f"{out} holds other things ({strangers[0]} ...) and no run; give a new --out."
        )
    if not begun(out) and ((out / "results.json").exists() or _epochs(out) > 1):
        raise UsageError(
            f"{out} holds a trained run without checkpoints/last, from which it would go on; "
            "restore that folder, or give another --out to train anew."
        )


def _epochs(out: Path) -> int:
    """How many are in the run's history: the first is there before its checkpoint is."""
    history = out / "history.csv"
    return len(history.read_bytes().splitlines()) - 1 if history.exists() else 0


def _remove_run(out: Path) -> None:
    for name in _OWN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _put_in_place(out: Path) -> None:
    """Move a whole description to its places; the config last, which makes the folder a run."""
    folder = out / _DESCRIPTION
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.yaml"):
        if path.is_dir() and (out / path.name).is_dir():
            shutil.rmtree(out / path.name)
        path.replace(out / path.name)
    folder.rmdir()


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
    # What was left open is written down as the number that it came to.
    config = dataclasses.replace(config, features=resolved_features(config))
    # Without a checkpoint there is nothing to lose: a run that failed at once, on an impossible
    # setting for instance, may be given again with other settings.
    if begun(config.out):
        _check_same_run(config, prepared, facts or {})
        return
    # Neither may its best epoch stay: it would pass for one of the run that begins.
    _remove_run(config.out)
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
    text = yaml.safe_dump(to_mapping(saved), sort_keys=False)
    described[CONFIG_DIGEST] = hashlib.sha256(text.encode()).hexdigest()
    with atomic_folder(config.out / _DESCRIPTION) as folder:
        if config.model.checkpoint is not None:
            copy_architecture(config.model.checkpoint, folder / ARCHITECTURE)
        write_split(corpus, folder / "split.csv")
        write_text(folder / "run.json", json.dumps(described, indent=1) + "\n")
        write_text(folder / "config.yaml", text)
    _put_in_place(config.out)


def check_same_settings(config: TrainConfig, flag: str = "--out") -> dict[str, Any]:
    """Check that the run in ``config.out`` is of this config; returns what its run.json recorded.

    Args:
      config: of the run.
      flag: by which the command that asks is given another folder.

    Raises:
      UsageError: it is of another one.
      InputError: there is no run, or it is damaged.
    """
    config = dataclasses.replace(resolved_attack(config), features=resolved_features(config))
    before, recorded = read_run(config.out)
    if bool(before.threat) != bool(config.threat):
        kind = "generator" if before.threat else "victim"
        raise UsageError(f"{config.out} holds the run of a {kind}; give another {flag}.")
    old, new = _flat(to_mapping(before)), _flat(to_mapping(config))
    differing = [key for key in new if key not in _FREE_KEYS and new[key] != old[key]]
    if differing:
        key = differing[0]
        raise UsageError(
            f"{config.out} holds a run with {key} {old[key]}, not {new[key]}; give another {flag}, "
            "or the run's own config to go on with it."
        )
    return recorded


def _check_same_run(config: TrainConfig, prepared: Prepared, facts: Mapping[str, Any]) -> None:
    recorded = check_same_settings(config)
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
        if recorded.get(name) != value:
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
