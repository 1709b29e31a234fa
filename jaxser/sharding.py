"""The device mesh: one axis, "data", over which batches are split.

    mesh = make_mesh()
    batch = put_batch(batch, mesh)                       # rows split over the devices
    state = jax.device_put(state, replicated(mesh))      # the same on each

Axis types are Auto: with Explicit ones Linen's recurrent layers fail under ``jax.set_mesh``.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["batch_sharding", "make_mesh", "put_batch", "replicated"]

Tree = TypeVar("Tree")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices of all processes, or of the given ones, with the axis "data"."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Tree, mesh: Mesh) -> Tree:
    """Put this process' rows on its devices as its part of the global batch.

    Args:
      batch: pytree of host arrays ``[rows of this process, ...]``.
      mesh: from :func:`make_mesh`.

    Returns:
      Pytree of global arrays ``[rows of all processes, ...]``.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
