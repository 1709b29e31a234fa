"""The attacked inputs as the devices read them: by their places.

inputs = Inputs(source, mesh)
x = inputs.at(np.array([3, 1]))                          # [2, ...], split over the devices

Where an accelerator has room for all of them they are sent once, and a batch costs the host its
places alone. Elsewhere a batch is gathered and sent while the devices are at work on another.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxser.driver.ahead_of_time import Program
from jaxser.driver.memory import free_bytes, power_of_two_from
from jaxser.driver.programs import per_device
from jaxser.driver.source import Source
from jaxser.runtime.sharding import batch_sharding, replicated

__all__ = ["Inputs"]

# Of a device's free memory, and of the host's, where they pass through.
_MEMORY_SHARE = 0.1
_MOST_BYTES = 8 * 2**30

# Inputs that are read and sent together.
_ROWS = 256


class Inputs:
    """Inputs of a run.

    Args:
      source: of them.
      mesh: the devices.
    """

    def __init__(self, source: Source, mesh: Mesh) -> None:
        self._source, self._mesh = source, mesh
        # So many that runs of other numbers of utterances share the program that reads them.
        self._rows = max(_ROWS, power_of_two_from(len(source)))
        shape = (self._rows, *source.input_shape)
        self._fit = 4 * int(np.prod(shape)) <= _room(mesh)

    def at(self, places: Int[np.ndarray, " rows"]) -> Float[Array, "rows ..."]:
        """The inputs at ``places``, on the devices; a multiple of these."""
        if not self._fit:
            return jax.device_put(self._source.batch(places), batch_sharding(self._mesh))
        taken = _take(self._mesh, self._rows, len(places), self._source.input_shape)
        places = jax.device_put(places.astype(np.int32), batch_sharding(self._mesh))
        found: Array = taken(self._all, places)
        return found

    @functools.cached_property
    def _all(self) -> Float[Array, "inputs ..."]:
        """All of them, on every device."""
        whole = np.zeros((self._rows, *self._source.input_shape), np.float32)
        for start in range(0, len(self._source), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self._source)))
            whole[rows] = self._source.batch(rows)
        return jax.device_put(whole, replicated(self._mesh))


def _room(mesh: Mesh) -> float:
    """Bytes that inputs may take on every device."""
    free = free_bytes(mesh)
    return 0 if free is None else min(_MEMORY_SHARE * free, _MOST_BYTES)


@functools.lru_cache(maxsize=32)
def _take(mesh: Mesh, inputs: int, rows: int, input_shape: tuple[int, ...]) -> Program:
    del inputs, rows, input_shape  # they are of the key alone

    def take(inputs: Any, places: Int[Array, " rows"]) -> Array:
        return jnp.take(inputs, places, axis=0, mode="clip")

    return Program(per_device(take, mesh, 1))
