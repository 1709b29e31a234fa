"""A victim: a Linen module with its variables and its input contract.

victim = jaxser.load_victim("runs/emo18")    # or a folder of Hugging Face
logits = victim.logits(waveforms)            # [batch, classes] float32
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from jaxser import models
from jaxser.config import FeaturesConfig, ModelConfig, TrainConfig, from_mapping, load_yaml
from jaxser.models.front_end import LocalNetwork, WithFrontEnd
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.errors import InputError, UsageError
from jaxser.speech.features import Spectrogram
from jaxser.speech.inversion import speech_of_mels
from jaxser.victims.pretrained import (
    fetch_from_hub,
    is_pretrained_folder,
    pretrained_module,
    read_pretrained,
)

__all__ = [
    "Domain",
    "FrontEnd",
    "Victim",
    "build_module",
    "evaluation_logits",
    "features_of",
    "load_module",
    "load_victim",
    "read_run",
]

Domain = Literal["waveform", "features"]

# Folder of a run with what says how its fine-tuned model is built.
ARCHITECTURE = "pretrained"


@dataclasses.dataclass(frozen=True, eq=False)
class FrontEnd:
    """How a victim gets from speech to what its network reads.

    Attributes:
      features: pure function ``(variables, waveforms [batch, time]) -> features [batch, frames,
        bins]``, normalised and standardised.
      spectrogram: ``(variables, features) -> spectrograms`` in the front end's own units, such as
        dB, for people to look at.
      speech: ``(variables, features [frames, bins]) -> waveform [samples]`` on the host: speech
        that sounds like the features, see :mod:`jaxser.speech.inversion`.
    """

    features: Callable[..., Float[Array, "batch frames bins"]]
    spectrogram: Callable[..., Float[Array, "batch frames bins"]]
    speech: Callable[..., Float[np.ndarray, " samples"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """What an attack needs to know of a model.

    Attributes:
      apply: pure function ``(variables, x [batch, *input_shape]) -> logits [batch, classes]``,
        in evaluation mode, with the normalisation and any front end inside. Attacks that change
        few positions are cheaper where it is a :class:`jaxser.attacks.base.LocalFunction`.
      variables: its parameters and statistics (a pytree).
      labels: class names in index order.
      input_shape: shape of one input; ``(samples,)`` for waveforms.
      bounds: valid range of an input, or None.
      sample_rate: of the waveform, in Hz.
      name: what tables call it.
      notes: remarks that must travel into every result (synthetic corpus, leaky split ...).
      randomised: it has noise of its own (dropout, a smoothing defence); ``apply`` then takes a
        third argument, keys ``[batch]``, and row i's noise depends on ``keys[i]`` alone.
      front_end: of a victim that reads a spectrogram, else None.
    """

    apply: Callable[..., Float[Array, "batch classes"]]
    variables: Any
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    bounds: tuple[float, float] | None = (-1.0, 1.0)
    sample_rate: int = 16_000
    name: str = "victim"
    notes: tuple[str, ...] = ()
    randomised: bool = False
    front_end: FrontEnd | None = None

    def hears_like(self, other: "Victim") -> bool:
        """Whether both take the same inputs for the same labels, as transfer between them needs."""
        return (
            self.labels == other.labels
            and self.sample_rate == other.sample_rate
            and tuple(self.input_shape) == tuple(other.input_shape)
        )

    def logits(
        self, x: Float[Array, "batch ..."], keys: Key[Array, "batch"] | None = None
    ) -> Float[Array, "batch classes"]:
        """Logits of ``x``; never probabilities. A randomised victim needs ``keys``."""
        if not self.randomised:
            return self.apply(self.variables, x)
        if keys is None:
            raise UsageError(f"{self.name} is randomised: give logits one key per row.")
        return self.apply(self.variables, x, keys)


def evaluation_logits(
    model: nn.Module,
) -> Callable[[Any, Float[Array, "batch ..."]], Float[Array, "batch classes"]]:
    """``(variables, x) -> logits`` of a module in evaluation mode, local where the module is."""
    if isinstance(model, LocalNetwork):
        return LocalEvaluation(model)
    return functools.partial(model.apply, train=False)  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True, eq=False)
class LocalEvaluation:
    """A module in evaluation mode as a :class:`jaxser.attacks.base.LocalFunction`."""

    model: Any

    def __call__(
        self, variables: Any, x: Float[Array, "batch ..."]
    ) -> Float[Array, "batch classes"]:
        return self.model.apply(variables, x, train=False)

    def is_local(self, shape: tuple[int, ...], positions: int) -> bool:
        return self.model.is_local(shape, positions)

    def encode(self, variables: Any, x: Float[Array, "batch ..."]) -> Any:
        return self.model.apply(variables, x, method="encode")

    def logits_at(
        self,
        variables: Any,
        x: Float[Array, "batch ..."],
        encoding: Any,
        index: Int[Array, "batch candidates positions"],
        values: Float[Array, "batch candidates positions channels"],
    ) -> Float[Array, "batch candidates classes"]:
        return self.model.apply(variables, x, encoding, index, values, method="logits_at")


def build_module(
    config: TrainConfig, num_classes: int, architecture: Path | None = None
) -> nn.Module:
    """The module that ``config`` describes: an architecture, behind its front end if it has one.

    Args:
      config: of the run.
      num_classes: of the victim.
      architecture: folder that says how a fine-tuned model is built; ``config.model.checkpoint``
        by default.

    Raises:
      UsageError: the architecture reads something else than ``config.features`` gives, or has no
        such setting.
      InputError: ``config.model.checkpoint`` is no checkpoint, or does not fit the speech.
    """
    name, kind = config.model.name, config.features.kind
    reads = models.input_of(name)
    if reads == "spectrogram" and kind == "waveform":
        raise UsageError(f"{name} reads spectrograms; give features.kind, such as log_mel.")
    if reads == "waveform" and kind != "waveform":
        raise UsageError(f"{name} reads waveforms, not {kind}; set features.kind to waveform.")
    settings = _settings(config.model)
    if config.model.checkpoint is not None:
        folder = config.model.checkpoint if architecture is None else architecture
        network: nn.Module = _checkpoint_module(config, folder, num_classes, settings)
    else:
        network = models.build(name, num_classes=num_classes, **settings)
    if isinstance(network, SpeechTransformer):
        _check_speech(config, network)
    if kind == "waveform":
        return network
    front_end = _front_end(config.features, config.corpus.sample_rate)
    return WithFrontEnd(
        front_end,
        frames=front_end.frames(config.corpus.num_samples),
        network=network,
        normalisation=config.features.normalisation,
        standardise=config.features.standardise,
    )


def _settings(config: ModelConfig) -> dict[str, Any]:
    """Fields of the module; those that only some modules have, where they are not the default."""
    default = ModelConfig()
    names = ("dropout", "lstm_dropout", "attention", "scan_layers", "remat")
    special = {name: getattr(config, name) for name in names}
    given = {name: value for name, value in special.items() if value != getattr(default, name)}
    return {"dtype": jnp.dtype(config.dtype), **given}


def _checkpoint_module(
    config: TrainConfig, folder: Path, num_classes: int, settings: dict[str, Any]
) -> SpeechTransformer:
    module = pretrained_module(folder, num_classes, **settings)
    family = module.config.model_type
    if config.model.name.partition("-")[0] != family:
        raise UsageError(
            f"model.checkpoint {folder} holds a {family} model, not {config.model.name}; give "
            f"--model.name {family}-base."
        )
    return module


def _check_speech(config: TrainConfig, module: SpeechTransformer) -> None:
    rate, shortest = module.config.sampling_rate, module.config.shortest_input()
    if config.corpus.sample_rate != rate:
        raise UsageError(
            f"{config.model.name} is for speech at {rate} Hz; give --corpus.sample_rate {rate}."
        )
    if config.corpus.num_samples < shortest:
        raise UsageError(
            f"{config.model.name} needs utterances of at least {shortest} samples; give more "
            f"--corpus.seconds than {config.corpus.seconds:g}."
        )


def _front_end(config: FeaturesConfig, sample_rate: int) -> Spectrogram:
    assert config.kind != "waveform"
    settings = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Spectrogram)
        if hasattr(config, field.name)
    }
    # Every dB spectrogram but log_mel has to be asked for; linear and mel victims read dB too.
    return Spectrogram(**settings, sample_rate=sample_rate, db=config.kind in ("linear", "mel"))


def features_of(model: WithFrontEnd) -> Callable[..., Float[Array, "batch frames bins"]]:
    """``(variables, waveforms) -> features`` of a module with a front end."""
    return functools.partial(model.apply, method="features")  # type: ignore[return-value]


def _speech_of(
    model: WithFrontEnd, variables: Any, features: Float[Array, "frames bins"]
) -> Float[np.ndarray, " samples"]:
    if model.normalisation in ("sum", "max_local"):
        raise UsageError(
            f"features normalised by {model.normalisation} cannot be turned back into speech: what "
            "each was divided by is not kept."
        )
    spectrogram = model.apply(variables, jnp.asarray(features)[None], method="unstandardised")
    return speech_of_mels(model.front_end, np.asarray(spectrogram)[0])


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
      domain: what its inputs are: "waveform" or, for a victim that reads a spectrogram, its
        standardised "features", within the ``features.bounds`` of the run.
      labels: of a pretrained model: class names, or how many classes; see
        :func:`jaxser.victims.pretrained.read_pretrained`, which also logs when the classifier is
        new.
      samples: of a pretrained model: length of its inputs, six seconds by default.
      sample_rate: of a pretrained model: that of your speech, to be checked.
      **settings: of a pretrained model: ``dtype``, ``attention``, ``scan_layers`` and other
        fields of its module or configuration.

    Returns:
      The victim, its variables on the default device.

    Raises:
      InputError: the folder is neither, holds no finished checkpoint, or the checkpoint is of
        another architecture than its config says; a pretrained model has another sample rate, or
        ``samples`` are too few for it.
      UsageError: the victim has no features; settings that a run has not.
    """
    found = _pretrained_folder(folder)
    if found is not None:
        if domain != "waveform":
            raise _no_features(str(folder), str(folder))
        return _pretrained_victim(found, folder, labels, samples, sample_rate, settings)
    of_pretrained = {"labels": labels, "samples": samples, "sample_rate": sample_rate, **settings}
    given = sorted(name for name, value in of_pretrained.items() if value is not None)
    if given:
        raise UsageError(
            f"{folder} is the folder of a training run, whose config says all; leave out "
            f"{', '.join(given)}."
        )
    return _victim_of_run(Path(folder), domain)


