"""Weights of STAA-Net's generator, with the keys of its authors' state dict.

generator = jaxser.models.build("waveunet", num_samples=96_000)
variables = read_generator("staanet.safetensors", generator)
write_generator("OUT.safetensors", generator, variables)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxser.models.wave_unet import WaveUNet
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.key_tables.entries import Entry, from_torch, to_torch
from jaxser.victims.key_tables.wave_unet import wave_unet_table
from jaxser.victims.weights_file import check_weights, read_safetensors, write_safetensors

__all__ = ["generator_shapes", "read_generator", "widths_of", "write_generator"]


_PRE = "pre_shortcut_convs.0.filter.weight"


def read_generator(path: Path | str, module: WaveUNet) -> dict[str, Any]:
    """Variables of ``module`` from a state dict of the authors' generator (safetensors).

    Raises:
      InputError: the file is missing or damaged, or does not fit (keys that do not are named), or
        holds what is not finite.
      UsageError: ``module`` is conditioned.
    """
    table, shapes = _generator_table(module), generator_shapes(module)
    state = read_safetensors(Path(path))
    check_weights(state, path)
    variables = from_torch(state, table, shapes=shapes, ignored=(), where=str(path))
    return jax.tree.map(jnp.asarray, variables)


def widths_of(path: Path | str) -> tuple[int, ...]:
    """Channels of the levels of the authors' generator in a file, by the shapes of its weights.

    Raises:
      InputError: the file is missing or damaged, or holds no such generator.
    """
    state = read_safetensors(Path(path))
    levels, widths = 0, []
    while (key := f"waveunets.ALL.downsampling_blocks.{levels}.{_PRE}") in state:
        widths.append(int(state[key].shape[0]))
        levels += 1
    bottleneck = state.get("waveunets.ALL.bottlenecks.0.filter.weight")
    if bottleneck is None or not widths:
        raise InputError(
            f"{path} holds no generator with the keys of STAA-Net's authors, such as "
            f"waveunets.ALL.downsampling_blocks.0.{_PRE}; give a run folder, or such a file."
        )
    return (*widths, int(bottleneck.shape[0]))


def generator_shapes(module: WaveUNet) -> Any:
    """Shapes of the variables of an unconditioned generator."""
    x = jax.ShapeDtypeStruct((1, module.num_samples), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), x)


def write_generator(path: Path | str, module: WaveUNet, variables: Mapping[str, Any]) -> None:
    """Write ``variables`` with the keys of the authors' state dict, as safetensors.

    Raises:
      UsageError: ``module`` is conditioned.
    """
    state = to_torch({"params": variables["params"]}, _generator_table(module))
    write_safetensors(state, path)


def _generator_table(module: WaveUNet) -> tuple[Entry, ...]:
    if module.num_classes is not None or module.condition_epsilon:
        raise UsageError(
            "the authors' generator knows neither target classes nor ε, so a conditioned one has "
            "no such weights; build it without num_classes and condition_epsilon."
        )
    return wave_unet_table(len(module.widths))
