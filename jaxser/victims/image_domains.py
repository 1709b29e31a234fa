"""What an attacker may change of a victim that reads images, and what the change is as speech.

victim = in_image_domain(victim, model, "image")    # inputs [batch, size, size, 3] in [0, 1]
victim.front_end.measures(victim.variables, x, x_adv)["colour_distance"]       # [batch]

Nearly all images that an attack on pixels makes have colours which no spectrogram has, so that no
sound belongs to them. The rows say how far off they are, and how little of the change the nearest
image of a spectrogram keeps.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxser.config.ranges import Domain
from jaxser.models.image_front_end import WithImage
from jaxser.runtime.errors import UsageError
from jaxser.speech.colours import dead_share, nearest_level
from jaxser.victims.victim import FrontEnd, Victim

__all__ = ["IMAGE_MEASURES", "in_image_domain"]

# Columns of the row schema.
IMAGE_MEASURES = ("colour_distance", "decibel_change", "dead_gradients")


def in_image_domain(victim: Victim, model: WithImage, domain: Domain) -> Victim:
    """``victim``, whose module is ``model``, with the inputs and bounds of a domain."""
    method = "image" if domain == "image" else "spectrogram"
    front_end = FrontEnd(
        features=functools.partial(model.apply, method=method),  # type: ignore[arg-type]
        spectrogram=functools.partial(model.apply, method="decibels"),  # type: ignore[arg-type]
        speech=_no_speech,
        measures=functools.partial(_measures, model, domain),
    )
    victim = dataclasses.replace(victim, front_end=front_end)
    if domain == "waveform":
        return victim
    size = model.front_end.size
    return dataclasses.replace(
        victim,
        input_shape=(size, size, 3 if domain == "image" else 1),
        bounds=(0.0, 1.0),
    )


def _no_speech(variables: Any, features: Float[Array, "..."]) -> Float[np.ndarray, " samples"]:
    raise UsageError(
        "an image of a spectrogram is not turned back into speech; attack the waveform to listen "
        "to what fools this victim."
    )


def _measures(
    model: WithImage,
    domain: Domain,
    variables: Any,
    x: Float[Array, "batch ..."],
    x_adv: Float[Array, "batch ..."],
) -> dict[str, Float[Array, " batch"]]:
    """The columns that mean something in a domain.

    ``colour_distance`` is the mean distance of a pixel's colour to the nearest one of the colour
    map. ``decibel_change`` is the mean change of a cell, of the nearest spectrogram where the
    attack is on colours. ``dead_gradients`` is the share of cells whose colour does not change with
    their level, so that no gradient passes.
    """
    if domain == "waveform":
        levels = model.apply(variables, x, method="unclipped")
        return {"dead_gradients": dead_share(jnp.asarray(levels))}
    if domain == "spectrogram":
        before, after = x, x_adv
        found = {"dead_gradients": dead_share(x)}
    else:
        before, _ = nearest_level(x, model.front_end.colour_map)
        after, distance = nearest_level(x_adv, model.front_end.colour_map)
        found = {"colour_distance": distance.mean(axis=(1, 2))}
    change = [model.apply(variables, each, method="decibels") for each in (before, after)]
    difference = jnp.abs(jnp.asarray(change[1]) - jnp.asarray(change[0]))
    return {**found, "decibel_change": difference.reshape(len(x), -1).mean(axis=1)}
