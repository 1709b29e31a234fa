"""Folders of training runs: what was asked for, and the victim at its best checkpoint.

config, facts = read_run("runs/emo18")
victim = victim_of_run(Path("runs/emo18"), "waveform")
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser.config import TrainConfig, from_mapping, load_yaml
from jaxser.config.ranges import Domain
from jaxser.models.front_end import WithFrontEnd
from jaxser.models.image_front_end import WithImage
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.inversion import speech_of_mels
from jaxser.victims.feature_maps import feature_map_of
from jaxser.victims.hugging_face.layout import stranger
from jaxser.victims.image_domains import in_image_domain
from jaxser.victims.last_layer import embedding_of
from jaxser.victims.module import build_module, features_of, ordered_pair
from jaxser.victims.run_facts import read_facts
from jaxser.victims.training_record import training_facts
from jaxser.victims.victim import FrontEnd, Victim, evaluation_logits

__all__ = [
    "ARCHITECTURE",
    "CONFIG_DIGEST",
    "load_module",
    "no_domain",
    "read_run",
    "victim_of_run",
]

# Folder of a run with what says how its fine-tuned model is built.
ARCHITECTURE = "pretrained"

# The last section of every config without a digest, and the fields that end it: in the order in
# which they are declared, and by the alphabet. Fields that came later are in none.
_LAST_SECTION, _LAST_FIELDS = "training", {"checkpoint_minutes", "weight_decay"}

# Key of run.json with the SHA-256 of config.yaml.
CONFIG_DIGEST = "config_sha256"


def read_run(folder: Path | str) -> tuple[TrainConfig, dict[str, Any]]:
    """(config, facts) of a run folder: what was asked for, and what ``run.json`` recorded.

    Raises:
      InputError: the folder is no run, or its config is not what was written.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file() or not (folder / "run.json").is_file():
        raise InputError(_no_run(folder))
    facts = read_facts(folder / "run.json")
    return _whole_config(folder / "config.yaml", facts), facts


def _no_run(folder: Path) -> str:
    """What is in the way of a folder that is no run's, in a sentence."""
    if folder.is_dir():
        why = "it has no config.yaml or run.json"
    else:
        why = "it is a file" if folder.exists() else "there is no such folder"
    return stranger(folder) or (
        f"{folder} is not a run folder ({why}); give the --out of a python -m jaxser.train run."
    )


def _whole_config(path: Path, facts: Mapping[str, Any]) -> TrainConfig:
    """The config, as it was written: what is missing must not be taken from the defaults."""
    digest = facts.get(CONFIG_DIGEST)
    if digest is not None:
        whole = hashlib.sha256(path.read_bytes()).hexdigest() == digest
        values = load_yaml(path) if whole else {}
    else:
        values = load_yaml(path)
        whole = _ends_as_written(path, values)
    if not whole:
        raise InputError(
            f"{path} is not what training wrote there (it was cut or changed since); restore it "
            "from a copy, or train again."
        )
    return from_mapping(TrainConfig, values, str(path))


def _ends_as_written(path: Path, values: Mapping[str, Any]) -> bool:
    """Whether a config without a digest has its end: what was cut off its file has no other."""
    if list(values)[-1:] != [_LAST_SECTION] or not path.read_bytes().endswith(b"\n"):
        return False
    section = values[_LAST_SECTION]
    return isinstance(section, dict) and section.keys() >= _LAST_FIELDS


def load_module(folder: Path | str) -> tuple[nn.Module, Any, TrainConfig, dict[str, Any]]:
    """(module, variables, config, facts) of a training run's best checkpoint.

    Raises:
      InputError: as :func:`jaxser.victims.loading.load_victim`.
    """
    folder = Path(folder)
    config, facts = read_run(folder)
    if config.threat:
        raise InputError(
            f"{folder} holds a generator of adversarial speech, not a victim; give the run folder "
            "of a victim, and the generator as --attack staanet --params generator=FOLDER."
        )
    model = build_module(config, len(facts["labels"]), folder / ARCHITECTURE)
    x = jax.ShapeDtypeStruct((1, config.corpus.num_samples), jnp.float32)
    like = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return model, load_variables(folder / "checkpoints", like), config, facts


def victim_of_run(folder: Path, domain: Domain) -> Victim:
    """The victim of a training run, in the domain that is attacked.

    Raises:
      InputError, UsageError: as :func:`jaxser.victims.loading.load_victim`.
    """
    model, variables, config, facts = load_module(folder)
    victim = Victim(
        apply=evaluation_logits(model),
        variables=jax.tree.map(jnp.asarray, variables),
        labels=tuple(facts["labels"]),
        input_shape=(config.corpus.num_samples,),
        sample_rate=config.corpus.sample_rate,
        name=config.model.name,
        notes=tuple(facts["corpus"]["notes"]),
        embed=embedding_of(model),
        feature_map=feature_map_of(model),
        training=training_facts(folder, config),
    )
    if isinstance(model, WithFrontEnd):
        front_end = FrontEnd(
            features=features_of(model),
            spectrogram=functools.partial(model.apply, method="unstandardised"),  # type: ignore[arg-type]
            speech=functools.partial(_speech_of, model),
        )
        victim = dataclasses.replace(victim, front_end=front_end)
    if domain not in _domains(model):
        raise no_domain(config.model.name, str(folder), domain, _domains(model))
    if isinstance(model, WithImage):
        return in_image_domain(victim, model, domain)
    if domain == "waveform" or not isinstance(model, WithFrontEnd):
        return victim
    return dataclasses.replace(
        victim,
        input_shape=(model.frames, model.front_end.bins),
        bounds=ordered_pair("features.bounds", config.features.bounds),
    )


def _domains(model: nn.Module) -> tuple[Domain, ...]:
    """What can be attacked of a victim."""
    if isinstance(model, WithImage):
        return "waveform", "spectrogram", "image"
    return ("waveform", "features") if isinstance(model, WithFrontEnd) else ("waveform",)


def no_domain(name: str, folder: str, asked: str, domains: Sequence[str]) -> UsageError:
    """What to tell who wants to attack what a victim does not read."""
    return UsageError(
        f"{name} in {folder} has no {asked} to attack; use the domain {' or '.join(domains)}."
    )


def _speech_of(
    model: WithFrontEnd, variables: Any, features: Float[Array, "frames bins"]
) -> Float[np.ndarray, " samples"]:
    if model.divides_by_own:
        raise UsageError(
            f"features normalised by {model.normalisation} cannot be turned back into speech: what "
            "each was divided by is not kept."
        )
    spectrogram = model.apply(variables, jnp.asarray(features)[None], method="unstandardised")
    return speech_of_mels(model.front_end, np.asarray(spectrogram)[0])
