"""A victim by its folder: of a training run, or of a pretrained model; or by its name on the hub.

victim = load_victim("runs/emo18")
victim = load_victim("superb/hubert-base-superb-er", samples=96_000)
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxser.config.ranges import Domain
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.hugging_face.layout import fetch_from_hub, is_pretrained_folder
from jaxser.victims.hugging_face.reading import read_pretrained
from jaxser.victims.last_layer import embedding_of
from jaxser.victims.run_folder import no_domain, victim_of_run
from jaxser.victims.victim import Victim, evaluation_logits

__all__ = ["is_hub_name", "is_pretrained", "load_victim"]

# Names of people and of models on the hub.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")

# Where training leaves its runs: what is mistyped there must not be looked for on the hub.
_RUNS = "runs"


def load_victim(
    folder: Path | str,
    domain: Domain = "waveform",
    *,
    labels: Sequence[str] | int | None = None,
    samples: int | None = None,
    sample_rate: int | None = None,
    **settings: Any,
) -> Victim:
    """The victim in ``folder``: of a training run, its best checkpoint; or a pretrained one.

    Args:
      folder: run folder, as written by ``python -m jaxser.train``; or a wav2vec 2.0, HuBERT or
        WavLM model as Hugging Face keeps it (``config.json``, ``model.safetensors``,
        ``preprocessor_config.json``), by its folder or its name on the hub.
      domain: what its inputs are: "waveform"; for a victim that reads a spectrogram its
        standardised "features", within the ``features.bounds`` of the run; for one that reads
        images the "spectrogram" before it is coloured, or the "image", both within [0, 1].
      labels: of a pretrained model: class names, or how many classes; see
        :func:`jaxser.victims.hugging_face.reading.read_pretrained`, which also logs when the
        classifier is new.
      samples: of a pretrained model: length of its inputs, six seconds by default.
      sample_rate: of a pretrained model: that of your speech, to be checked.
      **settings: of a pretrained model: ``dtype``, ``attention``, ``scan_layers`` and other
        fields of its module or configuration.

    Returns:
      The victim, its variables on the default device.

    Raises:
      InputError: the folder is neither (what it is instead is said), holds no finished checkpoint,
        or the checkpoint is of another architecture than its config says; a pretrained model has
        another sample rate, or ``samples`` are too few for it.
      UsageError: the victim has no such domain; settings that a run has not.

    Examples:
      Of a folder that ``python -m jaxser.train`` left:

      >>> import jaxser
      >>> victim = jaxser.load_victim("runs/demo")
      >>> victim.labels, victim.input_shape, victim.sample_rate
      (('anger', 'joy', 'sadness'), (2000,), 8000)
    """
    if not isinstance(folder, str | os.PathLike):
        raise UsageError(f"a victim's folder must be a path or a name, not {folder!r:.80}.")
    found = _pretrained_folder(folder)
    if found is not None:
        if domain != "waveform":
            raise no_domain(Path(folder).name, str(folder), domain, ("waveform",))
        return _pretrained_victim(found, folder, labels, samples, sample_rate, settings)
    of_pretrained = {"labels": labels, "samples": samples, "sample_rate": sample_rate, **settings}
    given = sorted(name for name, value in of_pretrained.items() if value is not None)
    if given and _is_run(Path(folder)):
        raise UsageError(
            f"{folder} is the folder of a training run, whose config says all; leave out "
            f"{', '.join(given)}."
        )
    return victim_of_run(Path(folder), domain)


def is_pretrained(folder: Path) -> bool:
    """Whether a folder is a model as Hugging Face keeps it, and none of a training run; or the name
    of one on the hub."""
    if is_hub_name(folder):
        return True
    return folder.is_dir() and not _is_run(folder) and is_pretrained_folder(folder)


def is_hub_name(folder: Path | str) -> bool:
    """Whether ``folder`` is a name on the hub and no path: "superb/hubert-base-superb-er", where
    neither this nor "superb" is a folder here."""
    path = Path(folder)
    return (
        len(path.parts) == 2
        and path.parts[0] != _RUNS
        and all(_HUB_NAME.fullmatch(part) for part in path.parts)
        and not path.exists()
        and not path.parent.exists()
    )


def _pretrained_folder(folder: Path | str) -> Path | None:
    """Where a pretrained model is, fetched if need be; None for what can only be a run."""
    path = Path(folder)
    if path.is_dir():
        return path if is_pretrained(path) else None
    return fetch_from_hub(str(folder)) if is_hub_name(path) else None


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or (folder / "run.json").is_file()


def _pretrained_victim(
    found: Path,
    folder: Path | str,
    labels: Sequence[str] | int | None,
    samples: int | None,
    sample_rate: int | None,
    settings: dict[str, Any],
) -> Victim:
    pretrained = read_pretrained(found, labels, **settings)
    config = pretrained.module.config
    if sample_rate is not None and sample_rate != config.sampling_rate:
        raise InputError(
            f"{folder} is for speech at {config.sampling_rate} Hz, not at {sample_rate} Hz; "
            "resample your speech."
        )
    samples = 6 * config.sampling_rate if samples is None else samples
    if samples < config.shortest_input():
        raise InputError(
            f"{folder} needs waveforms of at least {config.shortest_input()} samples, not "
            f"{samples}; pad them or use longer utterances."
        )
    return Victim(
        apply=evaluation_logits(pretrained.module),
        variables=jax.tree.map(jnp.asarray, pretrained.variables),
        labels=pretrained.labels,
        input_shape=(samples,),
        sample_rate=config.sampling_rate,
        shortest_input=config.shortest_input(),
        name=Path(folder).name,
        embed=embedding_of(pretrained.module),
        notes=(
            *(f"the {part} is new and untrained" for part in pretrained.new),
            *pretrained.notes,
        ),
    )
