"""The Linen module that a training run's config describes, behind its front end if it has one.

module = build_module(config, num_classes=7)
variables = module.init(jax.random.key(0), waveforms, train=False)
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxser import models
from jaxser.config import FeaturesConfig, ModelConfig, TrainConfig
from jaxser.models.front_end import WithFrontEnd
from jaxser.models.image_front_end import WithImage
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.runtime.errors import UsageError
from jaxser.speech.features import Spectrogram
from jaxser.speech.images import IMAGE_KINDS, SpectrogramImage, image_spectrogram
from jaxser.victims.hugging_face.architecture import pretrained_module
from jaxser.victims.image_checkpoints.architecture import image_module

__all__ = ["build_module", "features_of", "ordered_pair", "resolved_features"]

# Fields of the spectrogram that depend on what the victim reads.
_LEFT_OPEN = (
    *("n_fft", "win_length", "hop_length", "n_mels", "fmin"),
    *("n_mfcc", "n_bins", "bins_per_octave"),
)


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
    if reads == "image" and kind not in IMAGE_KINDS:
        raise UsageError(
            f"{name} reads images of spectrograms, and {kind} is none; give features.kind "
            f"{' or '.join(IMAGE_KINDS)}."
        )
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
    features = resolved_features(config)
    front_end = _front_end(features, config.corpus.sample_rate)
    if reads == "image":
        rows: int = network.image_size
        if features.image_size != rows:
            raise UsageError(
                f"{name} reads images of {rows} by {rows}, not of {features.image_size}; set "
                f"features.image_size to {rows}."
            )
        image = SpectrogramImage(
            front_end,
            samples=config.corpus.num_samples,
            size=features.image_size,
            colour_map=features.colour_map,
        )
        fixed_range = ordered_pair("features.decibels", features.decibels)
        return WithImage(image, network, fixed_range=fixed_range)
    return WithFrontEnd(
        front_end,
        frames=front_end.frames(config.corpus.num_samples),
        network=network,
        normalisation=features.normalisation,
        standardise=features.standardise,
        compat=features.compat,
    )


def resolved_features(config: TrainConfig) -> FeaturesConfig:
    """The spectrogram of a run with every number that was left open, for what its victim reads."""
    features = config.features
    if models.input_of(config.model.name) == "image" and features.kind in IMAGE_KINDS:
        like = image_spectrogram(features.kind)
    else:
        like = Spectrogram()
    open_fields = [
        field.name
        for field in dataclasses.fields(Spectrogram)
        if field.name in _LEFT_OPEN and getattr(features, field.name) is None
    ]
    return dataclasses.replace(features, **{name: getattr(like, name) for name in open_fields})


def ordered_pair(name: str, values: tuple[float, ...]) -> tuple[float, float] | None:
    """The two values of a field called ``name``, the smaller one first; None where it is empty.

    Raises:
      UsageError: another number of them, or in another order.
    """
    if not values:
        return None
    if len(values) != 2 or not values[0] < values[1]:
        raise UsageError(f"{name} must be a smaller and a larger value, not {list(values)}.")
    return values[0], values[1]


def _settings(config: ModelConfig) -> dict[str, Any]:
    """Fields of the module; those that only some modules have, where they are not the default."""
    # A module without such a field refuses it, so only what somebody has asked for is passed on.
    default = ModelConfig()
    names = ("dropout", "lstm_dropout", "units", "attention", "scan_layers", "remat")
    special = {name: getattr(config, name) for name in names}
    given = {name: value for name, value in special.items() if value != getattr(default, name)}
    return {"dtype": jnp.dtype(config.dtype), **given}


def _checkpoint_module(
    config: TrainConfig, folder: Path, num_classes: int, settings: dict[str, Any]
) -> nn.Module:
    if models.input_of(config.model.name) == "image":
        return image_module(folder, num_classes, config.model.name, **settings)
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
    # A field that is None here is what Spectrogram means by None.
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