def _pretrained_folder(folder: Path | str) -> Path | None:
    """Where a pretrained model is, fetched if need be; None for what can only be a run."""
    path = Path(folder)
    if path.is_dir():
        is_run = (path / "config.yaml").is_file() or (path / "run.json").is_file()
        return path if not is_run and is_pretrained_folder(path) else None
    # "runs/typo" is a path, "superb/hubert-base-superb-er" is not.
    if len(path.parts) == 2 and not path.exists() and not path.parent.exists():
        return fetch_from_hub(str(folder))
    return None


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
        name=Path(folder).name,
        notes=tuple(f"the {part} is new and untrained" for part in pretrained.new),
    )


def load_module(folder: Path | str) -> tuple[nn.Module, Any, TrainConfig, dict[str, Any]]:
    """(module, variables, config, facts) of a training run's best checkpoint.

    Raises:
      InputError: as :func:`load_victim`.
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


def _victim_of_run(folder: Path, domain: Domain) -> Victim:
    model, variables, config, facts = load_module(folder)
    victim = Victim(
        apply=evaluation_logits(model),
        variables=jax.tree.map(jnp.asarray, variables),
        labels=tuple(facts["labels"]),
        input_shape=(config.corpus.num_samples,),
        sample_rate=config.corpus.sample_rate,
        name=config.model.name,
        notes=tuple(facts["corpus"]["notes"]),
    )
    if isinstance(model, WithFrontEnd):
        front_end = FrontEnd(
            features=features_of(model),
            spectrogram=functools.partial(model.apply, method="unstandardised"),  # type: ignore[arg-type]
            speech=functools.partial(_speech_of, model),
        )
        victim = dataclasses.replace(victim, front_end=front_end)
    if domain == "waveform":
        return victim
    if not isinstance(model, WithFrontEnd):
        raise _no_features(config.model.name, str(folder))
    return dataclasses.replace(
        victim,
        input_shape=(model.frames, model.front_end.bins),
        bounds=_feature_bounds(config.features),
    )


def _no_features(name: str, folder: str) -> UsageError:
    return UsageError(
        f"{name} in {folder} reads waveforms and has no features to attack; use the domain "
        "waveform."
    )


def _feature_bounds(config: FeaturesConfig) -> tuple[float, float] | None:
    if not config.bounds:
        return None
    if len(config.bounds) != 2 or not config.bounds[0] < config.bounds[1]:
        raise UsageError(
            f"features.bounds must be a smaller and a larger value, not {list(config.bounds)}."
        )
    return config.bounds[0], config.bounds[1]


def read_run(folder: Path | str) -> tuple[TrainConfig, dict[str, Any]]:
    """(config, facts) of a run folder: what was asked for, and what ``run.json`` recorded.

    Raises:
      InputError: the folder is no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file() or not (folder / "run.json").is_file():
        raise InputError(
            f"{folder} is not a run folder (it has no config.yaml or run.json); give the --out of "
            "a python -m jaxser.train run."
        )
    config = from_mapping(
        TrainConfig, load_yaml(folder / "config.yaml"), str(folder / "config.yaml")
    )
    try:
        return config, json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{folder / 'run.json'} is damaged ({error}); restore or retrain."
        ) from error
