"""Attributions of many inputs, in batches of one shape.

found = attributions(victim, x, classes, ("saliency", "gradcam"))
found.maps["saliency"]                      # [rows, *cells] float32, on the host
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxser.driver.ahead_of_time import Program
from jaxser.driver.arguments import checked_devices
from jaxser.driver.memory import choose_score_rows, in_fitting_batches, round_up
from jaxser.driver.programs import per_device
from jaxser.runtime.errors import UsageError, nearest_name
from jaxser.runtime.sharding import batch_sharding, make_mesh, replicated
from jaxser.victims.attributions import (
    GradCamCompat,
    cells,
    grad_cam_plus_plus,
    gradient_between,
    input_gradient,
    input_gradient_and_map,
    path,
    scaled_map,
)
from jaxser.victims.victim import Victim

__all__ = ["Attributions", "Method", "attributions", "check_methods", "has_feature_map"]

Method = Literal["saliency", "gradcam", "integrated"]


@dataclasses.dataclass(frozen=True)
class Attributions:
    """What parts of inputs do for the logit of a class.

    Attributes:
      maps: by method ``[rows, *cells]``: of samples of a waveform, or of cells of a picture.
        "saliency" is the magnitude of the gradient, "gradcam" lies in [0, 1], "integrated" has a
        sign, and its sum is the difference of two logits.
      differences: with "integrated": the class' logit less that of the baseline, ``[rows]``.
      sums: with "integrated": what the attributions add up to; how far it is from the difference
        says whether there were enough steps.
    """

    maps: dict[Method, Float[np.ndarray, "rows ..."]]
    differences: Float[np.ndarray, " rows"] | None = None
    sums: Float[np.ndarray, " rows"] | None = None


def has_feature_map(victim: Victim) -> bool:
    """Whether Grad-CAM++ has something to look at."""
    look = victim.feature_map
    one = jax.ShapeDtypeStruct((1, *victim.input_shape), jnp.float32)
    return look is not None and look.shape(victim.variables, one) is not None


def attributions(
    victim: Victim,
    x: Float[np.ndarray, "rows ..."],
    classes: Int[np.ndarray, " rows"],
    methods: Sequence[Method],
    *,
    baseline: Float[np.ndarray, "rows ..."] | None = None,
    steps: int = 32,
    compat: GradCamCompat | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    watch: Callable[[int], object] | None = None,
) -> Attributions:
    """What parts of inputs do for the logit of a class, by one or several methods.

    Saliency and Grad-CAM++ come from one pass forward and one back.

    Args:
      victim: with a feature map for "gradcam".
      x: inputs.
      classes: whose logits are explained.
      methods: of ``Method``.
      baseline: of "integrated": inputs that tell nothing, where its paths begin.
      steps: of "integrated": places on each path.
      compat: of "gradcam", see :func:`jaxser.victims.attributions.grad_cam_plus_plus`.
      batch_size: rows of a batch over all devices, by the devices by default.
      devices: to run on; all local ones by default.
      watch: is called with the number of rows that are done, after every batch; it begins again
        where memory ended and batches become smaller.

    Raises:
      UsageError: an unknown method, one that the victim does not admit, or no baseline.
      InputError: no memory for a single row.
    """
    check_methods(victim, methods)
    if "integrated" in methods and baseline is None:
        raise UsageError("integrated gradients need a baseline; give one for every input.")
    mesh = make_mesh(checked_devices(devices))
    size = choose_score_rows(len(x), mesh) if batch_size is None else round_up(batch_size, mesh)
    run = functools.partial(
        _in_batches, victim, x, classes, methods, baseline, steps, compat, watch, mesh
    )
    return in_fitting_batches(run, size, mesh)


def check_methods(victim: Victim, methods: Sequence[str]) -> None:
    """Refuse methods that are unknown, or that a victim does not admit.

    Raises:
      UsageError: see the message.
    """
    for method in methods:
        if method not in get_args(Method):
            raise UsageError(
                f"there is no explanation {method!r}; {nearest_name(method, get_args(Method))}"
            )
    if victim.randomised:
        raise UsageError(
            f"{victim.name} is randomised: its gradients are those of one draw of its noise; "
            "explain the victim without its noise."
        )
    if "gradcam" in methods and not has_feature_map(victim):
        why = "reads waveforms" if victim.feature_map is None else "marks no feature map"
        raise UsageError(
            f"Grad-CAM++ looks at the last feature map of a spectrogram or an image, and "
            f"{victim.name} {why}; use saliency or integrated."
        )


def _in_batches(
    victim: Victim,
    x: Float[np.ndarray, "rows ..."],
    classes: Int[np.ndarray, " rows"],
    methods: Sequence[Method],
    baseline: Float[np.ndarray, "rows ..."] | None,
    steps: int,
    compat: GradCamCompat | None,
    watch: Callable[[int], object] | None,
    mesh: Mesh,
    size: int,
) -> Attributions:
    variables = jax.device_put(victim.variables, replicated(mesh))
    at_once = tuple(method for method in methods if method != "integrated")
    look = _look_program(victim, at_once, compat, mesh, size)
    walk = _step_program(victim, mesh, size)
    maps: dict[Method, list[np.ndarray]] = {method: [] for method in methods}
    ends: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    for start in range(0, len(x), size):
        rows = np.resize(np.arange(start, min(start + size, len(x))), size)
        put = functools.partial(jax.device_put, device=batch_sharding(mesh))
        inputs = put(np.asarray(x[rows], np.float32))
        # Of a row without a prediction nothing is defined, whatever class is taken.
        chosen = put(np.maximum(classes[rows], 0).astype(np.int32))
        if at_once:
            for method, found in look(variables, inputs, chosen).items():
                maps[method].append(np.asarray(found))
        if "integrated" in methods:
            assert baseline is not None
            begin = put(np.asarray(baseline[rows], np.float32))
            total, difference = _walked(walk, variables, inputs, begin, chosen, steps)
            # In float64: a picture has 150,000 cells.
            attribution = np.asarray(total, np.float64) * (x[rows] - baseline[rows])
            sums.append(attribution.reshape(size, -1).sum(axis=1))
            ends.append(difference)
            maps["integrated"].append(np.asarray(cells(attribution, signed=True), np.float32))
        if watch is not None:
            watch(min(start + size, len(x)))
    count = len(x)
    whole = {method: np.concatenate(each)[:count] for method, each in maps.items()}
    if "integrated" not in methods:
        return Attributions(whole)
    return Attributions(whole, np.concatenate(ends)[:count], np.concatenate(sums)[:count])


# Kept, as clean and attacked inputs are looked at one after the other.
@functools.lru_cache(maxsize=4)
def _look_program(
    victim: Victim,
    methods: tuple[Method, ...],
    compat: GradCamCompat | None,
    mesh: Mesh,
    size: int,
) -> Program:
    """For batches of one size."""
    return Program(per_device(functools.partial(_look, victim, methods, compat), mesh, shared=1))


@functools.lru_cache(maxsize=4)
def _step_program(victim: Victim, mesh: Mesh, size: int) -> Program:
    """For batches of one size."""
    return Program(per_device(functools.partial(_step, victim), mesh, shared=3), donate=(6,))


def _look(
    victim: Victim,
    methods: Sequence[Method],
    compat: GradCamCompat | None,
    variables: Any,
    x: Float[Array, "batch ..."],
    classes: Int[Array, " batch"],
) -> dict[Method, Array]:
    if "gradcam" not in methods:
        gradient = input_gradient(victim, variables, x, classes)[1]
        return {"saliency": cells(gradient, signed=False)}
    _, gradient, maps, by_map = input_gradient_and_map(victim, variables, x, classes)
    look = victim.feature_map
    assert look is not None
    made = scaled_map(grad_cam_plus_plus(maps, by_map, compat), look.covered, compat)
    short = [(0, all_of - some) for all_of, some in zip(look.picture, look.covered, strict=True)]
    found: dict[Method, Array] = {"gradcam": jnp.pad(made, ((0, 0), *short))}
    if "saliency" in methods:
        found["saliency"] = cells(gradient, signed=False)
    return found


def _step(
    victim: Victim,
    variables: Any,
    place: Float[Array, ""],
    weight: Float[Array, ""],
    x: Float[Array, "batch ..."],
    baseline: Float[Array, "batch ..."],
    classes: Int[Array, " batch"],
    total: Float[Array, "batch ..."],
) -> tuple[Float[Array, "batch ..."], Float[Array, " batch"]]:
    logit, gradient = gradient_between(victim, variables, x, baseline, place, classes)
    return total + weight * gradient, logit


def _walked(
    walk: Program,
    variables: Any,
    x: Float[Array, "batch ..."],
    baseline: Float[Array, "batch ..."],
    classes: Int[Array, " batch"],
    steps: int,
) -> tuple[Float[Array, "batch ..."], Float[np.ndarray, " batch"]]:
    """The mean gradient along the path, and the difference of the logits at its ends."""
    places, weights = path(steps)
    total, logits = jnp.zeros_like(x), []
    # The ends weigh nothing: only their logits are asked for. The host steps, as gradients of
    # convolutions in loops are slow on a CPU, and an accelerator has no step to wait for.
    for place, weight in zip((0.0, *places, 1.0), (0.0, *weights, 0.0), strict=True):
        scalars = np.float32(place), np.float32(weight)
        total, logit = walk(variables, *scalars, x, baseline, classes, total)
        logits.append(logit)
    return total, np.asarray(logits[-1]) - np.asarray(logits[0])
