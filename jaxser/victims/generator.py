"""Generators of adversarial speech: built from a config, loaded from a run folder.

generator = jaxser.load_generator("runs/staa_net")
attack = jaxser.attacks.StaaNet(generator=generator)
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxser.attacks.generator import ALL_TARGETS, UNKNOWN_EPSILON, Generator
from jaxser.config import CorpusConfig, TrainConfig
from jaxser.config.generator import GeneratorConfig
from jaxser.models.wave_unet import WaveUNet, example_inputs, prepare
from jaxser.runtime.checkpoint import load_variables
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.provenance import fingerprint_of
from jaxser.victims.run_folder import read_run
from jaxser.victims.staa_net_weights import read_generator, widths_of
from jaxser.victims.victim import Victim

__all__ = [
    "build_generator",
    "generator_module",
    "initialise",
    "load_generator",
    "read_generator_run",
]


def generator_module(config: TrainConfig, num_classes: int) -> WaveUNet:
    """The network that ``config`` describes.

    Raises:
      UsageError: see :class:`jaxser.models.wave_unet.WaveUNet`.
    """
    settings = config.generator
    return WaveUNet(
        num_classes=num_classes if settings.target == ALL_TARGETS else None,
        num_samples=config.corpus.num_samples,
        widths=settings.widths,
        padding=settings.padding,
        condition_epsilon=len(settings.epsilon) == 2,
        dtype=jnp.dtype(config.model.dtype),
    )


def build_generator(
    config: TrainConfig, labels: tuple[str, ...], variables: Any, name: str
) -> Generator:
    """What ``config`` describes, with these parameters.

    Raises:
      UsageError: ε is not positive, or the target is no label.
    """
    settings = config.generator
    low, high = settings.epsilon[0], settings.epsilon[-1]
    if not 0 < low <= high < float("inf") or (len(settings.epsilon) == 2 and low == high):
        raise UsageError(
            f"generator.epsilon must be one positive number, or a lowest and a highest one, not "
            f"{' '.join(f'{value:g}' for value in settings.epsilon)}."
        )
    if settings.target not in (None, ALL_TARGETS, *labels):
        raise UsageError(
            f"there is no label {settings.target!r} for generator.target; "
            f"{nearest_name(str(settings.target), (*labels, ALL_TARGETS))}"
        )
    module = generator_module(config, len(labels))
    return Generator(
        apply=module.apply,  # type: ignore[arg-type]
        variables=variables,
        num_samples=config.corpus.num_samples,
        sample_rate=config.corpus.sample_rate,
        labels=labels,
        epsilon=(low, high),
        target=settings.target,
        magnitudes=settings.magnitudes,
        factorised=settings.factorised,
        gamma=settings.gamma,
        shift=module.reflected_before,
        name=name,
    )


def load_generator(path: Path | str, victim: Victim | None = None) -> Generator:
    """The generator of a training run, at its best checkpoint, or of a file, ready for use.

    Args:
      path: run folder, or a safetensors file with the keys of the authors' weights.
      victim: of a file, which does not say what it is for: speech of this one's length, rate and
        labels. Which ε it was trained for stays unknown.

    Raises:
      InputError: the folder is no run of a generator, or holds no finished checkpoint; the file
        holds no such weights, or comes without a victim.

    Examples:
      >>> import jaxser
      >>> victim = jaxser.load_victim("runs/demo")
      >>> generator = jaxser.load_generator("generator.safetensors", victim)
      >>> generator.num_samples, generator.labels
      (2000, ('anger', 'joy', 'sadness'))
      >>> attack = jaxser.attacks.StaaNet(generator=generator)
    """
    path = Path(path)
    module, generator = _of_file(path, victim) if path.is_file() else read_generator_run(path)
    return dataclasses.replace(generator, variables=prepare(module, generator.variables))


def read_generator_run(folder: Path) -> tuple[WaveUNet, Generator]:
    """The network and the generator of a run as training left it; see :func:`load_generator`."""
    config, facts = read_run(folder)
    if not config.threat:
        raise InputError(
            f"{folder} holds a victim, not a generator; give the --out of a run with --threat."
        )
    labels = tuple(facts["labels"])
    module = generator_module(config, len(labels))
    like = jax.eval_shape(functools.partial(initialise, module), jax.random.key(0))
    variables = jax.tree.map(jnp.asarray, load_variables(folder / "checkpoints", like))
    generator = build_generator(config, labels, variables, str(folder))
    return module, dataclasses.replace(generator, fingerprint=fingerprint_of(variables))


def _of_file(path: Path, victim: Victim | None) -> tuple[WaveUNet, Generator]:
    """The network and the generator of a file; see :func:`load_generator`."""
    if victim is None or len(victim.input_shape) != 1:
        raise InputError(
            f"{path} does not say which speech its generator is for; give a victim of that length, "
            "whose waveform is attacked."
        )
    rate = victim.sample_rate
    config = TrainConfig(
        corpus=CorpusConfig(sample_rate=rate, seconds=victim.input_shape[0] / rate),
        generator=GeneratorConfig(widths=widths_of(path)),
    )
    module = generator_module(config, len(victim.labels))
    variables = read_generator(path, module)
    generator = build_generator(config, victim.labels, variables, str(path))
    return module, dataclasses.replace(
        generator, epsilon=UNKNOWN_EPSILON, fingerprint=fingerprint_of(variables)
    )


def initialise(module: WaveUNet, key: jax.Array) -> Any:
    """Fresh parameters."""
    return module.init(key, *example_inputs(module))
