"""Devices and processes: the mesh that batches are split over, and shares of work.

    mesh = make_mesh()
    batch = put_batch(batch, mesh)                       # rows split over the devices
    state = jax.device_put(state, replicated(mesh))      # the same on each

    share = join_processes("10.0.0.1:1234", processes=4, process=2)
    same_everywhere(share, "what process 0 has to say")
    leave_processes()
    mine = utterances[share.rows(len(utterances))]       # of all processes: each utterance once

Processes that share work out find each other by ``jax.distributed`` and leave it before a backend
is made. So each has a JAX of its own with its local devices, and none can harm or hold up another:
in one distributed JAX the end of a process ends all. Those that train together stay in it
(:mod:`jaxser.runtime.together`). The mesh has one axis, "data". Axis types are
Auto: with Explicit ones Linen's recurrent layers fail under ``jax.set_mesh``.
"""

import dataclasses
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from jaxser.runtime.errors import InputError, UsageError

__all__ = [
    "WHOLE",
    "Share",
    "batch_sharding",
    "join_processes",
    "leave_processes",
    "make_mesh",
    "on_cpus",
    "placed_like",
    "put_batch",
    "replicated",
    "same_everywhere",
    "told_by_first",
    "told_to_others",
    "wait_for_all",
]

Tree = TypeVar("Tree")

# How long processes wait for each other at the start: hosts of a cluster come up minutes apart.
_SECONDS_TO_JOIN = 300


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices of all processes, or of the given ones, with the axis "data"."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def on_cpus(mesh: Mesh) -> bool:
    """Whether the devices are those of a CPU."""
    return bool(mesh.devices.flat[0].platform == "cpu")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def placed_like(values: Tree, arrays: Tree) -> Tree:
    """``values`` where their ``arrays`` are, so that programs compiled for those take them too."""
    return jax.tree.map(lambda value, to: jax.device_put(value, to.sharding), values, arrays)


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


# --- several processes ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Share:
    """Every ``count``-th thing of a list, from the one at ``index``.

    It depends on the list alone and not on what is done already, so processes need not agree on
    that, and all ``count`` shares together are the list.
    """

    index: int
    count: int

    def rows(self, total: int) -> Int[np.ndarray, " rows"]:
        """Places in a list of ``total`` things."""
        return np.arange(self.index, total, self.count)


WHOLE = Share(0, 1)


def join_processes(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Share:
    """Find the other processes of a run by ``jax.distributed``; before any other use of JAX.

    Without arguments: those that SLURM, Open MPI, a Kubernetes Indexed Job or GKE's TPU pods have
    started together, as their environment says; just this one elsewhere.

    Args:
      coordinator: HOST:PORT of process 0; "auto" where JAX is to detect all three, as on a Cloud
        TPU pod.
      processes: how many there are; 1 looks for no others.
      process: which one this is, from 0.

    Returns:
      The share of the work that is this process'.

    Raises:
      UsageError: arguments that do not fit together, or nothing that JAX detects.
      InputError: nothing answers at ``coordinator``.
    """
    _check_processes(coordinator, processes, process)
    if processes == 1:
        return WHOLE
    if coordinator in (None, "auto"):
        if coordinator is None and not _started_together():
            return WHOLE
        _join_detected()
    else:
        assert coordinator is not None
        if process:
            _wait_for(coordinator)
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method="deactivate",
            initialization_timeout=_SECONDS_TO_JOIN,
        )
    state = _distributed_state()
    return Share(state.process_id, state.num_processes)


def same_everywhere(share: Share, text: str) -> str:
    """What process 0 gives, between joining and leaving; the others wait for it."""
    key = "jaxser/same_everywhere"
    if share.index == 0:
        told_to_others(key, text)
    return told_by_first(key, _SECONDS_TO_JOIN)


def told_to_others(key: str, text: str) -> None:
    """Tell the other processes something, once for each key."""
    _distributed_state().client.key_value_set(key, text)


def told_by_first(key: str, seconds: int) -> str:
    """What a process has told; waits for so long."""
    told: str = _distributed_state().client.blocking_key_value_get(key, 1000 * seconds)
    return told


def wait_for_all(name: str, seconds: int) -> None:
    """Until all processes have come to the place of that name."""
    _distributed_state().client.wait_at_barrier(name, 1000 * seconds)


def _distributed_state() -> Any:
    """What jax.distributed knows: ``client``, ``process_id`` and ``num_processes``.

    It makes none of them public but through a backend, which would bind the processes to each
    other. This is the only private name of JAX that is used.
    """
    from jax._src.distributed import global_state

    return global_state


def leave_processes() -> None:
    """Wait until all have come here; from here on no process knows of another."""
    jax.distributed.shutdown()
    # jax.distributed took it for itself, to tell of preemption, and leaves nobody to hear it;
    # Python knows nothing of that, and still has the handler from before.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _check_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator in (None, "auto"):
        if process is not None or processes not in (None, 1):
            raise UsageError(
                "--processes and --process go with --coordinator HOST:PORT; give all three, or "
                "none where JAX detects the processes."
            )
        return
    assert coordinator is not None
    if processes is None or process is None:
        raise UsageError(
            f"--coordinator {coordinator} needs --processes N and --process I; give all three."
        )
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UsageError(
            f"--coordinator must be HOST:PORT, such as 10.0.0.1:1234, not {coordinator}."
        )
    if processes < 1:
        raise UsageError(f"--processes must be at least 1, not {processes}.")
    if not 0 <= process < processes:
        raise UsageError(
            f"--process counts from 0, so {processes} processes end at {processes - 1}; "
            f"{process} is none of them."
        )


def _started_together() -> bool:
    """Whether the environment says that this process is one of several."""
    environment = os.environ
    counts = [environment.get("OMPI_COMM_WORLD_SIZE", "1")]
    if "SLURM_STEP_NODELIST" in environment:  # a batch script by itself has the count, too
        counts.append(environment.get("SLURM_NTASKS", "1"))
    return (
        any(count.isdecimal() and int(count) > 1 for count in counts)
        or ("KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment)
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    )


def _join_detected() -> None:
    try:
        jax.distributed.initialize(initialization_timeout=_SECONDS_TO_JOIN)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"JAX could not detect the processes ({' '.join(str(error).split())}); give "
            "--coordinator HOST:PORT --processes N --process I, or --processes 1 to run it alone."
        ) from None


def _wait_for(coordinator: str) -> None:
    """Until process 0 listens; JAX itself would end the process without an exception."""
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + _SECONDS_TO_JOIN
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise InputError(
                    f"process 0 does not answer at {coordinator} ({error}); start it there with "
                    "--process 0, or mend the address."
                ) from None
        time.sleep(0.5)
